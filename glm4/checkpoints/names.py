"""Which tensor of a checkpoint goes where in our modules: one table a layout, read in both directions.

A row is (their name, our name, part). `{}` stands for the layer's number. `part` is None where the tensors are equal,
or which rows of our fused projection theirs are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..models.glm import GLMConfig

Part = Literal["q", "k", "v"] | None

_BLOCK = "transformer.encoder.layers.{}"
_THUDM: list[tuple[str, str, Part]] = [
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
_HF: list[tuple[str, str, Part]] = [
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
TABLES = {"thudm": _THUDM, "hf": _HF}

# Tensors that checkpoints carry and nobody needs: the original saves its rotary frequencies, which follow from the
# configuration.
HARMLESS_TENSORS = re.compile(r"transformer\.rotary_pos_emb\.inv_freq|model\.rotary_emb\.inv_freq")


@dataclass(frozen=True)
class Place:
    """One tensor of a checkpoint and the rows of ours that it fills."""

    theirs: str
    ours: str
    rows: slice | None  # None: all of it


def places(layout: str, config: GLMConfig) -> Iterator[Place]:
    """Every tensor that a checkpoint of this layout and configuration must hold, exactly once."""
    q_rows, kv_rows = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    rows_of: dict[Part, slice | None] = {
        None: None,
        "q": slice(0, q_rows),
        "k": slice(q_rows, q_rows + kv_rows),
        "v": slice(q_rows + kv_rows, q_rows + 2 * kv_rows),
    }
    for theirs, ours, part in TABLES[layout]:
        if ours.endswith("qkv_proj.bias") and not config.qkv_bias:
            continue
        for layer in range(config.n_layers) if "{}" in theirs else range(1):
            yield Place(theirs.format(layer), ours.format(layer), rows_of[part])
