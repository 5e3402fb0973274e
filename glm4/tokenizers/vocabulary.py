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

PREFIX_TOKENS = ("[gMASK]", "<sop>")

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How text is cut before merging: the original's pattern (it is cl100k's, which never looks past one chunk)."""

# How far behind the ranks a control token's id may lie. GLM-4's lie within 14, its embedding has 209 rows to spare.
_MOST_SPECIALS = 10_000

_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f]")


@dataclass(frozen=True)
class Vocabulary:
    """ranks: token bytes -> id; special_tokens: name -> id. Text is cut by PATTERN, whatever the file."""

    ranks: dict[bytes, int]
    special_tokens: dict[str, int]


def read_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of a checkpoint folder. Raises FileNotFoundError, ValueError (see `load_tokenizer`)."""
    if (folder / "tokenizer.model").is_file():
        ranks = read_ranks(folder / "tokenizer.model")
        specials = _configured_specials(folder / "tokenizer_config.json", len(ranks))
        return Vocabulary(ranks, specials)
    if (folder / "tokenizer.json").is_file():
        return read_tokenizer_json(folder / "tokenizer.json")
    raise FileNotFoundError(
        f"no tokenizer in {folder}: tokenizer.model is missing (and so are the -hf layout's tokenizer.json "
        "and ChatGLM-6B's ice_text.model); copy it from the original checkpoint"
    )


def read_ranks(path: Path) -> dict[bytes, int]:
    """tiktoken's format: one token a line, its bytes in base64, a space, its rank. Ranks are 0..n-1, each once."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(_read_bytes(path).split(b"\n"), start=1):
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
    config = _read_json(path) if path.exists() else {}
    decoder = config.get("added_tokens_decoder", {})
    try:
        specials = {str(entry["content"]): _id(token_id) for token_id, entry in decoder.items()}
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
        if not 0 <= token_id < n_ranks + _MOST_SPECIALS:
            raise ValueError(
                f"{path}: control token {text!r} has id {token_id}, outside 0 to {n_ranks + _MOST_SPECIALS - 1}; "
                "copy the original's file, or number added tokens right behind the others"
            )
        if token_id < n_ranks:
            raise ValueError(
                f"{path}: control token {text!r} has id {token_id}, which the vocabulary's {n_ranks} ranks already "
                "use; the two files belong to different tokenizers"
            )
    if len(set(specials.values())) != len(specials) or "" in specials:
        raise ValueError(f"{path}: two control tokens share an id, or one is empty; copy the original's file")


def read_tokenizer_json(path: Path) -> Vocabulary:
    """Hugging Face's tokenizer.json, if it is GLM-4's kind: a byte-level BPE whose ids are its merge order, and that
    cuts text by PATTERN. Any other is refused: it would be read, but give other ids than it means."""
    data = _read_json(path)
    try:
        _refuse_unlike_glm4(data)
        model = data["model"]
        added = {str(entry["content"]): _id(entry["id"]) for entry in data.get("added_tokens") or ()}
        letters = {letter: byte for byte, letter in byte_letters().items()}
        ranks = {
            bytes(letters[letter] for letter in token): _id(token_id)
            for token, token_id in model["vocab"].items()
            if token not in added
        }
        merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        merged = [model["vocab"][left + right] for left, right in merges]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise ValueError(
            f"{path}: not a byte-level BPE tokenizer like GLM-4's ({reason}); copy tokenizer.model from the original "
            "checkpoint next to it, which is then read instead"
        ) from None
    if any(later < earlier for earlier, later in itertools.pairwise(merged)):
        raise ValueError(f"{path}: its ids are not in merge order, so they cannot serve as ranks; use tokenizer.model")
    _check_ranks(ranks, path)
    _check_specials(added, len(ranks), path)
    return Vocabulary(ranks, added)


def _refuse_unlike_glm4(data: Mapping[str, Any]) -> None:
    """Refuse what a tokenizer.json does to text that GLM-4's does not (ValueError, or what broken data gives).

    Not looked at, since the ids are the original's either way: ignore_merges (tiktoken first looks for the whole chunk
    among the tokens, as `true` does), unk_token and fuse_unk (all 256 bytes are tokens, so nothing is unknown),
    decoder, truncation and padding.
    """
    model = data["model"]
    if model["type"] != "BPE":
        raise ValueError(f"its model is {_show(model['type'])}")
    for key in ("dropout", "byte_fallback", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise ValueError(f"its model has {key} {_show(model[key])}, GLM-4's has none")
    if data.get("normalizer") is not None:
        raise ValueError(f"it has the normalizer {_show(data['normalizer'])}, GLM-4's has none")
    _refuse_other_cut(data.get("pre_tokenizer"))
    _refuse_other_prefix(data.get("post_processor"))


def _refuse_other_cut(pre_tokenizer: Any) -> None:
    """GLM-4's pre_tokenizer: text is cut by PATTERN, then every byte becomes a letter."""
    steps = _steps(pre_tokenizer, "pretokenizers")
    kinds = [step["type"] for step in steps]
    if kinds != ["Split", "ByteLevel"]:
        raise ValueError(f"its pre_tokenizer is {_show(kinds)}, GLM-4's is ['Split', 'ByteLevel']")
    split, letters = steps
    for step, key, given, expected in (
        ("Split", "behavior", split["behavior"], "Isolated"),
        ("Split", "invert", split["invert"], False),
        ("Split", "pattern", split["pattern"], {"Regex": PATTERN}),
        ("ByteLevel", "use_regex", letters.get("use_regex", True), False),
        ("ByteLevel", "add_prefix_space", letters["add_prefix_space"], False),
    ):
        if given != expected:
            raise ValueError(f"its pre_tokenizer's {step} has {key} {_show(given)}, GLM-4's has {expected!r}")


def _refuse_other_prefix(post_processor: Any) -> None:
    """GLM-4's post_processor adds nothing, or the prefix that `encode` adds anyway. ByteLevel's is about offsets."""
    prefix = [{"SpecialToken": {"id": token, "type_id": 0}} for token in PREFIX_TOKENS]
    text = [{"Sequence": {"id": "A", "type_id": 0}}]
    for step in _steps(post_processor, "processors"):
        if step["type"] != "ByteLevel" and step.get("single") not in (text, prefix + text):
            raise ValueError(f"its post_processor ({_show(step['type'])}) adds something else than [gMASK]<sop>")


def _steps(step: Any, key: str) -> list[Any]:
    """The steps of a Sequence, or the one step there is."""
    if step is None:
        return []
    return list(step[key]) if step["type"] == "Sequence" else [step]


def _id(value: object) -> int:
    """An id as JSON has it: a number, or its digits where it is a key."""
    if isinstance(value, str) or type(value) is int:
        return int(value)
    raise TypeError(f"id {value!r} is no integer")


def _show(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 120 else shown[:117] + "..."


def byte_letters() -> dict[int, str]:
    """Byte -> the printable letter that stands for it in byte-level BPE files (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); check its permissions, or download it again"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    content = _read_bytes(path)
    try:
        data = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # broken UTF-8, broken JSON, a number of thousands of digits
        raise ValueError(f"{path}: not valid JSON ({error}); download the file again") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: holds {type(data).__name__}, not an object; download the file again")
    return data
