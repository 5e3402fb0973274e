"""One layout's checkpoint folder to another's, bit for bit and tensor by tensor: no model is built in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..models.glm import GLMConfig
from .architecture import Architecture, family_for, read_architecture
from .family import Family, Layout, Place
from .files import StoredTensor, read_tensors
from .load import plan_weights
from .shards import NewTensor, write_shards

SHARD_BYTES = 4 * 10**9
_INV_FREQ = "transformer.rotary_pos_emb.inv_freq"


def convert_weights(source: Path, target: Path, layout: Layout, *, shard_bytes: int = SHARD_BYTES) -> Architecture:
    """Write the checkpoint in `source` into the folder `target`, under the names of `layout`: config.json and weights.

    Every tensor keeps its dtype and its bits, so that converting back gives the first files' tensors again. Peak memory
    is about two tensors. A folder in that layout already is written anew as safetensors.

    Args:
        shard_bytes: the most a file may hold.

    Returns:
        What the source is.

    Raises:
        CheckpointError: the source is incomplete, or holds tensors that the other layout has no place for.
        ConfigError: the model does not exist in that layout.
    """
    architecture = read_architecture(source)
    family = family_for(architecture.config, layout)
    if family.write is None:
        raise ConfigError(f"{source}: writing checkpoints in the layout {layout!r} is not supported")
    plan = plan_weights(source, architecture)
    if plan.unused:
        raise CheckpointError(
            f"{source} holds {len(plan.unused)} tensors that would be lost: {', '.join(sorted(plan.unused)[:5])}. "
            "Only the language model, with its tower if it has one, can be converted"
        )
    pieces: dict[str, list[_Piece]] = {}
    for name, place in plan.wanted.items():
        pieces.setdefault(place.ours, []).append(_Piece(plan.stored[name], place))
    shapes = {name: tuple(tensor.shape) for name, tensor in plan.model.state_dict().items()}
    places = list(family.places(architecture.config))
    tensors = [_announced(place, shapes[place.ours], pieces[place.ours]) for place in places]
    values = _values(places, shapes, pieces)
    if layout == "thudm":
        # The original's code expects its frequencies among the tensors, though it never reads them.
        frequencies = _inverse_frequencies(architecture.config, tensors[0].dtype)
        tensors.append(NewTensor(_INV_FREQ, tuple(frequencies.shape), frequencies.dtype))
        values = _then(values, frequencies)
    target.mkdir(parents=True, exist_ok=True)
    write_shards(target, tensors, values, shard_bytes=shard_bytes)
    config = _config(family, architecture, str(tensors[0].dtype).removeprefix("torch."))
    (target / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return architecture


@dataclass(frozen=True)
class _Piece:
    """A tensor on disk, and the rows of ours that it fills."""

    stored: StoredTensor
    place: Place


def _announced(place: Place, shape: tuple[int, ...], pieces: list[_Piece]) -> NewTensor:
    """What is written for one place, known without reading a weight."""
    kinds = {piece.stored.dtype for piece in pieces}
    if len(kinds) > 1:
        names = ", ".join(f"{piece.stored.name} ({piece.stored.dtype})" for piece in pieces)
        raise CheckpointError(f"{names}: parts of one tensor of the other layout, in different dtypes; save them alike")
    if place.rows is not None:
        shape = (len(range(*place.rows.indices(shape[0]))), *shape[1:])
    return NewTensor(place.theirs, shape, kinds.pop())


def _values(
    places: list[Place], shapes: Mapping[str, tuple[int, ...]], pieces: Mapping[str, list[_Piece]]
) -> Iterator[Tensor]:
    """The numbers for each place. A tensor of ours that several places share is put together once."""
    name, whole = "", torch.empty(0)
    for place in places:
        if place.ours != name:
            name, whole = place.ours, torch.empty(0)  # the last one is let go before the next is read
            whole = _assembled(shapes[name], pieces[name])
        yield whole if place.rows is None else whole[place.rows]


def _assembled(shape: tuple[int, ...], pieces: list[_Piece]) -> Tensor:
    if pieces[0].place.rows is None:
        ((_, tensor),) = read_tensors([pieces[0].stored])
        return tensor
    whole = torch.empty(shape, dtype=pieces[0].stored.dtype)
    for piece in pieces:
        for _, tensor in read_tensors([piece.stored]):
            whole[piece.place.rows].copy_(tensor)
    return whole


def _then(values: Iterator[Tensor], last: Tensor) -> Iterator[Tensor]:
    yield from values
    yield last


def _inverse_frequencies(config: GLMConfig, dtype: torch.dtype) -> Tensor:
    """As the original computes them: in the weights' dtype, and without the rotary base's ratio."""
    exponent = torch.arange(0, config.rotary_dim, 2).to(dtype) / config.rotary_dim
    return 1.0 / (10000**exponent)


def _config(family: Family, architecture: Architecture, dtype: str) -> dict[str, Any]:
    if family.layout == architecture.layout:
        return dict(architecture.raw)
    if family.write is None:
        raise ConfigError(f"the layout {family.layout!r} is not written")
    config: dict[str, Any] = {**family.write(architecture.config), "torch_dtype": dtype}
    for key in ("eos_token_id", "pad_token_id"):
        if key in architecture.raw:
            config[key] = architecture.raw[key]
    return config
