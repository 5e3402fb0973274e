"""GLM-4's text models on disk, in two layouts:

- "thudm": the original one (`model_type: chatglm`);
- "hf": transformers' native one, as 4.46 wrote it (rope_theta) and as 5.x writes it (rope_parameters): `glm` for the
  same weights, `glm4` for GLM-4-0414 and GLM-Z1, which exist in no other layout.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

from ..errors import ConfigError
from ..models.glm import GLM, GLMConfig
from .facts import Facts
from .family import Family, Place


def read_thudm(facts: Facts) -> GLMConfig:
    """The decoder's facts in the original layout, GLM-4V's text half included."""
    for key, expected in (
        ("rmsnorm", True),
        ("post_layer_norm", True),  # here: a norm after the last block
        ("apply_residual_connection_post_layernorm", False),
        ("add_bias_linear", False),
        ("original_rope", True),
    ):
        facts.require(key, expected)
    facts.require("fp32_residual_connection", False, default=False)
    facts.refuse("pre_seq_len", "prefix_projection", "quantization_bit")
    facts.require("tie_word_embeddings", False, default=False)
    n_layers = facts.layers("num_layers")
    facts.require("num_hidden_layers", n_layers, default=n_layers)  # later revisions say it twice
    n_heads, head_dim = facts.get("num_attention_heads", int), facts.get("kv_channels", int)
    grouped = facts.get("multi_query_attention", bool)
    return _checked(
        facts,
        "multi_query_group_num",
        GLMConfig(
            vocab_size=facts.get("padded_vocab_size", int),
            hidden_size=facts.get("hidden_size", int),
            ffn_size=facts.get("ffn_hidden_size", int),
            n_layers=n_layers,
            n_heads=n_heads,
            n_kv_heads=facts.get("multi_query_group_num", int) if grouped else n_heads,
            head_dim=head_dim,
            rotary_dim=head_dim // 2,
            rope_theta=10000.0 * facts.get("rope_ratio", float, default=1.0),  # GLM-4-9B's file has no rope_ratio
            norm_eps=facts.get("layernorm_epsilon", float),
            qkv_bias=facts.get("add_qkv_bias", bool),
            sandwich_norms=False,
            max_positions=facts.get("seq_length", int),
        ),
    )


def read_hf(facts: Facts) -> GLMConfig:
    """transformers' GlmForCausalLM."""
    return _read_hf(facts, sandwich_norms=False)


def read_hf_0414(facts: Facts) -> GLMConfig:
    """transformers' Glm4ForCausalLM: GLM-4-0414 and GLM-Z1."""
    return _read_hf(facts, sandwich_norms=True)


def _read_hf(facts: Facts, sandwich_norms: bool) -> GLMConfig:
    facts.require("hidden_act", "silu")
    facts.require("tie_word_embeddings", False, default=False)
    theta, rotary_share = _hf_rope(facts)
    head_dim = facts.get("head_dim", int)
    return _checked(
        facts,
        "num_key_value_heads",
        GLMConfig(
            vocab_size=facts.get("vocab_size", int),
            hidden_size=facts.get("hidden_size", int),
            ffn_size=facts.get("intermediate_size", int),
            n_layers=facts.layers("num_hidden_layers"),
            n_heads=facts.get("num_attention_heads", int),
            n_kv_heads=facts.get("num_key_value_heads", int),
            head_dim=head_dim,
            rotary_dim=int(head_dim * rotary_share),
            rope_theta=theta,
            norm_eps=facts.get("rms_norm_eps", float),
            qkv_bias=facts.get("attention_bias", bool),
            sandwich_norms=sandwich_norms,
            max_positions=facts.get("max_position_embeddings", int),
        ),
    )


def _checked(facts: Facts, groups_key: str, config: GLMConfig) -> GLMConfig:
    """Insist that the numbers fit each other."""
    if not 0 < config.rope_theta < math.inf:
        raise ConfigError(f"{facts.path}: rope_theta is {config.rope_theta}, it must be a finite number above 0")
    if config.n_heads % config.n_kv_heads:
        raise ConfigError(
            f"{facts.path}: {groups_key} is {config.n_kv_heads}, which {config.n_heads} heads cannot share evenly"
        )
    if config.rotary_dim % 2 or not 0 < config.rotary_dim <= config.head_dim:
        raise ConfigError(
            f"{facts.path}: {config.rotary_dim} rotating dimensions do not fit heads of {config.head_dim}"
        )
    return config


