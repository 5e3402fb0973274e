"""Ids to text while they come in, one at a time: what is safe to show now, and nothing that may still change."""

from __future__ import annotations

from collections.abc import Sequence

from .language_tokenizer import LanguageTokenizer
from .stop import StopMatcher


class Detokenizer:
    """Turns a growing list of ids into pieces of text; the pieces joined are `tokenizer.decode` of all ids.

    Withheld until decided: what the tokenizer's `text_stream` withholds (bytes of an unfinished UTF-8 character, say),
    and text that may be the beginning of a stop string. Nothing of a stop string, nor anything after it, is ever
    returned.

    Time is linear in the text, times the number of stop strings.
    """

    def __init__(
        self, tokenizer: LanguageTokenizer, stop: Sequence[str] = (), skip_special_tokens: bool = True
    ) -> None:
        """stop: strings that end the text; each must be non-empty (ValueError)."""
        self._text = tokenizer.text_stream(skip_special_tokens)
        self._stop = StopMatcher(stop)

    @property
    def stopped(self) -> str | None:
        """The stop string that ended the text, once one has; push and finish then return nothing more."""
        return self._stop.stopped

    def push(self, token_id: int) -> str:
        """Take one id; return the text that is now safe to show, often "". Raises ValueError for an id out of range."""
        return self._stop.push(self._text.push(token_id))

    def finish(self) -> str:
        """The rest: an unfinished character as U+FFFD, and what was withheld for a stop string that never came."""
        return self._stop.push(self._text.finish()) + self._stop.finish()
