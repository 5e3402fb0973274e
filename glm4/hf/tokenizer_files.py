"""A tokenizer's files in the form that the original, the export and transformers' own classes read."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..tokenizers.vocabulary import PATTERN, PREFIX_TOKENS, byte_letters


def write_ranks(ranks: Mapping[bytes, int], path: Path) -> None:
    """tokenizer.model: a token a line in base64, and its rank."""
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in sorted(ranks.items(), key=lambda x: x[1])]
    path.write_bytes(b"".join(lines))


def write_tokenizer_json(ranks: Mapping[bytes, int], special_tokens: Mapping[str, int], path: Path) -> None:
    """tokenizer.json: the same vocabulary for Hugging Face's `tokenizers`.

    Its merges are every way to cut a token into two, since tiktoken merges whatever two pieces make up a token. Of the
    two that a text offers, both take the one whose token has the lower rank. `[gMASK]<sop>` is put in front.
    """
    letters = byte_letters()
    written = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges: list[list[str]] = []
    for token in sorted(ranks, key=ranks.__getitem__):
        cuts = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = sorted((ranks[a], ranks[b], written[a], written[b]) for a, b in cuts if a in ranks and b in ranks)
        merges += [[left, right] for _, _, left, right in known]
    added = [
        {"id": token_id, "content": name, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for name, token_id in sorted(special_tokens.items(), key=lambda x: x[1])
    ]
    prefix = [name for name in PREFIX_TOKENS if name in special_tokens]
    prefix_steps = [{"SpecialToken": {"id": name, "type_id": 0}} for name in prefix]
    sequences = [{"Sequence": {"id": name, "type_id": type_id}} for name, type_id in (("A", 0), ("B", 1))]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    value: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False},
                byte_level,
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*prefix_steps, sequences[0]],
            "pair": [*prefix_steps, *sequences],
            "special_tokens": {name: {"id": name, "ids": [special_tokens[name]], "tokens": [name]} for name in prefix},
        },
        "decoder": byte_level | {"add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,  # as tiktoken: a piece that is a token is not merged together first
            "vocab": {written[token]: rank for token, rank in sorted(ranks.items(), key=lambda x: x[1])},
            "merges": merges,
        },
    }
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def added_tokens(special_tokens: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """`added_tokens_decoder` of tokenizer_config.json: by id, as text."""
    shape = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    by_id = sorted(special_tokens.items(), key=lambda item: item[1])
    return {str(token_id): {"content": name, **shape} for name, token_id in by_id}
