"""Stop strings in text that comes in pieces: nothing of one, nor anything behind it, is ever let through."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Lets text through up to the first stop string, withholding what may be the beginning of one.

    Time is linear in the text, times the number of stop strings.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        """stop: strings that end the text; each must be non-empty (ValueError)."""
        if isinstance(stop, str):
            stop = (stop,)
        for text in stop:
            if not isinstance(text, str) or not text:
                raise ValueError(f"stop string {text!r} must be a non-empty string")
        self._stop = [_StopString(text) for text in stop]
        self._withheld = ""
        self.stopped: str | None = None
        """The stop string that ended the text, once one has; push and finish then return nothing more."""

    def push(self, text: str) -> str:
        """Take more text; return what is safe to show."""
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

    def finish(self) -> str:
        """What was withheld for a stop string that never came."""
        text, self._withheld = self._withheld, ""
        return text


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
