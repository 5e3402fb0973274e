"""GLM-4V from a THUDM checkpoint's own tensors and config.json: patch by patch, in float64.

Written from the description of the model (post-norm blocks, the class token dropped, squares of 2 x 2 patches made one,
all patches of a picture at one position), not from the library's code. The decoder is `glm_forward`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .glm_forward import Array, decode, softmax


def see(config: dict[str, Any], weights: dict[str, Array], picture: Array) -> list[Array]:
    """Normalised pixels [3, S, S] -> the vectors that stand in the picture's slots, marks included."""
    vision = config["vision_config"]
    tower = {
        name.removeprefix("transformer.vision."): tensor
        for name, tensor in weights.items()
        if name.startswith("transformer.vision.")
    }
    size, grid = vision["patch_size"], vision["image_size"] // vision["patch_size"]
    xs = [tower["patch_embedding.cls_embedding"][0]]
    for row in range(grid):
        for column in range(grid):
            patch = picture[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
            kernels = tower["patch_embedding.proj.weight"]
            xs.append(np.array([(kernel * patch).sum() for kernel in kernels]) + tower["patch_embedding.proj.bias"])
    xs = [x + place for x, place in zip(xs, tower["patch_embedding.position_embedding.weight"], strict=True)]
    for n in range(vision["num_hidden_layers"]):
        prefix = f"transformer.layers.{n}."
        layer = {name.removeprefix(prefix): t for name, t in tower.items() if name.startswith(prefix)}
        xs = block(layer, xs, vision["num_heads"], vision["layer_norm_eps"])
    patches = xs[1:]
    merged = []
    for row in range(0, grid - 1, 2):
        for column in range(0, grid - 1, 2):
            out = tower["conv.bias"].copy()
            for i in (0, 1):
                for j in (0, 1):
                    out += tower["conv.weight"][:, :, i, j] @ patches[(row + i) * grid + column + j]
            merged.append(out)
    slots = [tower["boi"][0, 0], *(adapt(tower, x) for x in merged), tower["eoi"][0, 0]]
    return [slot / vision["scaling_factor"] for slot in slots]


def block(layer: dict[str, Array], xs: list[Array], n_heads: int, eps: float) -> list[Array]:
    """Attention, its norm, the sum; the MLP, its norm, the sum."""
    attended = attention(layer, xs, n_heads)
    xs = [x + norm(layer, "input_layernorm", y, eps) for x, y in zip(xs, attended, strict=True)]
    outs = []
    for x in xs:
        inner = gelu(layer["mlp.fc1.weight"] @ x + layer["mlp.fc1.bias"])
        y = layer["mlp.fc2.weight"] @ inner + layer["mlp.fc2.bias"]
        outs.append(x + norm(layer, "post_attention_layernorm", y, eps))
    return outs


def attention(layer: dict[str, Array], xs: list[Array], n_heads: int) -> list[Array]:
    """Everything sees everything, head by head and query by query."""
    fused = [layer["attention.query_key_value.weight"] @ x + layer["attention.query_key_value.bias"] for x in xs]
    rows = [row.reshape(3, n_heads, -1) for row in fused]
    dim = rows[0].shape[-1]
    outputs = []
    for query in rows:
        heads = []
        for n in range(n_heads):
            weights = softmax([float(query[0, n] @ key[1, n]) / math.sqrt(dim) for key in rows])
            heads.append(sum(w * value[2, n] for w, value in zip(weights, rows, strict=True)))
        outputs.append(layer["attention.dense.weight"] @ np.concatenate(heads) + layer["attention.dense.bias"])
    return outputs


def adapt(tower: dict[str, Array], x: Array) -> Array:
    """One patch to the decoder's size."""
    x = gelu(norm(tower, "linear_proj.norm1", tower["linear_proj.linear_proj.weight"] @ x, 1e-5))
    gate, up = tower["linear_proj.gate_proj.weight"] @ x, tower["linear_proj.dense_h_to_4h.weight"] @ x
    return tower["linear_proj.dense_4h_to_h.weight"] @ np.array(
        [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up, strict=True)]
    )


def norm(tensors: dict[str, Array], name: str, x: Array, eps: float) -> Array:
    """LayerNorm."""
    centred = x - x.mean()
    return centred / math.sqrt((centred**2).mean() + eps) * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def gelu(x: Array) -> Array:
    """x times the normal distribution function of x."""
    return np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])


def forward(
    config: dict[str, Any], weights: dict[str, Array], ids: Sequence[int], pictures: Sequence[Array] = ()
) -> Array:
    """Logits [slots, V] of one prompt with the pictures that belong to its places, in order."""
    hidden: list[Array] = []
    positions: list[int] = []
    left = list(pictures)
    counter = index = 0
    while index < len(ids):
        if ids[index] == config["boi_token_id"]:
            slots = see(config, weights, left.pop(0))
            hidden += slots
            positions += [counter, *[counter + 1] * (len(slots) - 2), counter + 2]
            index, counter = index + 3, counter + 3
        else:
            hidden.append(weights["transformer.embedding.word_embeddings.weight"][ids[index]])
            positions.append(counter)
            index, counter = index + 1, counter + 1
    return decode(config, weights, hidden, positions)
