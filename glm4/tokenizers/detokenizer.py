"""Ids to text while they come in, one at a time: what is safe to show now, and nothing that may still change."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from .bpe import Tokenizer


class Detokenizer:
    """Turns a growing list of ids into pieces of text; the pieces joined are `tokenizer.decode` of all ids.

    Withheld until decided: bytes of an unfinished UTF-8 character (an emoji may span four tokens), and text that may
    be the beginning of a stop string. Nothing of a stop string, nor anything after it, is ever returned.

    Time is linear in the text, times the number of stop strings.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), skip_special_tokens: bool = True) -> None:
        """stop: strings that end the text; each must be non-empty (ValueError)."""
        if isinstance(stop, str):
            stop = (stop,)
        for text in stop:
            if not isinstance(text, str) or not text:
                raise ValueError(f"stop string {text!r} must be a non-empty string")
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = [_StopString(text) for text in stop]
        self._withheld = ""
        # With control tokens kept, decode() parts runs of text and control tokens by a space.
        self._anything_before = False
        self._space_due = False
        self.stopped: str | None = None
        """The stop string that ended the text, once one has; push and finish then return nothing more."""

    def push(self, token_id: int) -> str:
        """Take one id; return the text that is now safe to show, often "". Raises ValueError for an id out of range."""
        if not self._tokenizer.is_special(token_id):
            return self._release(self._run(self._utf8.decode(self._tokenizer.bytes_of(token_id))))
        if self._skip_special_tokens:
            return ""
        text = self._run(self._utf8.decode(b"", final=True))
        text += " " * self._anything_before + self._tokenizer.bytes_of(token_id).decode("utf-8")
        self._anything_before = self._space_due = True
        return self._release(text)

    def finish(self) -> str:
        """The rest: an unfinished character as U+FFFD, and what was withheld for a stop string that never came."""
        text = self._release(self._run(self._utf8.decode(b"", final=True)))
        if self.stopped is None:
            text, self._withheld = text + self._withheld, ""
        return text

    def _run(self, text: str) -> str:
        if not text:
            return ""
        space, self._space_due, self._anything_before = " " * self._space_due, False, True
        return space + text

    def _release(self, text: str) -> str:
        if self.stopped is not None:
            return ""
        if not self._stop:
            return text
        for index, char in enumerate(text):
            # Every stop string takes the character; of those it completes, the longest reaches furthest back.
            complete = [stop for stop in self._stop if stop.push(char)]
            if complete:
                self.stopped = max((stop.text for stop in complete), key=len)
                shown = self._withheld + text[: index + 1]
                self._withheld = ""
                return shown[: len(shown) - len(self.stopped)]
        text = self._withheld + text
        safe = len(text) - max(stop.matched for stop in self._stop)
        self._withheld = text[safe:]
        return text[:safe]


class _StopString:
    """Knuth-Morris-Pratt search fed one character at a time: how much of the string's beginning the text ends with."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0  # characters of `text` that the text so far ends with
        self._fallback = [0] * len(text)  # for each prefix, its longest proper prefix that is also its suffix
        length = 0
        for i in range(1, len(text)):
            while length and text[i] != text[length]:
                length = self._fallback[length - 1]
            length += text[i] == text[length]
            self._fallback[i] = length

    def push(self, char: str) -> bool:
        """Whether the string is complete with this character."""
        while self.matched and char != self.text[self.matched]:
            self.matched = self._fallback[self.matched - 1]
        self.matched += char == self.text[self.matched]
        return self.matched == len(self.text)
