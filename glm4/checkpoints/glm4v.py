"""GLM-4V-9B on disk, in its original layout: the text model's tensors, and the tower's under transformer.vision."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from ..errors import ConfigError
from ..models.eva_clip import EVAConfig
from ..models.glm import GLMConfig
from ..models.glm4v import GLM4V, GLM4VConfig
from . import glm
from .facts import Facts
from .family import Family, Place

_HARMLESS_INSIDE = frozenset({"dropout_prob"})  # training only


def read(facts: Facts) -> GLM4VConfig:
    """The decoder's facts, and what `vision_config` says of the tower."""
    text = glm.read_thudm(facts)
    boi, eoi = facts.get("boi_token_id", int), facts.get("eoi_token_id", int)
    if boi == eoi or max(boi, eoi) >= text.vocab_size:
        raise ConfigError(
            f"{facts.path}: boi_token_id {boi} and eoi_token_id {eoi} must be two of {text.vocab_size} ids"
        )
    decoder = {field.name: getattr(text, field.name) for field in fields(GLMConfig)}
    return GLM4VConfig(**decoder, vision=_read_tower(facts, text), boi_token_id=boi, eoi_token_id=eoi)


def _read_tower(outer: Facts, text: GLMConfig) -> EVAConfig:
    facts = outer.inside("vision_config")
    facts.require("hidden_act", "gelu")
    facts.require("in_channels", 3)
    config = EVAConfig(
        image_size=facts.picture_size("image_size"),
        patch_size=facts.get("patch_size", int),
        hidden_size=facts.get("hidden_size", int),
        ffn_size=facts.get("intermediate_size", int),
        n_layers=facts.layers("num_hidden_layers"),
        n_heads=facts.get("num_heads", int),
        norm_eps=facts.get("layer_norm_eps", float),
        scaling_factor=facts.get("scaling_factor", float),
        out_size=text.hidden_size,
        out_ffn_size=text.ffn_size,
    )
    if config.hidden_size % config.n_heads:
        raise ConfigError(
            f"{facts.path}: vision_config: hidden_size {config.hidden_size} is not a multiple of num_heads "
            f"{config.n_heads}"
        )
    if config.grid < 2:
        raise ConfigError(
            f"{facts.path}: vision_config: image_size {config.image_size} holds fewer than 2 x 2 patches of patch_size "
            f"{config.patch_size}"
        )
    facts.require("num_positions", config.grid**2 + 1)
    unknown = sorted(set(facts.raw) - facts.asked - _HARMLESS_INSIDE)
    if unknown:
        warnings.warn(f"{facts.path}: ignored keys of vision_config: {', '.join(unknown)}", stacklevel=2)
    return config


# (their name under transformer.vision., our name under vision.); `{}` stands for the layer's number.
_BLOCK = "transformer.layers.{}"
_TOWER = [
    ("patch_embedding.proj.weight", "patch_embedding.proj.weight"),
    ("patch_embedding.proj.bias", "patch_embedding.proj.bias"),
    ("patch_embedding.cls_embedding", "patch_embedding.cls_embedding"),
    ("patch_embedding.position_embedding.weight", "patch_embedding.position_embedding"),
    (_BLOCK + ".attention.query_key_value.weight", "layers.{}.attention.qkv_proj.weight"),
    (_BLOCK + ".attention.query_key_value.bias", "layers.{}.attention.qkv_proj.bias"),
    (_BLOCK + ".attention.dense.weight", "layers.{}.attention.o_proj.weight"),
    (_BLOCK + ".attention.dense.bias", "layers.{}.attention.o_proj.bias"),
    (_BLOCK + ".input_layernorm.weight", "layers.{}.attention_norm.weight"),
    (_BLOCK + ".input_layernorm.bias", "layers.{}.attention_norm.bias"),
    (_BLOCK + ".mlp.fc1.weight", "layers.{}.mlp.fc1.weight"),
    (_BLOCK + ".mlp.fc1.bias", "layers.{}.mlp.fc1.bias"),
    (_BLOCK + ".mlp.fc2.weight", "layers.{}.mlp.fc2.weight"),
    (_BLOCK + ".mlp.fc2.bias", "layers.{}.mlp.fc2.bias"),
    (_BLOCK + ".post_attention_layernorm.weight", "layers.{}.mlp_norm.weight"),
    (_BLOCK + ".post_attention_layernorm.bias", "layers.{}.mlp_norm.bias"),
    ("conv.weight", "conv.weight"),
    ("conv.bias", "conv.bias"),
    ("linear_proj.linear_proj.weight", "adapter.proj.weight"),
    ("linear_proj.norm1.weight", "adapter.norm.weight"),
    ("linear_proj.norm1.bias", "adapter.norm.bias"),
    ("linear_proj.dense_4h_to_h.weight", "adapter.mlp.down_proj.weight"),
    ("boi", "boi"),
    ("eoi", "eoi"),
]


def places(config: GLM4VConfig) -> Iterator[Place]:
    """The text model's tensors, then the tower's."""
    yield from glm.THUDM.places(config)
    for theirs, ours in _TOWER:
        for layer in range(config.vision.n_layers) if "{}" in theirs else range(1):
            yield Place(f"transformer.vision.{theirs.format(layer)}", f"vision.{ours.format(layer)}")
    size, fused = config.vision.out_ffn_size, "vision.adapter.mlp.gate_up_proj.weight"
    yield Place("transformer.vision.linear_proj.gate_proj.weight", fused, slice(0, size))
    yield Place("transformer.vision.linear_proj.dense_h_to_4h.weight", fused, slice(size, 2 * size))


def write(config: GLM4VConfig) -> dict[str, Any]:
    """config.json of the original layout."""
    tower = config.vision
    return {
        **glm.write_thudm(config),
        "boi_token_id": config.boi_token_id,
        "eoi_token_id": config.eoi_token_id,
        "vision_config": {
            "dropout_prob": 0.0,
            "hidden_act": "gelu",
            "hidden_size": tower.hidden_size,
            "image_size": tower.image_size,
            "in_channels": 3,
            "intermediate_size": tower.ffn_size,
            "layer_norm_eps": tower.norm_eps,
            "num_heads": tower.n_heads,
            "num_hidden_layers": tower.n_layers,
            "num_positions": tower.grid**2 + 1,
            "patch_size": tower.patch_size,
            "scaling_factor": tower.scaling_factor,
        },
    }


THUDM = Family("thudm", read, GLM4V, places, glm.harmless, write)
