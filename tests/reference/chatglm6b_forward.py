"""ChatGLM-6B from a checkpoint's own tensors and config.json: one token, one head at a time, in float64.

Written from the description of the model (two-row positions, half a head for each; the layer-normed input scaled by
sqrt(56) and carried on; a prompt that sees itself in both directions), not from the library's code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def forward(config: Mapping[str, Any], weights: Mapping[str, Array], ids: Sequence[int]) -> Array:
    """Logits [T, V] of one sequence that holds a mask token and <sop>."""
    begin = list(ids).index(config["bos_token_id"])
    mask = config["gmask_token_id"] if config["gmask_token_id"] in ids else config["mask_token_id"]
    stands_still = list(ids).index(mask)
    places = [(t, 0) if t < begin else (stands_still, t - begin + 1) for t in range(len(ids))]
    visible = [[s for s in range(len(ids)) if s <= t or s < begin] for t in range(len(ids))]

    eps = config["layernorm_epsilon"]
    table = weights["transformer.word_embeddings.weight"]
    xs = [table[i] for i in ids]
    for n in range(config["num_layers"]):
        layer = {
            name.removeprefix(f"transformer.layers.{n}."): tensor
            for name, tensor in weights.items()
            if name.startswith(f"transformer.layers.{n}.")
        }
        xs = [layer_norm(x, layer, "input_layernorm", eps) for x in xs]
        outs = attention(config["num_attention_heads"], layer, xs, places, visible)
        xs = [math.sqrt(2 * 28) * x + out for x, out in zip(xs, outs, strict=True)]
        xs = [layer_norm(x, layer, "post_attention_layernorm", eps) for x in xs]
        xs = [math.sqrt(2 * 28) * x + mlp(layer, x) for x in xs]
    xs = [layer_norm(x, weights, "transformer.final_layernorm", eps) for x in xs]
    return np.stack([table @ x for x in xs])


def layer_norm(x: Array, tensors: Mapping[str, Array], name: str, eps: float) -> Array:
    """x less its mean, over its standard deviation (of all, not of a sample)."""
    centred = x - x.mean()
    return centred / math.sqrt(float((centred**2).mean()) + eps) * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def linear(x: Array, tensors: Mapping[str, Array], name: str) -> Array:
    """W x + b."""
    return tensors[f"{name}.weight"] @ x + tensors[f"{name}.bias"]


def attention(
    n_heads: int,
    layer: Mapping[str, Array],
    xs: Sequence[Array],
    places: Sequence[tuple[int, int]],
    visible: Sequence[Sequence[int]],
) -> list[Array]:
    """Self-attention, head by head. The fused rows are q, k and v of the first head, then of the second, and so on."""
    heads = [linear(x, layer, "attention.query_key_value").reshape(n_heads, 3, -1) for x in xs]
    dim = heads[0].shape[-1]
    out = []
    for t in range(len(xs)):
        context = []
        for n in range(n_heads):
            query = rotate(heads[t][n, 0], places[t])
            scores = [float(query @ rotate(heads[s][n, 1], places[s])) / math.sqrt(dim) for s in visible[t]]
            largest = max(scores)
            powers = [math.exp(score - largest) for score in scores]
            context.append(sum(p / sum(powers) * heads[s][n, 2] for p, s in zip(powers, visible[t], strict=True)))
        out.append(linear(np.concatenate(context), layer, "attention.dense"))
    return out


def rotate(head: Array, place: tuple[int, int]) -> Array:
    """The first half of a head turns by the first position, the second half by the second."""
    half = len(head) // 2
    return np.concatenate([turn(head[:half], place[0]), turn(head[half:], place[1])])


def turn(part: Array, position: int) -> Array:
    """Pair (i, i + half) turns by position times a frequency, 10000^(-i / half) as float16 has it."""
    half = len(part) // 2
    out = part.copy()
    for i in range(half):
        angle = position * float(np.float16(10000.0 ** (-i / half)))
        x, y = part[i], part[i + half]
        out[i], out[i + half] = x * math.cos(angle) - y * math.sin(angle), y * math.cos(angle) + x * math.sin(angle)
    return out


def mlp(layer: Mapping[str, Array], x: Array) -> Array:
    """Up, GELU by its tanh approximation, down."""
    up = linear(x, layer, "mlp.dense_h_to_4h")
    gelu = 0.5 * up * (1 + np.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
    return linear(gelu, layer, "mlp.dense_4h_to_h")
