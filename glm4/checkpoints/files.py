"""What a checkpoint folder's files hold, without interpreting any name in them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError
from ..jsonfile import read_json


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as it lies on disk: in which file, under which name, and what shape it claims."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint folder by name, read from the files' headers.

    Takes model.safetensors, a sharded model.safetensors.index.json, pytorch_model.bin or its index, in that order.

    Raises:
        CheckpointError: no weights at all; a shard missing, truncated, or named outside the folder; a tensor that the
            index promises and its shard lacks; a .bin that holds anything but tensors.
    """
    for single, opener in (("model.safetensors", _safetensors_header), ("pytorch_model.bin", _bin_header)):
        index = folder / f"{single}.index.json"
        if (folder / single).is_file():
            return {t.name: t for t in opener(folder / single)}
        if index.is_file():
            return _sharded(folder, index, opener)
    raise CheckpointError(
        f"{folder} holds no weights: expected model.safetensors, model.safetensors.index.json, "
        "pytorch_model.bin or pytorch_model.bin.index.json"
    )


def _sharded(folder: Path, index: Path, header: Any) -> dict[str, StoredTensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise CheckpointError(f"{index} has no weight_map from tensor names to file names; download it again")
    found: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        if shard != Path(shard).name or shard in {"", ".", ".."} or "\\" in shard or not shard.isprintable():
            raise CheckpointError(f"{index} names the shard {shard!r}, no file name inside the folder; refused")
        if not (folder / shard).is_file():
            missing = sum(v == shard for v in weight_map.values())
            raise CheckpointError(
                f"{folder / shard} is missing ({missing} tensors, named by {index.name}); download it again"
            )
        found.update((t.name, t) for t in header(folder / shard))
    absent = [f"{name} (in {shard})" for name, shard in weight_map.items() if name not in found]
    if absent:
        raise CheckpointError(f"{index} promises tensors that their shards lack: {', '.join(absent[:5])}")
    return found


def _safetensors_header(file: Path) -> list[StoredTensor]:
    with _safetensors(file) as opened:
        slices = [(name, opened.get_slice(name)) for name in opened.keys()]  # noqa: SIM118 (not a mapping)
        return [StoredTensor(file, n, tuple(s.get_shape()), SAFETENSORS_DTYPES[s.get_dtype()]) for n, s in slices]


SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@contextmanager
def _safetensors(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        size = file.stat().st_size if file.exists() else 0
        raise CheckpointError(f"{file} ({size:,} bytes) is truncated or damaged: {error}. Download it again") from error
    except KeyError as error:
        raise CheckpointError(f"{file} holds a tensor of the type {error}, which is not supported") from error


def _bin_header(file: Path) -> list[StoredTensor]:
    if _is_compressed(file):
        raise CheckpointError(
            f"{file} is compressed, which PyTorch's own files never are, and would be read as it lies; unpack it and "
            "zip it again without compression, or download it again"
        )
    tensors = _read_bin(file)
    return [StoredTensor(file, name, tuple(t.shape), t.dtype) for name, t in tensors.items()]


def _is_compressed(file: Path) -> bool:
    """Whether this is a zip whose members cannot be mapped into memory as they are. A damaged one is said to be so by
    who reads it next."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def _read_bin(file: Path) -> dict[str, Tensor]:
    """A .bin's tensors, memory-mapped where its format allows. Never unpickles anything but tensors."""
    try:
        try:
            value = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            value = torch.load(file, map_location="cpu", weights_only=True)  # written before torch 1.6
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds Python objects besides tensors, or is damaged; refused, since reading them could run code. "
            "Get the checkpoint as safetensors, or download it again"
        ) from error
    except Exception as error:  # a damaged pickle sends its reader anywhere: IndexError, KeyError, struct.error, ...
        raise CheckpointError(f"{file} is truncated or damaged: {error}. Download it again") from error
    if not isinstance(value, dict) or not all(isinstance(k, str) and _is_plain(v) for k, v in value.items()):
        raise CheckpointError(f"{file} does not hold a dictionary of dense tensors by name; download it again")
    return value


def _is_plain(value: object) -> bool:
    """A tensor with all its numbers in the file: weights_only lets sparse ones through, ones without data, and views
    that repeat one number a billion times."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def read_tensors(tensors: list[StoredTensor]) -> Iterator[tuple[StoredTensor, Tensor]]:
    """The tensors one by one, file by file, each released before the next is read.

    A file is mapped anew for each tensor: pages of the tensors already copied would otherwise stay in this process's
    memory until the whole file is done. Only a .bin from before torch 1.6 cannot be mapped, and is read whole.
    """
    by_file: dict[Path, list[StoredTensor]] = {}
    for stored in tensors:
        by_file.setdefault(stored.file, []).append(stored)
    for file, members in by_file.items():
        if file.suffix == ".bin" and not zipfile.is_zipfile(file):
            loaded = _read_bin(file)
            for stored in members:
                yield stored, loaded.pop(stored.name)
            continue
        for stored in members:
            if file.suffix == ".bin":
                tensor = _read_bin(file)[stored.name]
            else:
                with _safetensors(file) as opened:
                    tensor = opened.get_tensor(stored.name)
            yield stored, tensor
            del tensor
