"""What lies in a folder, at a glance that costs little whatever lies there: names, sizes, a few bytes of each file.

Nothing here needs torch, opens what is not a regular file (a pipe would block for ever), follows a folder into another,
or reads more than a bounded number of bytes.
"""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_ENTRIES = 20_000
LARGEST_HEADER = 4 * 2**20  # of a safetensors file; 9B models have 40 KB
# Files that loading reads whole, and what is far more than any of them needs.
LARGEST = {
    "config.json": 4 * 2**20,
    "generation_config.json": 2**20,
    "tokenizer_config.json": 4 * 2**20,
    "adapter_config.json": 2**20,
    "added_tokens.json": 4 * 2**20,
    "special_tokens_map.json": 4 * 2**20,
    "preprocessor_config.json": 2**20,
    "chat_template.jinja": 2**20,
    "tokenizer.model": 16 * 2**20,
    "ice_text.model": 16 * 2**20,
    "tokenizer.json": 32 * 2**20,
    "model.safetensors.index.json": 4 * 2**20,
    "pytorch_model.bin.index.json": 4 * 2**20,
}
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_POINTER = b"version https://git-lfs.github.com/spec/v1"
_ITEM_BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16,
              "U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself: tensors by name as (dtype, shape), and why it cannot be used, if so."""

    tensors: dict[str, tuple[str, tuple[int, ...]]]
    fault: str = ""


@dataclass
class Listing:
    """A folder's own entries: regular files by name with their sizes, and everything that is something else."""

    folder: Path
    files: dict[str, int] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    odd: dict[str, str] = field(default_factory=dict)  # name -> what is wrong with it
    truncated: bool = False
    fault: str = ""

    def look_at(self, name: str) -> None:
        """Note one entry of the folder, if there is one of that name."""
        path = self.folder / name
        try:
            found = os.stat(path)
        except (OSError, ValueError) as error:
            if os.path.islink(path):
                self.odd[name] = "a link to nothing"
            elif not isinstance(error, (FileNotFoundError, ValueError)):
                self.odd[name] = f"not to be looked at ({error})"
            return
        if stat.S_ISREG(found.st_mode):
            self.files[name] = found.st_size
            if name in LARGEST and found.st_size > LARGEST[name]:
                self.odd[name] = f"{found.st_size:,} bytes, which is far too large for such a file"
        elif stat.S_ISDIR(found.st_mode):
            self.folders.append(name)
            if name in LARGEST or name.endswith((".safetensors", ".bin")):
                self.odd[name] = "a folder, where a file is expected"
        else:
            self.odd[name] = "a pipe, socket or device, where a file is expected"

    def ending(self, *suffixes: str) -> list[str]:
        """Names of the files that end so, sorted."""
        return sorted(name for name in self.files if name.lower().endswith(suffixes))


def list_folder(folder: Path) -> Listing:
    """Look at the folder's entries, at most `MOST_ENTRIES` and those with names that loading asks for."""
    listing = Listing(folder)
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count >= MOST_ENTRIES:
                    listing.truncated = True
                    break
                listing.look_at(entry.name)
    except OSError as error:
        listing.fault = f"the folder cannot be read: {error.strerror}"
    if listing.truncated:
        for name in (*LARGEST, "model.safetensors", "pytorch_model.bin"):
            listing.look_at(name)
    return listing


def first_bytes(path: Path, count: int = 256) -> bytes:
    """The start of a regular file; empty if it cannot be read."""
    with suppress(OSError, ValueError):
        # Not to wait for anybody, should a pipe have taken the file's place since it was listed.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return file.read(count)
    return b""


def is_pointer(start: bytes) -> bool:
    """Whether a file is the text that git keeps in place of a large one."""
    return start.startswith(_POINTER)


def pointer_size(start: bytes) -> int | None:
    """The size of the file that a pointer stands for."""
    found = re.search(rb"^size (\d{1,18})$", start, re.MULTILINE)
    return int(found[1]) if found else None


def read_object(listing: Listing, name: str) -> tuple[dict[str, Any] | None, str]:
    """A JSON object of the folder, or None and why: ("" where there is no such file)."""
    if name in listing.odd:
        return None, f"{name} is {listing.odd[name]}"
    if name not in listing.files:
        return None, ""
    content = first_bytes(listing.folder / name, LARGEST.get(name, 2**20) + 1)
    if not content and listing.files[name]:
        return None, f"{name} cannot be read; check its permissions"
    if is_pointer(content):
        return None, f"{name} is a git-lfs pointer, not the file"
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError, MemoryError) as error:
        reason = str(error) if str(error) else type(error).__name__
        return None, f"{name} is not valid JSON ({reason[:200]})" if content else f"{name} is empty"
    if not isinstance(value, dict):
        return None, f"{name} holds a JSON {type(value).__name__}, an object is expected"
    return value, ""


def safetensors_header(path: Path, size: int) -> Header:
    """The header of a safetensors file of `size` bytes, and whether the file is as long as the header says."""
    start = first_bytes(path, 8)
    if len(start) < 8:
        return Header({}, "is empty" if size == 0 else "cannot be read" if not start else "is cut off")
    if is_pointer(first_bytes(path, 64)):
        return Header({}, "is a git-lfs pointer, not the file")
    length = int.from_bytes(start, "little")
    if length > size - 8:
        return Header({}, "is not a safetensors file, or is cut off in its header")
    if length > LARGEST_HEADER:
        return Header({}, f"has a header of {length:,} bytes, which is far too long")
    try:
        raw = json.loads(first_bytes(path, 8 + length)[8:].decode("utf-8"))
        tensors, end = {}, 0
        for name, entry in raw.items():
            if name == "__metadata__":
                continue
            dtype, shape = str(entry["dtype"]), tuple(int(n) for n in entry["shape"])
            first, last = (int(n) for n in entry["data_offsets"])
            if min((0, first, last - first, *shape)) < 0:
                raise ValueError(f"{name} has negative sizes")
            tensors[str(name)], end = (dtype, shape), max(end, last)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, MemoryError, OverflowError) as error:
        return Header({}, f"has a damaged header ({type(error).__name__})")
    have = size - 8 - length
    if have < end:
        return Header(tensors, f"is cut off: {have + 8 + length:,} of {end + 8 + length:,} bytes are there")
    return Header(tensors, "" if have == end else f"is {have - end:,} bytes longer than its header says")


def elements(shape: tuple[int, ...]) -> int:
    """The product of a shape."""
    total = 1
    for n in shape:
        total *= n
    return total


def stored_bytes(header: Header) -> int:
    """What the tensors take as they are stored, by dtype and shape."""
    return sum(elements(shape) * _ITEM_BITS.get(dtype, 8) // 8 for dtype, shape in header.tensors.values())
