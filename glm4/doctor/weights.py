"""A folder's weight files, from their names, sizes and headers: which there are, and what is missing or broken."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from .files import (
    INDEXES,
    Header,
    Listing,
    elements,
    first_bytes,
    is_pointer,
    list_folder,
    pointer_size,
    read_object,
    safetensors_header,
)

MOST_SHARDS = 1000
MOST_TENSORS = 50_000
AGAIN = "download it again: `hf download` goes on where it stopped"
_OF = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.(?P<suffix>safetensors|bin)")
# Left behind by downloads that did not end: of hf, git, aria2, browsers, modelscope.
_UNFINISHED = (".incomplete", ".aria2", ".part", ".crdownload", ".download", ".tmp")


@dataclass
class WeightFiles:
    """What `find_weights` saw.

    Attributes:
        kind: "safetensors" or ".bin"; "" where there are none.
        names: files that loading would read.
        size: their bytes together.
        tensors: by name (dtype, shape), from the headers of safetensors.
        problems: (what, remedy) pairs that stop loading.
        needed: bytes, where git-lfs pointers tell how large the real files are.
        absent: what a download would bring, in words; "" if nothing is missing.
    """

    kind: str = ""
    names: list[str] = field(default_factory=list)
    size: int = 0
    tensors: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    needed: int = 0
    absent: str = ""

    @property
    def parameters(self) -> int:
        """Numbers stored, as the headers tell; 0 if they do not."""
        return sum(elements(shape) for _, shape in self.tensors.values())


def find_weights(listing: Listing) -> WeightFiles:
    """The weights that loading would take, in its order: model.safetensors or its index, then the same as .bin."""
    found = WeightFiles()
    for single, kind, index in (
        ("model.safetensors", "safetensors", INDEXES[0]),
        ("pytorch_model.bin", ".bin", INDEXES[1]),
    ):
        if single in listing.files or single in listing.odd:
            found.kind, found.names = kind, [single]
        elif index in listing.files or index in listing.odd:
            found.kind, found.names = kind, _shards(listing, index, found)
        else:
            continue
        break
    else:
        _nothing(listing, found)
    _look_into(listing, found)
    return found


def unfinished_downloads(listing: Listing) -> list[str]:
    """Notes on what downloads leave behind that did not end, beside the files or in hf's folder of its own."""
    left = [name for name in listing.files if name.endswith(_UNFINISHED)]
    left += [name for name in listing.folders if name.startswith("._____temp")]
    left += list_folder(listing.folder / ".cache" / "huggingface" / "download").ending(".incomplete")
    return [f"Left over from a download that did not end, or is still going on: {_some(sorted(left))}"] if left else []


def _shards(listing: Listing, index: str, found: WeightFiles) -> list[str]:
    value, fault = read_object(listing, index)
    if value is None:
        found.problems.append((fault, AGAIN))
        return []
    weight_map: Any = value.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        found.problems.append((f"{index} has no weight_map from tensors to files", "download that file again"))
        return []
    shards = sorted(set(weight_map.values()))
    if any("/" in name or "\\" in name or name in ("", ".", "..") or not name.isprintable() for name in shards):
        found.problems.append((f"{index} names files outside the folder", "get the checkpoint from its publisher"))
        return []
    if len(shards) > MOST_SHARDS:
        found.problems.append((f"{index} names {len(shards)} files, which no model has", "download that file again"))
        return []
    for name in shards if listing.truncated else ():
        listing.look_at(name)
    missing = [name for name in shards if name not in listing.files and name not in listing.odd]
    if missing:
        found.absent = f"{len(missing)} of {len(shards)} files of weights"
        found.problems.append((f"the download is incomplete: {found.absent} are missing: {_some(missing)}", AGAIN))
    return [name for name in shards if name not in missing]


def _nothing(listing: Listing, found: WeightFiles) -> None:
    """No file under the names that loading knows."""
    parts = [match for match in map(_OF.fullmatch, sorted(listing.files)) if match]
    if parts:
        first = parts[0]
        index = f"{first['stem']}.{first['suffix']}.index.json"
        have = len([part for part in parts if part["stem"] == first["stem"]])
        found.problems.append(
            (f"{index} is missing: {have} of {int(first['total'])} files of weights are there, but not their index",
             "download that file again")
        )  # fmt: skip
    elif listing.ending(".safetensors", ".bin"):
        names = listing.ending(".safetensors", ".bin")
        found.problems.append(
            (f"weights are expected as model.safetensors or pytorch_model.bin; here is {_some(names)}",
             "rename the file, if it holds the model")
        )  # fmt: skip
    elif listing.ending(".gguf"):
        found.problems.append(
            (f"the weights are GGUF, llama.cpp's format ({_some(listing.ending('.gguf'))})",
             "take the original checkpoint")
        )  # fmt: skip
    else:
        found.absent = "the weights"
        code = " (only configuration and code)" if listing.ending(".py") else ""
        found.problems.append(
            (f"there are no weights{code}", "download them: `hf download OWNER/NAME --local-dir FOLDER`")
        )


def _look_into(listing: Listing, found: WeightFiles) -> None:
    pointers, broken = [], []
    for name in found.names:
        if name in listing.odd:
            broken.append((name, f"is {listing.odd[name]}"))
            continue
        size = listing.files.get(name, 0)
        found.size += size
        start = first_bytes(listing.folder / name)
        if is_pointer(start):
            pointers.append(name)
            found.needed += pointer_size(start) or 0
            continue
        if len(found.tensors) > MOST_TENSORS:
            broken.append((name, "and the files before it hold more tensors than any model has"))
            break
        header = _header(listing, name, size, start)
        found.tensors.update(header.tensors)
        if header.fault:
            broken.append((name, header.fault))
    if pointers:
        real = f"; the real files are {found.needed / 2**30:.1f} GiB" if found.needed else ""
        found.problems.append(
            (f"{len(pointers)} of {len(found.names)} files of weights are git-lfs pointers, a few lines of text in "
             f"place of the file ({_some(pointers)}){real}",
             "run `git lfs install` and `git lfs pull` in the folder, or use `hf download`")
        )  # fmt: skip
    found.problems += [(f"{name} {fault}", AGAIN) for name, fault in broken[:5]]
    if len(broken) > 5:
        found.problems.append((f"{len(broken) - 5} more files of weights are broken", AGAIN))


def _header(listing: Listing, name: str, size: int, start: bytes) -> Header:
    if name.endswith(".safetensors"):
        return safetensors_header(listing.folder / name, size)
    if not start:
        return Header({}, "cannot be read" if size else "is empty")
    if start.lstrip()[:1] == b"<":
        return Header({}, "is a web page, not weights")
    if not start.startswith((b"PK", b"\x80")):  # a zip, or a pickle from before torch 1.6
        return Header({}, "is not a file that PyTorch wrote")
    return Header({})


def _some(names: list[str]) -> str:
    return ", ".join(name[:80] for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
