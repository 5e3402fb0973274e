"""config.json -> which family, which layout, and every fact of its architecture.

The two layouts of the same weights:

- "thudm": the original one (`model_type: chatglm`). ChatGLM-6B carries the same model_type; it is told apart by its own
  keys, never by the folder's name.
- "hf": transformers' native one (`model_type: glm`), as 4.46 wrote it (rope_theta) and as 5.x writes it
  (rope_parameters).
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import CheckpointError, ConfigError
from ..jsonfile import read_json
from ..models.glm import GLMConfig

Layout = Literal["thudm", "hf"]


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint folder says it is."""

    layout: Layout
    config: GLMConfig
    dtype: str | None  # as the weights were saved, such as "bfloat16"; None when the file does not say
    raw: Mapping[str, Any]  # config.json itself


def read_architecture(folder: Path) -> Architecture:
    """Read a checkpoint folder's config.json.

    Raises:
        CheckpointError: there is none.
        ConfigError: an unknown family, a missing fact, or a value this library cannot honour.

    Warns:
        UserWarning: a key that is neither used nor known to be harmless, by name.
    """
    path = folder / "config.json"
    if not path.exists() and (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{folder} holds a LoRA adapter, not a model: there is no config.json beside its adapter_config.json; "
            "merge it into its base model, and load the result"
        )
    raw = read_json(path)
    model_type = raw.get("model_type")
    if raw.get("vision_config") is not None:
        raise ConfigError(f"{path}: the checkpoint has a vision tower (vision_config); only text models are supported")
    if raw.get("quantization_config") is not None:
        method = raw["quantization_config"]
        method = method.get("quant_method", method) if isinstance(method, dict) else method
        raise ConfigError(
            f"{path}: the weights are quantized ({method!r}), which is not supported; load the unquantized checkpoint"
        )
    if model_type == "chatglm" and "position_encoding_2d" not in raw and "inner_hidden_size" not in raw:
        layout, config, known = _from_thudm(_Facts(path, raw))
    elif model_type == "glm":
        layout, config, known = _from_hf(_Facts(path, raw))
    else:
        what = "ChatGLM-6B" if model_type == "chatglm" else f"model_type {model_type!r}"
        raise ConfigError(
            f"{path}: {what} is not supported. Supported: GLM-4-9B, -Chat and -Chat-1M in their original layout "
            '(model_type "chatglm") and in transformers\' (model_type "glm")'
        )
    unknown = sorted(set(raw) - known - HARMLESS)
    if unknown:
        warnings.warn(f"{path}: ignored keys this library does not know: {', '.join(unknown)}", stacklevel=2)
    if config.n_layers > MOST_LAYERS:
        keys = " and ".join(key for key in ("num_layers", "num_hidden_layers") if key in raw)
        raise ConfigError(f"{path}: {keys} is {config.n_layers}, more than the {MOST_LAYERS} this library builds")
    if not 0 < config.rope_theta < math.inf:
        raise ConfigError(f"{path}: rope_theta is {config.rope_theta}, it must be a finite number above 0")
    if config.n_heads % config.n_kv_heads:
        key = "multi_query_group_num" if layout == "thudm" else "num_key_value_heads"
        raise ConfigError(f"{path}: {key} is {config.n_kv_heads}, which {config.n_heads} heads cannot share evenly")
    if config.rotary_dim % 2 or not 0 < config.rotary_dim <= config.head_dim:
        raise ConfigError(f"{path}: {config.rotary_dim} rotating dimensions do not fit heads of {config.head_dim}")
    dtype = raw.get("torch_dtype", raw.get("dtype"))
    return Architecture(layout, config, dtype if isinstance(dtype, str) else None, raw)


LARGEST: dict[type, float] = {int: 2**31 - 1, float: sys.float_info.max}
MOST_LAYERS = 1000  # the family has 40; building a model of a billion would take for ever before any check could fail


