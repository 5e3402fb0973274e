"""A vocabulary small enough to read, for tests that need no file: 256 bytes, a few words, GLM-4's control tokens."""

from __future__ import annotations

import base64
from pathlib import Path

from glm4.tokenizers import Tokenizer
from glm4.tokenizers.vocabulary import SPECIAL_TOKENS

WORDS = (" the", " weather", "get", "_time", "hello", "\n\n", "   ", "你好", "天气", "。", '{"', '":', "}\n", "👍")


def tiny_ranks() -> dict[bytes, int]:
    """Each word is merged from the left, byte by byte, so every beginning of it is a token too."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    for word in WORDS:
        data = word.encode()
        for end in range(2, len(data) + 1):
            ranks.setdefault(data[:end], len(ranks))
    return ranks


def tiny_tokenizer(padded_vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer of these ranks."""
    ranks = tiny_ranks()
    specials = {token: len(ranks) + index for index, token in enumerate(SPECIAL_TOKENS)}
    return Tokenizer(ranks, specials, padded_vocab_size=padded_vocab_size)


def write_ranks(path: Path) -> None:
    """The ranks as tiktoken's file."""
    lines = [base64.b64encode(token) + b" " + str(rank).encode() for token, rank in tiny_ranks().items()]
    path.write_bytes(b"\n".join(lines) + b"\n")