def _hf_rope(facts: Facts) -> tuple[float, float]:
    """(theta, rotating share of a head). transformers 5 nests both in rope_parameters; 4.46 often left out the share,
    which its model code then took as one half."""
    facts.asked |= {"rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor"}
    nested = facts.raw.get("rope_parameters")
    facts.refuse("rope_ratio")  # of the original layout: beside a rope_theta there is no telling which holds
    scaling = facts.raw.get("rope_scaling")
    if scaling is not None and scaling != {"rope_type": "default"}:
        raise ConfigError(f"{facts.path}: rope_scaling is {scaling!r}; no scaling is implemented")
    if nested is None:
        return facts.get("rope_theta", float), facts.get("partial_rotary_factor", float, default=0.5)
    if not isinstance(nested, dict):
        raise ConfigError(f"{facts.path}: rope_parameters is {nested!r}, expected an object")
    inner = Facts(facts.path, nested)
    inner.require("rope_type", "default", default="default")
    outer_share = facts.get("partial_rotary_factor", float, default=0.5)
    return inner.get("rope_theta", float), inner.get("partial_rotary_factor", float, default=outer_share)


# Names ---------------------------------------------------------------------------------------------------------------

# (their name, our name, part). `{}` stands for the layer's number. The part is None where the tensors are equal, or
# which rows of our fused projection theirs are.
Part = Literal["q", "k", "v"] | None
Row = tuple[str, str, Part]

_BLOCK = "transformer.encoder.layers.{}"
_THUDM: list[Row] = [
    ("transformer.embedding.word_embeddings.weight", "embed_tokens.weight", None),
    (_BLOCK + ".input_layernorm.weight", "layers.{}.input_layernorm.weight", None),
    (_BLOCK + ".self_attention.query_key_value.weight", "layers.{}.self_attn.qkv_proj.weight", None),
    (_BLOCK + ".self_attention.query_key_value.bias", "layers.{}.self_attn.qkv_proj.bias", None),
    (_BLOCK + ".self_attention.dense.weight", "layers.{}.self_attn.o_proj.weight", None),
    (_BLOCK + ".post_attention_layernorm.weight", "layers.{}.post_attention_layernorm.weight", None),
    (_BLOCK + ".mlp.dense_h_to_4h.weight", "layers.{}.mlp.gate_up_proj.weight", None),
    (_BLOCK + ".mlp.dense_4h_to_h.weight", "layers.{}.mlp.down_proj.weight", None),
    ("transformer.encoder.final_layernorm.weight", "norm.weight", None),
    ("transformer.output_layer.weight", "lm_head.weight", None),
]
_HF: list[Row] = [
    ("model.embed_tokens.weight", "embed_tokens.weight", None),
    ("model.layers.{}.input_layernorm.weight", "layers.{}.input_layernorm.weight", None),
    ("model.layers.{}.self_attn.q_proj.weight", "layers.{}.self_attn.qkv_proj.weight", "q"),
    ("model.layers.{}.self_attn.k_proj.weight", "layers.{}.self_attn.qkv_proj.weight", "k"),
    ("model.layers.{}.self_attn.v_proj.weight", "layers.{}.self_attn.qkv_proj.weight", "v"),
    ("model.layers.{}.self_attn.q_proj.bias", "layers.{}.self_attn.qkv_proj.bias", "q"),
    ("model.layers.{}.self_attn.k_proj.bias", "layers.{}.self_attn.qkv_proj.bias", "k"),
    ("model.layers.{}.self_attn.v_proj.bias", "layers.{}.self_attn.qkv_proj.bias", "v"),
    ("model.layers.{}.self_attn.o_proj.weight", "layers.{}.self_attn.o_proj.weight", None),
    ("model.layers.{}.post_attention_layernorm.weight", "layers.{}.post_attention_layernorm.weight", None),
    ("model.layers.{}.mlp.gate_up_proj.weight", "layers.{}.mlp.gate_up_proj.weight", None),
    ("model.layers.{}.mlp.down_proj.weight", "layers.{}.mlp.down_proj.weight", None),
    ("model.norm.weight", "norm.weight", None),
    ("lm_head.weight", "lm_head.weight", None),
]
_HF_0414: list[Row] = [
    ("model.layers.{}.post_self_attn_layernorm.weight", "layers.{}.post_self_attn_layernorm.weight", None),
    ("model.layers.{}.post_mlp_layernorm.weight", "layers.{}.post_mlp_layernorm.weight", None),
    *_HF,
]

