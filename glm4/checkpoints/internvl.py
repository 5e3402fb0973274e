"""InternVL-Chat-V1-1 on disk, in the original layout (`model_type: internvl_chat`), the only one it exists in.

Two facts are not in config.json: how fine the stored position embedding is, which its tensor says (`fit`), and which id
is `<IMG_CONTEXT>`, which the tokenizer says (`name_ids`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..errors import ConfigError
from ..models.intern_vit import InternViTConfig
from ..models.internvl import InternVL, InternVLConfig
from .facts import MOST_LAYERS, Facts
from .family import Family, Place

CONTEXT_TOKEN = "<IMG_CONTEXT>"  # noqa: S105 (no password)

_POSITIONS = "vision_model.embeddings.position_embedding"
# Switches of the training code and of later versions' image tiling.
_NOT_NEEDED = {"_commit_hash", "template", "hidden_size", "min_dynamic_patch", "max_dynamic_patch", "image_fold"}


def read(facts: Facts) -> InternVLConfig:
    """config.json's facts. Raises ConfigError."""
    facts.asked |= _NOT_NEEDED
    facts.refuse("dynamic_image_size", "use_thumbnail", "pad2square", "use_backbone_lora", "use_llm_lora")
    facts.require("tie_word_embeddings", False, default=False)
    llm, tower = facts.inside("llm_config"), facts.inside("vision_config")
    kind = llm.raw.get("model_type", llm.raw.get("architectures"))
    if kind not in ("llama", ["LlamaForCausalLM"]):
        raise ConfigError(
            f"{facts.path}: the language model inside is {kind!r}; only LLaMA, as in InternVL-Chat-V1-1, is supported"
        )
    llm.require("hidden_act", "silu", default="silu")
    llm.refuse("tie_word_embeddings", "attention_bias", "mlp_bias")
    n_heads, hidden_size = llm.get("num_attention_heads", int), llm.get("hidden_size", int)
    n_kv_heads = llm.get("num_key_value_heads", int, default=n_heads)  # LLaMA-2-13B's own file came without
    head_dim = llm.get("head_dim", int, default=max(1, hidden_size // n_heads))
    if n_heads % n_kv_heads or head_dim % 2:
        raise ConfigError(
            f"{facts.path}: llm_config has {n_heads} heads of {head_dim} that share {n_kv_heads} key/value heads; "
            "they must share evenly, and be of even size"
        )
    vision = _read_tower(facts, tower)
    merged = _merged(facts, vision)
    vocab_size = llm.get("vocab_size", int)
    context_id = facts.get("img_context_token_id", int, default=-1)  # V1-1 has none: its tokenizer says it
    if context_id >= vocab_size:
        raise ConfigError(
            f"{facts.path}: img_context_token_id is {context_id}; ids are from 0 to {vocab_size - 1} (vocab_size)"
        )
    return InternVLConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        ffn_size=llm.get("intermediate_size", int),
        n_layers=llm.layers("num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        rope_theta=_theta(llm),
        norm_eps=llm.get("rms_norm_eps", float),
        max_positions=llm.get("max_position_embeddings", int),
        vision=vision,
        merged=merged,
        shuffle=_shuffle(facts),
        img_context_id=None if context_id < 0 else context_id,
    )


def _theta(llm: Facts) -> float:
    """The rotary base. LLaMA-2's own files have none: transformers wrote it later on, and its default is LLaMA-2's."""
    nested = llm.raw.get("rope_parameters")  # how transformers 5 writes it
    source = Facts(llm.path, nested) if isinstance(nested, dict) else llm
    source.require("rope_type", "default", default="default")
    scaling = llm.raw.get("rope_scaling")
    if scaling is not None and scaling != {"rope_type": "default"}:
        raise ConfigError(f"{llm.path}: rope_scaling is {scaling!r}; no scaling is implemented")
    theta: float = source.get("rope_theta", float, default=10000.0)
    return theta


def _read_tower(facts: Facts, tower: Facts) -> InternViTConfig:
    """InternViT-6B's facts; the stored grid is a guess until `fit` has seen the tensor."""
    for key, expected in (("hidden_act", "gelu"), ("qk_normalization", True), ("qkv_bias", False)):
        tower.require(key, expected)
    tower.require("norm_type", "rms_norm", default="rms_norm")  # the first files of InternViT knew no other
    tower.require("num_channels", 3, default=3)
    n_stored_layers = tower.layers("num_hidden_layers")
    own_size, patch_size = tower.picture_size("image_size"), tower.get("patch_size", int)
    image_size = facts.picture_size("force_image_size", default=own_size)
    hidden_size, n_heads = tower.get("hidden_size", int), tower.get("num_attention_heads", int)
    if hidden_size % n_heads:
        raise ConfigError(f"{facts.path}: vision_config: {n_heads} heads do not divide hidden_size {hidden_size}")
    return InternViTConfig(
        image_size=image_size,
        patch_size=patch_size,
        stored_grid=max(1, own_size // patch_size),
        hidden_size=hidden_size,
        ffn_size=tower.get("intermediate_size", int),
        n_layers=_n_computed(facts, n_stored_layers),
        n_stored_layers=n_stored_layers,
        n_heads=n_heads,
        norm_eps=tower.get("layer_norm_eps", float),
    )


def _n_computed(facts: Facts, n_layers: int) -> int:
    """Blocks up to the output that is taken: hidden_states[select_layer], of which number 0 is the embeddings.

    A file without the key means -4, which the code of V1-1 had built in; a default of -1 came with later versions.
    """
    facts.asked.add("select_layer")
    chosen = facts.raw.get("select_layer")
    chosen = -4 if chosen is None else chosen
    computed = chosen if not isinstance(chosen, int) or chosen > 0 else chosen + n_layers + 1
    if not isinstance(computed, int) or isinstance(chosen, bool) or not 1 <= computed <= n_layers:
        raise ConfigError(
            f"{facts.path}: select_layer is {chosen!r}; a tower of {n_layers} layers has 1 to {n_layers}, or, counted "
            f"from the last, -1 to {-n_layers}"
        )
    return computed


def _merged(facts: Facts, vision: InternViTConfig) -> int:
    """How many patches a side the pixel shuffle merges: 2, as downsample_ratio is 0.5."""
    ratio = facts.get("downsample_ratio", float)
    merged = round(1 / ratio) if 1 / MOST_LAYERS < ratio <= 1 else 0
    if not merged or merged * ratio != 1:
        raise ConfigError(f"{facts.path}: downsample_ratio is {ratio!r}; only 1 / a whole number is implemented")
    if vision.image_size % (vision.patch_size * merged):
        raise ConfigError(
            f"{facts.path}: pictures of {vision.image_size} pixels (force_image_size, or vision_config.image_size) do "
            f"not part into squares of {merged} x {merged} patches of {vision.patch_size} pixels"
        )
    return merged


def _shuffle(facts: Facts) -> Any:
    """The order of the merged patches. Files from before there were two have no key, and mean the first."""
    version = facts.get("ps_version", str, default="v1")
    if version not in ("v1", "v2"):
        raise ConfigError(f"{facts.path}: ps_version is {version!r}; known are 'v1' and 'v2'")
    return version


def fit(config: InternVLConfig, shapes: Mapping[str, tuple[int, ...]]) -> InternVLConfig:
    """What only the stored tensors say: vision_config.image_size may be 224 where the embedding is for 448 pixels."""
    shape = shapes.get(_POSITIONS, ())
    grid = math.isqrt(shape[1] - 1) if len(shape) == 3 and shape[1] > 1 else 0
    if not grid or grid**2 + 1 != shape[1]:
        return config  # the loader says what it misses
    return replace(config, vision=replace(config.vision, stored_grid=grid))


def name_ids(config: InternVLConfig, special_tokens: Mapping[str, int]) -> InternVLConfig:
    """What only the tokenizer says."""
    return replace(config, img_context_id=special_tokens.get(CONTEXT_TOKEN, config.img_context_id))


# Names ---------------------------------------------------------------------------------------------------------------

_TOWER = [
    ("vision_model.embeddings.class_embedding", "vision_model.class_embedding"),
    (_POSITIONS, "vision_model.position_embedding"),
    ("vision_model.embeddings.patch_embedding.weight", "vision_model.patch_embedding.weight"),
    ("vision_model.embeddings.patch_embedding.bias", "vision_model.patch_embedding.bias"),
]
_TOWER_BLOCK = """
    norm1.weight norm2.weight ls1 ls2 attn.qkv.weight attn.q_norm.weight attn.k_norm.weight attn.proj.weight
    attn.proj.bias mlp.fc1.weight mlp.fc1.bias mlp.fc2.weight mlp.fc2.bias
""".split()
_UNUSED_BLOCK = re.compile(r"vision_model\.encoder\.layers\.(\d{1,4})\..+")
_HARMLESS = re.compile(r"language_model\.model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")


def places(config: InternVLConfig) -> Iterator[Place]:
    """Every tensor the folder must hold. Not those of tower blocks whose output nobody takes."""
    for theirs, ours in _TOWER:
        yield Place(theirs, ours)
    for layer in range(config.vision.n_layers):
        for name in _TOWER_BLOCK:
            yield Place(f"vision_model.encoder.layers.{layer}.{name}", f"vision_model.layers.{layer}.{name}")
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"):
        yield Place(f"mlp1.{name}", f"mlp1.{name}")
    yield Place("language_model.model.embed_tokens.weight", "embed_tokens.weight")
    for layer in range(config.n_layers):
        yield from _block_places(config, layer)
    yield Place("language_model.model.norm.weight", "norm.weight")
    yield Place("language_model.lm_head.weight", "lm_head.weight")


def _block_places(config: InternVLConfig, layer: int) -> Iterator[Place]:
    """One block of the decoder: our fused products hold q, k, v and gate, up one below the other."""
    theirs, ours = f"language_model.model.layers.{layer}.", f"layers.{layer}."
    q, kv, ffn = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim, config.ffn_size
    for part, start, end in (("q", 0, q), ("k", q, q + kv), ("v", q + kv, q + 2 * kv)):
        fused = ours + "self_attn.qkv_proj.weight"
        yield Place(f"{theirs}self_attn.{part}_proj.weight", fused, slice(start, end))
    for part, start in (("gate", 0), ("up", ffn)):
        yield Place(f"{theirs}mlp.{part}_proj.weight", ours + "mlp.gate_up_proj.weight", slice(start, start + ffn))
    names = ("self_attn.o_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm")
    for name in names:
        yield Place(f"{theirs}{name}.weight", f"{ours}{name}.weight")


def harmless(config: InternVLConfig, name: str) -> bool:
    """Tower blocks behind the one whose output is taken, and rotary frequencies, which follow from the rest."""
    block = _UNUSED_BLOCK.fullmatch(name)
    if block is not None:
        return config.vision.n_layers <= int(block[1]) < config.vision.n_stored_layers
    return _HARMLESS.fullmatch(name) is not None


INTERNVL = Family(
    "internvl", read, InternVL, places, harmless, fit=fit, name_ids=name_ids,
    generation={"do_sample": False},  # as the model's documentation calls it
)  # fmt: skip