class _Facts:
    """A config.json that is asked for facts by name and type, and says so when it lacks one."""

    def __init__(self, path: Path, raw: Mapping[str, Any]) -> None:
        self.path, self.raw = path, raw
        self.asked: set[str] = set()

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """The value of `key`, which must be of `kind`, and positive; raises if absent and no default is given."""
        self.asked.add(key)
        if key not in self.raw or (self.raw[key] is None and default is not None):
            if default is None:
                raise ConfigError(
                    f"{self.path}: the key {key!r} is missing, and the model cannot be built without it; "
                    "restore the file that came with the checkpoint"
                )
            return default
        value = self.raw[key]
        accepted = (int, float) if kind is float else (kind,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError(f"{self.path}: {key} is {value!r}, expected {kind.__name__}")
        most = LARGEST.get(kind)
        if most is not None and not 0 < self.raw[key] <= most:  # refuses NaN too
            raise ConfigError(f"{self.path}: {key} is {value!r}, expected {kind.__name__} above 0, at most {most:g}")
        return kind(value)

    def refuse(self, *keys: str) -> None:
        """Insist that keys are absent, null, zero or false: what they switch on is not implemented."""
        for key in keys:
            self.asked.add(key)
            if self.raw.get(key):
                raise ConfigError(f"{self.path}: {key} is {self.raw[key]!r}; only a checkpoint without it is supported")

    def require(self, key: str, expected: Any, default: Any = None) -> None:
        """Insist on the one value of `key` that this forward pass implements."""
        value = self.get(key, type(expected), default)
        if value != expected:
            raise ConfigError(f"{self.path}: {key} is {value!r}; only {expected!r} is implemented")


def _from_thudm(facts: _Facts) -> tuple[Layout, GLMConfig, set[str]]:
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
    n_layers = facts.get("num_layers", int)
    facts.require("num_hidden_layers", n_layers, default=n_layers)  # later revisions say it twice
    n_heads, head_dim = facts.get("num_attention_heads", int), facts.get("kv_channels", int)
    grouped = facts.get("multi_query_attention", bool)
    config = GLMConfig(
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
        max_positions=facts.get("seq_length", int),
    )
    return "thudm", config, facts.asked


def _from_hf(facts: _Facts) -> tuple[Layout, GLMConfig, set[str]]:
    facts.require("hidden_act", "silu")
    facts.require("tie_word_embeddings", False, default=False)
    theta, rotary_share = _hf_rope(facts)
    head_dim = facts.get("head_dim", int)
    config = GLMConfig(
        vocab_size=facts.get("vocab_size", int),
        hidden_size=facts.get("hidden_size", int),
        ffn_size=facts.get("intermediate_size", int),
        n_layers=facts.get("num_hidden_layers", int),
        n_heads=facts.get("num_attention_heads", int),
        n_kv_heads=facts.get("num_key_value_heads", int),
        head_dim=head_dim,
        rotary_dim=int(head_dim * rotary_share),
        rope_theta=theta,
        norm_eps=facts.get("rms_norm_eps", float),
        qkv_bias=facts.get("attention_bias", bool),
        max_positions=facts.get("max_position_embeddings", int),
    )
    return "hf", config, facts.asked


def _hf_rope(facts: _Facts) -> tuple[float, float]:
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
    inner = _Facts(facts.path, nested)
    inner.require("rope_type", "default", default="default")
    outer_share = facts.get("partial_rotary_factor", float, default=0.5)
    return inner.get("rope_theta", float), inner.get("partial_rotary_factor", float, default=outer_share)


# Keys that change nothing in what this library computes: bookkeeping, dropout (training only), performance switches
# of the original code, and the two that cancel out mathematically (attention scores are divided by the layer number
# and multiplied by it again).
HARMLESS = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _name_or_path apply_query_key_layer_scaling architectures
    attention_dropout attention_softmax_in_fp32 attn_implementation auto_map bias_dropout_fusion bos_token_id
    chunk_size_feed_forward classifier_dropout dtype eos_token_id hidden_dropout id2label initializer_range
    is_decoder is_encoder_decoder kv_cache_quantization label2id max_length model_type multi_query_group_num
    num_hidden_layers num_layers output_attentions output_hidden_states pad_token_id problem_type pruned_heads
    return_dict tf_legacy_loss torch_dtype torchscript transformers_version unsloth_version use_bfloat16 use_cache
    vocab_size
    """.split()
)