# Tensors that checkpoints carry and nobody needs: the original saves its rotary frequencies, which follow from the
# configuration.
_HARMLESS = re.compile(r"transformer\.rotary_pos_emb\.inv_freq|model\.rotary_emb\.inv_freq")


def places_of(table: list[Row], config: GLMConfig) -> Iterator[Place]:
    """A table's rows for every layer; those of biases only where the model has them."""
    q_rows, kv_rows = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    rows_of: dict[Part, slice | None] = {
        None: None,
        "q": slice(0, q_rows),
        "k": slice(q_rows, q_rows + kv_rows),
        "v": slice(q_rows + kv_rows, q_rows + 2 * kv_rows),
    }
    for theirs, ours, part in table:
        if ours.endswith("qkv_proj.bias") and not config.qkv_bias:
            continue
        for layer in range(config.n_layers) if "{}" in theirs else range(1):
            yield Place(theirs.format(layer), ours.format(layer), rows_of[part])


def harmless(config: Any, name: str) -> bool:
    """Whether a checkpoint may hold this tensor for nothing."""
    return _HARMLESS.fullmatch(name) is not None


# Writing -------------------------------------------------------------------------------------------------------------


def write_thudm(config: GLMConfig) -> dict[str, Any]:
    """config.json of the original layout."""
    return {
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "add_bias_linear": False,
        "add_qkv_bias": config.qkv_bias,
        "apply_residual_connection_post_layernorm": False,
        "ffn_hidden_size": config.ffn_size,
        "hidden_size": config.hidden_size,
        "kv_channels": config.head_dim,
        "layernorm_epsilon": config.norm_eps,
        "multi_query_attention": True,
        "multi_query_group_num": config.n_kv_heads,
        "num_attention_heads": config.n_heads,
        "num_hidden_layers": config.n_layers,
        "num_layers": config.n_layers,
        "original_rope": True,
        "padded_vocab_size": config.vocab_size,
        "post_layer_norm": True,
        "rmsnorm": True,
        "rope_ratio": config.rope_theta / 10000.0,
        "seq_length": config.max_positions,
        "tie_word_embeddings": False,
    }


def write_hf(config: GLMConfig) -> dict[str, Any]:
    """config.json that transformers 4 and 5 read alike."""
    return {
        "model_type": "glm4" if config.sandwich_norms else "glm",
        "architectures": ["Glm4ForCausalLM" if config.sandwich_norms else "GlmForCausalLM"],
        "attention_bias": config.qkv_bias,
        "eos_token_id": None,  # stated, as transformers would otherwise take GLM-4-9B's ids, whatever the vocabulary
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.ffn_size,
        "max_position_embeddings": config.max_positions,
        "num_attention_heads": config.n_heads,
        "num_hidden_layers": config.n_layers,
        "num_key_value_heads": config.n_kv_heads,
        "pad_token_id": None,
        "partial_rotary_factor": config.rotary_dim / config.head_dim,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,  # read by transformers 4 and 5 alike
        "tie_word_embeddings": False,
        "vocab_size": config.vocab_size,
    }


THUDM = Family("thudm", read_thudm, GLM, partial(places_of, _THUDM), harmless, write_thudm)
HF = Family("hf", read_hf, GLM, partial(places_of, _HF), harmless, write_hf)
HF_0414 = Family("hf", read_hf_0414, GLM, partial(places_of, _HF_0414), harmless, write_hf)
