"""A tokenizer's files on disk, checked: tiktoken ranks, or Hugging Face's tokenizer.json of a byte-level BPE."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = (
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>",
    "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
)  # fmt: skip
"""GLM-4's control tokens in the order of their ids: 151329 to 151342 behind GLM-4-9B's 151,329 ranks."""


_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f]")


@dataclass(frozen=True)
class Vocabulary:
    """ranks: token bytes -> id; special_tokens: name -> id; pattern: the file's own regex, where it has one."""

    ranks: dict[bytes, int]
    special_tokens: dict[str, int]
    pattern: str | None = None


def read_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of a checkpoint folder. Raises FileNotFoundError, ValueError (see `load_tokenizer`)."""
    if (folder / "tokenizer.model").is_file():
        ranks = read_ranks(folder / "tokenizer.model")
        specials = _configured_specials(folder / "tokenizer_config.json", len(ranks))
        return Vocabulary(ranks, specials)
    if (folder / "tokenizer.json").is_file():
        return read_tokenizer_json(folder / "tokenizer.json")
    raise FileNotFoundError(
        f"no tokenizer in {folder}: tokenizer.model is missing (and so is the -hf layout's tokenizer.json); "
        "copy it from the original checkpoint"
    )


def read_ranks(path: Path) -> dict[bytes, int]:
    """tiktoken's format: one token a line, its bytes in base64, a space, its rank. Ranks are 0..n-1, each once."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            encoded, rank_text = line.split()
            token, rank = base64.b64decode(encoded, validate=True), int(rank_text)
        except (ValueError, binascii.Error):
            shown = line[:40].decode("ascii", "backslashreplace")
            hint = " (it looks like a SentencePiece model, which GLM-4 does not use)" if _BINARY.search(line) else ""
            raise ValueError(
                f"{path}, line {number}: {shown!r} is not '<base64> <rank>'{hint}; download the file again"
            ) from None
        if token in ranks or not token:
            raise ValueError(
                f"{path}, line {number}: token {token!r} stands twice or is empty; download the file again"
            )
        ranks[token] = rank
    _check_ranks(ranks, path)
    return ranks


def _check_ranks(ranks: Mapping[bytes, int], path: Path) -> None:
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise ValueError(
            f"{path}: the ranks of its {len(ranks)} tokens are not 0 to {len(ranks) - 1}, each once; "
            "it is truncated or edited, download the file again"
        )
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise ValueError(
            f"{path}: {len(missing)} of the 256 single bytes have no token (first 0x{missing[0]:02x}), so not every "
            "text could be encoded; it is truncated or edited, download the file again"
        )


def _configured_specials(path: Path, n_ranks: int) -> dict[str, int]:
    """Ids of the control tokens: added_tokens_decoder's where it names one, else behind the ranks in order."""
    config = _read_json(path) if path.is_file() else {}
    decoder = config.get("added_tokens_decoder", {})
    try:
        specials = {str(entry["content"]): int(token_id) for token_id, entry in decoder.items()}
        names = config.get("additional_special_tokens") or ()
        others = [str(name["content"]) if isinstance(name, Mapping) else str(name) for name in names]
        # The original numbers its own 14 first, whatever order the file lists them in.
        defaults = [*SPECIAL_TOKENS, *(text for text in others if text not in SPECIAL_TOKENS)]
        taken = set(specials.values())
        for token_id, text in enumerate(defaults, start=n_ranks):
            if text not in specials and token_id not in taken:
                specials[text] = token_id
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: added_tokens_decoder cannot be read ({error!r}); copy the original's file") from None
    _check_specials(specials, n_ranks, path)
    return specials


def _check_specials(specials: Mapping[str, int], n_ranks: int, path: Path) -> None:
    for text, token_id in specials.items():
        if token_id < n_ranks:
            raise ValueError(
                f"{path}: control token {text!r} has id {token_id}, which the vocabulary's {n_ranks} ranks already "
                "use; the two files belong to different tokenizers"
            )
    if len(set(specials.values())) != len(specials) or "" in specials:
        raise ValueError(f"{path}: two control tokens share an id, or one is empty; copy the original's file")


def read_tokenizer_json(path: Path) -> Vocabulary:
    """Hugging Face's tokenizer.json, if it holds a byte-level BPE whose ids are its merge order (GLM-4's does)."""
    data = _read_json(path)
    try:
        model = data["model"]
        if model["type"] != "BPE":
            raise ValueError(f"{path}: its model is {model['type']!r}; only byte-level BPE is GLM-4's")
        added = {str(entry["content"]): int(entry["id"]) for entry in data.get("added_tokens", [])}
        letters = {letter: byte for byte, letter in byte_letters().items()}
        ranks = {
            bytes(letters[letter] for letter in token): int(token_id)
            for token, token_id in model["vocab"].items()
            if token not in added
        }
        merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        merged = [model["vocab"][left + right] for left, right in merges]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: not a byte-level BPE tokenizer ({error!r}); copy the original's tokenizer.model"
        ) from None
    if any(later < earlier for earlier, later in itertools.pairwise(merged)):
        raise ValueError(f"{path}: its ids are not in merge order, so they cannot serve as ranks; use tokenizer.model")
    _check_ranks(ranks, path)
    _check_specials(added, len(ranks), path)
    return Vocabulary(ranks, added, _split_pattern(data.get("pre_tokenizer")))


def byte_letters() -> dict[int, str]:
    """Byte -> the printable letter that stands for it in byte-level BPE files (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def _split_pattern(pre_tokenizer: object) -> str | None:
    if not isinstance(pre_tokenizer, Mapping):
        return None
    for step in pre_tokenizer.get("pretokenizers", [pre_tokenizer]):
        if isinstance(step, Mapping) and step.get("type") == "Split":
            pattern = step.get("pattern", {}).get("Regex")
            return None if pattern is None else str(pattern)
    return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # both broken JSON and broken UTF-8
        raise ValueError(f"{path}: not valid JSON ({error}); download the file again") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: holds {type(data).__name__}, not an object; download the file again")
    return data
