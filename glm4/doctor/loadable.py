"""Whether this library would load a folder: the library's own checks up to the first weight. The one part of the
doctor that needs torch."""

from __future__ import annotations

import warnings
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .budget import Weights
from .weights import WeightFiles

LARGEST_LEGACY_BIN = 256 * 2**20  # bytes of a .bin from before torch 1.6, which can only be read whole
LARGEST_DIRECTORY = 16 * 2**20  # bytes of a zip's table of contents
LARGEST_PICKLE = 16 * 2**20  # bytes of the names and shapes in a .bin


@dataclass
class Trial:
    """What the library said.

    Attributes:
        problems: (what, remedy) pairs; the library's errors name their remedy themselves.
        notes: its warnings, and what could not be tried.
        weights: the model's numbers of weights, exactly; None where it could not be built.
        tokenizer: of which kind, and the chat format; "" where there is none.
        no_tokenizer: what is missing for one; "" where there is one.
    """

    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    weights: Weights | None = None
    tokenizer: str = ""
    no_tokenizer: str = ""
    is_base: bool | None = None


def try_loading(folder: Path, files: WeightFiles) -> Trial:
    """Everything that loading does, but for the weights themselves. Never raises."""
    trial = Trial()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            _try(folder, files, trial)
        except Exception as error:
            trial.problems.append((_words(error, folder), ""))
    trial.notes += [_shorter(str(warning.message), folder) for warning in caught if warning.category is UserWarning]
    return trial


def _try(folder: Path, files: WeightFiles, trial: Trial) -> None:
    from ..checkpoints import build_empty, plan_weights, read_architecture
    from ..loading import read_checkpoint

    try:
        architecture = read_architecture(folder)
        checkpoint = read_checkpoint(folder)
        architecture = checkpoint.architecture
    except Exception as error:
        trial.problems.append((_words(error, folder), ""))
        with suppress(Exception):
            trial.weights = count_weights(build_empty(folder, architecture.family, architecture.config))
        return
    if checkpoint.tokenizer is None:
        trial.no_tokenizer = _shorter(checkpoint.why_no_tokenizer, folder)
    else:
        trial.tokenizer = f"{checkpoint.tokenizer.vocab_size:,} tokens, chat format {checkpoint.tokenizer.format.name}"
        trial.is_base = bool(getattr(checkpoint.tokenizer.format, "is_base", False))
    try:
        if not files.problems and not files.absent and _may_be_opened(folder, files, trial):
            plan = plan_weights(folder, architecture)
            trial.weights = count_weights(plan.model)
            if plan.unused:
                trial.notes.append(
                    f"{len(plan.unused)} stored tensors are of no use to this model: {plan.unused[0]} ..."
                )
            return
    except Exception as error:
        trial.problems.append((_words(error, folder), ""))
    trial.weights = count_weights(build_empty(folder, architecture.family, architecture.config))


def count_weights(model: Any) -> Weights:
    """A model's numbers of weights, by how they may be stored. Its tensors need no memory."""
    import torch
    from torch import nn

    tensors = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}
    # Loading converts what was built in float32, and leaves the rest as it is: packed weights and their scales.
    packed = sum(t.numel() * t.element_size() for t in tensors.values() if t.dtype != torch.float32)
    total = sum(t.numel() for t in tensors.values() if t.dtype == torch.float32)
    blocks = [m.weight for name, m in model.named_modules() if isinstance(m, nn.Linear) and name.startswith("layers.")]
    linear, rows = sum(w.numel() for w in blocks), sum(w.shape[0] for w in blocks)
    return Weights(linear, rows, total - linear, packed)


def _may_be_opened(folder: Path, files: WeightFiles, trial: Trial) -> bool:
    """Whether the headers of the folder's .bin files may be read: of a size that is safe. (Those of safetensors were
    looked at before.)"""
    for name in files.names:
        if not name.endswith(".bin"):
            continue
        fault = bin_fault(folder / name)
        if fault is None:
            trial.notes.append(
                f"{name} is in the format from before torch 1.6; only loading it tells whether it is whole"
            )
            return False
        if fault:
            trial.problems.append((f"{name} {fault}", "download it again"))
            return False
    return True


def bin_fault(path: Path) -> str | None:
    """Why a .bin must not be opened; "" if it may; None if that would take too much memory to tell."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return "" if size <= LARGEST_LEGACY_BIN else None
        file.seek(max(0, size - 65_557 - 76))  # the longest end of a zip: its comment, and version 64's records
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        return "is cut off: it has no table of contents at its end"
    directory = int.from_bytes(tail[end + 12 : end + 16], "little")
    if directory == 0xFFFFFFFF:
        end64 = tail.rfind(b"PK\x06\x06", 0, end)
        directory = int.from_bytes(tail[end64 + 40 : end64 + 48], "little") if end64 >= 0 else size
    if directory > LARGEST_DIRECTORY:
        return f"has a table of contents of {directory:,} bytes, which is far too long"
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")]
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, OverflowError) as error:
        return f"is damaged ({error})"
    if any(entry.file_size > LARGEST_PICKLE for entry in pickles):
        return "has names and shapes of tensors that take far too much memory"
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        return "is compressed, which PyTorch's own files never are"
    return ""


def _words(error: Exception, folder: Path) -> str:
    """An error's own words; for those that were not meant for people, their type in front."""
    from ..errors import Glm4Error

    text = str(error).strip() or type(error).__name__
    return _shorter(text if isinstance(error, Glm4Error) else f"{type(error).__name__}: {text}", folder)


def _shorter(text: str, folder: Path) -> str:
    """Without the folder, which the report names at its top, and of a length to be read."""
    text = text.replace(f"{folder}/", "").replace(str(folder), "the folder")
    return text if len(text) <= 600 else text[:597] + "..."
