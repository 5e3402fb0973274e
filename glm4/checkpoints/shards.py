"""Write safetensors files tensor by tensor: the memory of one tensor, whatever the size of a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .files import SAFETENSORS_DTYPES

_NAME_OF = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}


@dataclass(frozen=True)
class NewTensor:
    """What is known of a tensor before its numbers are."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def n_bytes(self) -> int:
        """Its size in the file."""
        return int(torch.Size(self.shape).numel()) * self.dtype.itemsize


def write_shards(
    folder: Path, tensors: Sequence[NewTensor], values: Iterable[Tensor], *, shard_bytes: int
) -> list[Path]:
    """Write `values`, which are `tensors` in that order, as model.safetensors, or as several files and their index.

    Args:
        shard_bytes: the most a file may hold; a single larger tensor gets one of its own.

    Returns:
        The files written, the index last.
    """
    shards: list[list[NewTensor]] = [[]]
    for tensor in tensors:
        if shards[-1] and sum(t.n_bytes for t in shards[-1]) + tensor.n_bytes > shard_bytes:
            shards.append([])
        shards[-1].append(tensor)
    n = len(shards)
    names = [f"model-{i:05d}-of-{n:05d}.safetensors" for i in range(1, n + 1)] if n > 1 else ["model.safetensors"]
    remaining = iter(values)
    for name, shard in zip(names, shards, strict=True):
        with open(folder / name, "wb") as file:
            _write(file, shard, remaining)
    written = [folder / name for name in names]
    if n > 1:
        index = {
            "metadata": {"total_size": sum(tensor.n_bytes for tensor in tensors)},
            "weight_map": {tensor.name: name for name, shard in zip(names, shards, strict=True) for tensor in shard},
        }
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        written.append(path)
    return written


def _write(file: BinaryIO, tensors: Sequence[NewTensor], values: Iterable[Tensor]) -> None:
    """One file: the header's length (8 bytes, little endian), the header (JSON), the tensors' bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        start, end = end, end + tensor.n_bytes
        header[tensor.name] = {
            "dtype": _NAME_OF[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end],
        }  # fmt: skip
    encoded = json.dumps(header).encode("utf-8")
    encoded += b" " * (-len(encoded) % 8)  # so that the first tensor is aligned
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    for tensor, value in zip(tensors, values):  # noqa: B905 (values go on to the next file)
        if tuple(value.shape) != tensor.shape or value.dtype != tensor.dtype:
            raise ValueError(f"{tensor.name} is {value.dtype} {list(value.shape)}, announced as {tensor}")
        data = value.detach().contiguous().reshape(-1).view(torch.uint8)
        file.write(data.numpy().data)
