"""str.replace on text that comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class Replacements:
    """`text.replace(old, new)` for each pair in turn, on text in any pieces; the results joined do not depend on them.

    Withheld is what may be the beginning of an `old`, for each pair less than its length.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._stages = [_Replacement(old, new) for old, new in pairs]

    def push(self, text: str) -> str:
        """Take more text; return what can no longer change."""
        for stage in self._stages:
            if not text:
                break
            text = stage.push(text)
        return text

    def finish(self) -> str:
        """The text is over: what was withheld."""
        text = ""
        for stage in self._stages:
            text = stage.push(text) + stage.finish()
        return text


class _Replacement:
    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = old, new
        self._withheld = ""

    def push(self, text: str) -> str:
        *complete, rest = (self._withheld + text).split(self._old)
        longest = min(len(rest), len(self._old) - 1)
        size = next((n for n in range(longest, 0, -1) if self._old.startswith(rest[-n:])), 0)
        self._withheld = rest[len(rest) - size :]
        return "".join(part + self._new for part in complete) + rest[: len(rest) - size]

    def finish(self) -> str:
        text, self._withheld = self._withheld, ""
        return text
