"""ChatGLM-6B on disk: version 1.1 and the first release, float16 or with packed linear layers.

One table serves as embedding and head. The published float16 shards hold it twice, the packed files once, under either
name. The rotary frequencies that every layer carries are not read: they follow from the configuration.

The original's embedding and linear layers are float16 from the moment they are built, so that a checkpoint in a finer
dtype is rounded when it is read; its norms are not. For the published files it makes no difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch

from ..errors import ConfigError
from ..models.chatglm6b import ChatGLM6B, ChatGLM6BConfig
from ..quant import BITS, pack_linears
from .facts import Facts
from .family import Family, Place

_BLOCK = "transformer.layers.{}"
_LINEAR = {
    ".attention.query_key_value": ".self_attn.qkv_proj",
    ".attention.dense": ".self_attn.o_proj",
    ".mlp.dense_h_to_4h": ".mlp.up_proj",
    ".mlp.dense_4h_to_h": ".mlp.down_proj",
}
# What the original's class takes for ids that config.json lacks: the first release's, whose file lacked some.
_FIRST_RELEASE = {"bos_token_id": 150004, "mask_token_id": 150000, "gmask_token_id": 150001}
_HARMLESS = re.compile(r"transformer\.layers\.\d+\.attention\.rotary_emb\.inv_freq|lm_head\.weight")


def read(facts: Facts) -> ChatGLM6BConfig:
    """config.json's facts. Raises ConfigError."""
    facts.require("position_encoding_2d", True)
    # P-tuning v2: keys and values in front of every layer's own, which the cache could be begun with.
    facts.refuse("pre_seq_len", "prefix_projection", "quantization_embeddings")
    facts.require("tie_word_embeddings", True, default=True)  # as the original's class has it, whatever the file holds
    n_layers = facts.layers("num_layers")
    facts.require("num_hidden_layers", n_layers, default=n_layers)
    hidden_size, n_heads = facts.get("hidden_size", int), facts.get("num_attention_heads", int)
    if hidden_size % n_heads or hidden_size // n_heads % 4:
        raise ConfigError(
            f"{facts.path}: hidden_size is {hidden_size}, which does not part into {n_heads} heads "
            "(num_attention_heads) of a multiple of 4: each half of a head rotates in pairs"
        )
    vocab_size = facts.get("vocab_size", int)
    ids = {key: _token_id(facts, key, vocab_size) for key in _FIRST_RELEASE}
    return ChatGLM6BConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        ffn_size=facts.get("inner_hidden_size", int),
        n_layers=n_layers,
        n_heads=n_heads,
        norm_eps=facts.get("layernorm_epsilon", float),
        rope_theta=10000.0,
        max_positions=facts.get("max_sequence_length", int),
        begin_id=ids["bos_token_id"],
        mask_id=ids["mask_token_id"],
        gmask_id=ids["gmask_token_id"],
        weight_bits=_weight_bits(facts),
    )


def _token_id(facts: Facts, key: str, vocab_size: int) -> int:
    default = _FIRST_RELEASE[key] if _FIRST_RELEASE[key] < vocab_size else None
    token_id: int = facts.get(key, int, default)
    if token_id >= vocab_size:
        raise ConfigError(f"{facts.path}: {key} is {token_id}; ids are from 0 to {vocab_size - 1} (vocab_size)")
    return token_id


def _weight_bits(facts: Facts) -> int:
    facts.asked.add("quantization_bit")
    bits = facts.raw.get("quantization_bit") or 0  # the original's default, and what it writes for "not"
    if isinstance(bits, bool) or bits not in (0, *BITS):
        raise ConfigError(f"{facts.path}: quantization_bit is {bits!r}; only 4, 8, and 0 for none, are supported")
    return int(bits)


def build(config: ChatGLM6BConfig) -> ChatGLM6B:
    """The model, its linear layers packed if the checkpoint's are."""
    model = ChatGLM6B(config)
    if config.weight_bits:
        pack_linears(model, config.weight_bits)
    return model


def places(config: ChatGLM6BConfig) -> Iterator[Place]:
    """Every tensor that a checkpoint of this configuration must hold."""
    half = torch.float16
    yield Place("transformer.word_embeddings.weight", "embed_tokens.weight", None, ("lm_head.weight",), half)
    for index in range(config.n_layers):
        theirs, ours = _BLOCK.format(index), f"layers.{index}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            for tensor in ("weight", "bias"):
                yield Place(f"{theirs}.{norm}.{tensor}", f"{ours}.{norm}.{tensor}")
        for their_name, our_name in _LINEAR.items():
            for tensor in ("weight", "weight_scale", "bias") if config.weight_bits else ("weight", "bias"):
                yield Place(f"{theirs}{their_name}.{tensor}", f"{ours}{our_name}.{tensor}", through=half)
    for tensor in ("weight", "bias"):
        yield Place(f"transformer.final_layernorm.{tensor}", f"norm.{tensor}")


def _harmless(config: ChatGLM6BConfig, name: str) -> bool:
    return _HARMLESS.fullmatch(name) is not None


# The defaults of the original's chat(), and the top_k of the transformers of its time.
_GENERATION = {"do_sample": True, "temperature": 0.95, "top_p": 0.7, "top_k": 50}

CHATGLM_6B = Family("chatglm-6b", read, build, places, _harmless, generation=_GENERATION)
