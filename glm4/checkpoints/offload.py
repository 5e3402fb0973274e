"""Weights that stay on the disk and are read each time they are used."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, InputError
from .files import StoredTensor, read_tensors


class DiskWeights(Mapping[str, Tensor]):
    """Tensors by their names in the model, each read anew from a safetensors file when it is asked for.

    What a checkpoint holds just as the model wants it is read from there; the rest is written to a folder of its own
    inside `offload_folder`, which goes when this object does.
    """

    def __init__(self, offload_folder: str | os.PathLike[str] | None) -> None:
        self._offload_folder = offload_folder
        self._own: Path | None = None
        self._stored: dict[str, StoredTensor] = {}

    def make_room(self, n_bytes: int) -> None:
        """Make the folder that `write` writes to.

        Raises:
            InputError: none was given, it cannot be written to, or its disk has less space than this.
        """
        if self._offload_folder is None:
            raise InputError(
                f"{n_bytes:,} bytes of the weights are to go to the disk, where the checkpoint's own files do not hold "
                "them as needed; pass offload_folder=, a folder with room for them, or another device_map or max_memory"
            )
        folder = Path(self._offload_folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            if free >= n_bytes:
                self._own = Path(tempfile.mkdtemp(prefix="glm4-offload-", dir=folder))
        except OSError as error:
            raise InputError(
                f"offload_folder {folder} cannot be written to ({error.strerror or error}); pass another"
            ) from error
        if self._own is None:
            raise InputError(
                f"offload_folder {folder} has {free:,} bytes free, and {n_bytes:,} are to be written; pass another, or "
                "free some"
            )
        self._clean_up = weakref.finalize(self, shutil.rmtree, self._own, ignore_errors=True)

    def refer(self, name: str, stored: StoredTensor) -> None:
        """Read a tensor from the checkpoint's own file."""
        self._stored[name] = stored

    def write(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor on the disk.

        Raises:
            InputError: it cannot be written, as when the disk is full by now.
        """
        if self._own is None:
            raise RuntimeError("make_room comes first")
        file = self._own / f"{name}.safetensors"
        try:
            save_file({name: tensor.contiguous()}, file)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{file} cannot be written ({error}); free some space, or pass another offload_folder"
            ) from error
        self._stored[name] = StoredTensor(file, name, tuple(tensor.shape), tensor.dtype)

    def __enter__(self) -> DiskWeights:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Remove at once what was written if loading fails. Otherwise it stays until nobody uses the weights."""
        if kind is not None and self._own is not None:
            self._clean_up()

    def __getitem__(self, name: str) -> Tensor:
        """Read one tensor.

        Raises:
            CheckpointError: its file is gone, damaged, or another one by now.
        """
        stored = self._stored[name]
        if not stored.file.is_file():
            raise CheckpointError(f"{stored.file} is gone; weights are read from it at each use. Load the model again")
        ((_, tensor),) = read_tensors([stored])
        if tuple(tensor.shape) != stored.shape or tensor.dtype != stored.dtype:
            raise CheckpointError(f"{stored.file} has changed while in use; load the model again")
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)
