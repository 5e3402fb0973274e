"""A byte-level vocabulary's ids to text, one at a time."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, SupportsIndex

if TYPE_CHECKING:
    from .bpe import Tokenizer


class ByteStream:
    """`Tokenizer.decode`, one id at a time (see `TextStream`); withholds the bytes of an unfinished UTF-8 character,
    of which an emoji may have four in as many tokens."""

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        # With control tokens kept, decode() parts runs of text and control tokens by a space.
        self._anything_before = False
        self._space_due = False

    def push(self, token_id: SupportsIndex) -> str:
        """Take one id; return the text that can no longer change. Raises ValueError for an id out of range."""
        if not self._tokenizer.is_special(token_id):
            return self._run(self._utf8.decode(self._tokenizer.bytes_of(token_id)))
        if self._skip_special_tokens:
            return ""
        text = self._run(self._utf8.decode(b"", final=True))
        text += " " * self._anything_before + self._tokenizer.bytes_of(token_id).decode("utf-8")
        self._anything_before = self._space_due = True
        return text

    def finish(self) -> str:
        """The rest: an unfinished character as U+FFFD."""
        return self._run(self._utf8.decode(b"", final=True))

    def _run(self, text: str) -> str:
        if not text:
            return ""
        space, self._space_due, self._anything_before = " " * self._space_due, False, True
        return space + text
