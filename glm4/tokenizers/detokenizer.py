"""Ids to text while they come in, one at a time: what is safe to show now, and nothing that may still change."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from .bpe import Tokenizer
from .stop import StopMatcher


class Detokenizer:
    """Turns a growing list of ids into pieces of text; the pieces joined are `tokenizer.decode` of all ids.

    Withheld until decided: bytes of an unfinished UTF-8 character (an emoji may span four tokens), and text that may
    be the beginning of a stop string. Nothing of a stop string, nor anything after it, is ever returned.

    Time is linear in the text, times the number of stop strings.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), skip_special_tokens: bool = True) -> None:
        """stop: strings that end the text; each must be non-empty (ValueError)."""
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = StopMatcher(stop)
        # With control tokens kept, decode() parts runs of text and control tokens by a space.
        self._anything_before = False
        self._space_due = False

    @property
    def stopped(self) -> str | None:
        """The stop string that ended the text, once one has; push and finish then return nothing more."""
        return self._stop.stopped

    def push(self, token_id: int) -> str:
        """Take one id; return the text that is now safe to show, often "". Raises ValueError for an id out of range."""
        if not self._tokenizer.is_special(token_id):
            return self._stop.push(self._run(self._utf8.decode(self._tokenizer.bytes_of(token_id))))
        if self._skip_special_tokens:
            return ""
        text = self._run(self._utf8.decode(b"", final=True))
        text += " " * self._anything_before + self._tokenizer.bytes_of(token_id).decode("utf-8")
        self._anything_before = self._space_due = True
        return self._stop.push(text)

    def finish(self) -> str:
        """The rest: an unfinished character as U+FFFD, and what was withheld for a stop string that never came."""
        return self._stop.push(self._run(self._utf8.decode(b"", final=True))) + self._stop.finish()

    def _run(self, text: str) -> str:
        if not text:
            return ""
        space, self._space_due, self._anything_before = " " * self._space_due, False, True
        return space + text
