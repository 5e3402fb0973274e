"""The GLM-4 decoder from a THUDM checkpoint's own tensors and config.json: one number at a time, in float64.

Written from the description of the model (rotary pairs are neighbours, only the first half of a head rotates, key/value
heads serve N/G query heads in a row, gate before up), not from the library's code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Array = NDArray[np.float64]


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """config.json and model.safetensors of a folder in the original's layout."""
    config = json.loads((folder / "config.json").read_text())
    return config, {name: t.astype(np.float64) for name, t in load_file(folder / "model.safetensors").items()}


def forward(
    config: dict[str, Any], weights: dict[str, Array], ids: Sequence[int], positions: Sequence[int] | None = None
) -> Array:
    """Logits [T, V] of one sequence without padding."""
    positions = range(len(ids)) if positions is None else positions
    return decode(config, weights, [weights["transformer.embedding.word_embeddings.weight"][i] for i in ids], positions)


def decode(config: dict[str, Any], weights: dict[str, Array], hidden: list[Array], positions: Sequence[int]) -> Array:
    """Logits [T, V] of what stands in the slots of one sequence."""
    eps = config["layernorm_epsilon"]
    for n in range(config["num_layers"]):
        layer = {
            name.removeprefix(f"transformer.encoder.layers.{n}."): tensor
            for name, tensor in weights.items()
            if name.startswith(f"transformer.encoder.layers.{n}.")
        }
        normed = [rms_norm(x, layer["input_layernorm.weight"], eps) for x in hidden]
        hidden = [x + y for x, y in zip(hidden, attention(config, layer, normed, positions), strict=True)]
        normed = [rms_norm(x, layer["post_attention_layernorm.weight"], eps) for x in hidden]
        hidden = [x + mlp(config, layer, y) for x, y in zip(hidden, normed, strict=True)]
    final = [rms_norm(x, weights["transformer.encoder.final_layernorm.weight"], eps) for x in hidden]
    return np.stack([weights["transformer.output_layer.weight"] @ x for x in final])


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """x over its root mean square."""
    return x / math.sqrt(sum(float(v) ** 2 for v in x) / len(x) + eps) * weight


def rotate(head: Array, position: int, base: float) -> Array:
    """One head's vector at one position: pair (2i, 2i+1) of its first half turns by position / base^(2i / half)."""
    half = len(head) // 2
    out = head.copy()
    for i in range(half // 2):
        angle = position / base ** (2 * i / half)
        x, y = head[2 * i], head[2 * i + 1]
        out[2 * i] = x * math.cos(angle) - y * math.sin(angle)
        out[2 * i + 1] = x * math.sin(angle) + y * math.cos(angle)
    return out


def attention(
    config: dict[str, Any], layer: dict[str, Array], xs: list[Array], positions: Sequence[int]
) -> list[Array]:
    """Causal self-attention, head by head and query by query."""
    n_heads, n_groups, dim = config["num_attention_heads"], config["multi_query_group_num"], config["kv_channels"]
    base = 10000.0 * config.get("rope_ratio", 1)
    fused = [layer["self_attention.query_key_value.weight"] @ x for x in xs]
    if config["add_qkv_bias"]:
        fused = [row + layer["self_attention.query_key_value.bias"] for row in fused]
    rows = [row.reshape(n_heads + 2 * n_groups, dim) for row in fused]
    outputs = []
    for t in range(len(xs)):
        heads = []
        for n in range(n_heads):
            group = n // (n_heads // n_groups)
            query = rotate(rows[t][n], positions[t], base)
            scores = []
            for s in range(t + 1):
                key = rotate(rows[s][n_heads + group], positions[s], base)
                scores.append(float(query @ key) / math.sqrt(dim))
            weights = softmax(scores)
            heads.append(sum(w * rows[s][n_heads + n_groups + group] for s, w in enumerate(weights)))
        outputs.append(layer["self_attention.dense.weight"] @ np.concatenate(heads))
    return outputs


def softmax(scores: Sequence[float]) -> list[float]:
    """e^x over the sum of them."""
    largest = max(scores)
    powers = [math.exp(x - largest) for x in scores]
    return [p / sum(powers) for p in powers]


def mlp(config: dict[str, Any], layer: dict[str, Array], x: Array) -> Array:
    """down(silu(gate) * up)."""
    fused = layer["mlp.dense_h_to_4h.weight"] @ x
    gate, up = fused[: config["ffn_hidden_size"]], fused[config["ffn_hidden_size"] :]
    return layer["mlp.dense_4h_to_h.weight"] @ np.array(
        [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up, strict=True)]
    )
