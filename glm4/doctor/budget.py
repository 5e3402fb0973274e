"""How much memory a model needs, in bytes: weights, cache and working space, by dtype and context. No torch.

Weights and cache are counted, not estimated: they are what is allocated. The working space is an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
DTYPES = ("float32", "bfloat16", "int8", "int4")  # rows of the table; float16 takes as much as bfloat16
CONTEXTS = (2048, 8192, 32_768, 131_072, 1_048_576)
PROMPT_CHUNK = 2048  # as in engine/generate.py: tokens of a prompt computed at a time, where the family allows it
LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class Decoder:
    """The sizes of the part that writes, read from config.json, whatever its keys are called in that family."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden_size: int
    ffn_size: int
    vocab_size: int
    max_positions: int
    takes_chunks: bool


@dataclass(frozen=True)
class Weights:
    """Numbers of weights, by how they may be stored.

    Attributes:
        linear: weights of the blocks' linear layers, which quantization packs.
        rows: their rows, each with a scale of its own when packed.
        other: every other weight: embeddings, head, norms, biases, vision.
        packed: bytes that stay as they are in every dtype: quantized already, and their scales.
    """

    linear: int
    rows: int
    other: int
    packed: int = 0

    @property
    def count(self) -> int:
        """Weights, where none is packed."""
        return self.linear + self.other

    def bytes(self, dtype: str) -> int:
        """Memory in a dtype of `DTYPES` or `ITEM_BYTES`. int8 and int4 pack the linear layers and keep the rest, and a
        scale for each row, in 16 bits."""
        if dtype in ITEM_BYTES:
            return self.count * ITEM_BYTES[dtype] + self.packed
        bits = {"int8": 8, "int4": 4}[dtype]
        return self.linear * bits // 8 + (self.rows + self.other) * 2 + self.packed


_NAMES: dict[str, tuple[str, ...]] = {
    "n_layers": ("num_layers", "num_hidden_layers"),
    "n_heads": ("num_attention_heads",),
    "hidden_size": ("hidden_size",),
    "ffn_size": ("ffn_hidden_size", "inner_hidden_size", "intermediate_size"),
    "vocab_size": ("padded_vocab_size", "vocab_size"),
    "max_positions": ("seq_length", "max_sequence_length", "max_position_embeddings"),
}


def decoder_of(config: Mapping[str, Any]) -> Decoder | None:
    """The decoder of a config.json, of whatever family; None if it lacks one of the sizes."""
    nested = config.get("llm_config", config.get("text_config"))
    raw = nested if isinstance(nested, Mapping) else config
    found = {name: _first(raw, keys) for name, keys in _NAMES.items()}
    if any(value is None for value in found.values()):
        return None
    sizes: dict[str, int] = {name: value for name, value in found.items() if value is not None}
    n_heads = sizes["n_heads"]
    if "multi_query_attention" in raw:
        n_kv_heads = _first(raw, ("multi_query_group_num",)) if raw["multi_query_attention"] is True else n_heads
    else:
        n_kv_heads = _first(raw, ("num_key_value_heads",)) or n_heads
    head_dim = _first(raw, ("kv_channels", "head_dim")) or sizes["hidden_size"] // n_heads
    if not n_kv_heads or not head_dim:
        return None
    is_prefix_lm = "inner_hidden_size" in raw or "position_encoding_2d" in raw  # ChatGLM-6B
    return Decoder(**sizes, n_kv_heads=n_kv_heads, head_dim=head_dim, takes_chunks=not is_prefix_lm)


def _first(raw: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    for key in keys:
        value = raw.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_NUMBER:
            return value
    return None


def cache_bytes(decoder: Decoder, tokens: int, dtype: str) -> int:
    """Keys and values of `tokens` tokens, in every layer. Packed weights leave the cache in 16 bits."""
    per_token = 2 * decoder.n_layers * decoder.n_kv_heads * decoder.head_dim
    return per_token * tokens * ITEM_BYTES.get(dtype, 2)


def working_bytes(decoder: Decoder, tokens: int, dtype: str) -> int:
    """An estimate of what one layer's work on a prompt of `tokens` tokens takes at its peak, and the logits.

    A layer holds, for a chunk of C tokens: the stream, its norm (in float32) and what the layer adds; queries, keys and
    values; the MLP's two halves and their product; and the mask, [C, tokens], which attention turns into its own dtype.
    """
    item = ITEM_BYTES.get(dtype, 2)
    chunk = min(tokens, PROMPT_CHUNK) if decoder.takes_chunks else tokens
    stream = chunk * decoder.hidden_size * (3 * item + 8)
    attention = 3 * chunk * (decoder.n_heads + 2 * decoder.n_kv_heads) * decoder.head_dim * item
    mlp = 4 * chunk * decoder.ffn_size * item
    mask = chunk * tokens * (1 + item) if tokens > chunk or not decoder.takes_chunks else 0
    return stream + max(attention + mask, mlp) + decoder.vocab_size * (4 + item)


@dataclass(frozen=True)
class Picture:
    """What one picture costs: tokens of the context, and bytes while the tower looks at it (16-bit, estimated)."""

    tokens: int
    working: int


def picture_of(config: Mapping[str, Any]) -> Picture | None:
    """What a picture costs the model of a config.json; None where it cannot see, or does not say enough."""
    tower = config.get("vision_config")
    if not isinstance(tower, Mapping):
        return None
    image = _first(config, ("force_image_size",)) or _first(tower, ("image_size",))
    patch, hidden = _first(tower, ("patch_size",)), _first(tower, ("hidden_size",))
    ffn = _first(tower, ("intermediate_size",))
    if not image or not patch or not hidden or not ffn or image < 2 * patch:
        return None
    side = image // patch
    marks = 0 if "llm_config" in config else 2  # GLM-4V puts its begin and end in the place of two tokens
    # The towers' blocks: four times the stream, queries, keys and values, and the MLP's wide product twice.
    working = (side**2 + 1) * (7 * hidden + 2 * ffn) * 2
    return Picture((side // 2) ** 2 + marks, working)


def needed_bytes(weights: Weights, decoder: Decoder, tokens: int, dtype: str) -> int:
    """Everything together for one conversation that fills `tokens` tokens."""
    return weights.bytes(dtype) + cache_bytes(decoder, tokens, dtype) + working_bytes(decoder, tokens, dtype)


def contexts_of(decoder: Decoder) -> list[int]:
    """The contexts to show: the usual ones up to what the model was trained for, and that."""
    return sorted({context for context in CONTEXTS if context < decoder.max_positions} | {decoder.max_positions})
