"""A report of the doctor: what to print, and the same as plain data."""

from __future__ import annotations

import json
import re
import textwrap
import unicodedata
from dataclasses import dataclass, field
from typing import Any

LABEL = 14  # columns of the labels
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


@dataclass
class Section:
    """A heading and its rows of (label, text), or ready-made lines."""

    heading: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What the doctor found.

    Attributes:
        good: the answer to what was asked: it will load here; the message is known; the machine is fit.
        verdict: the same in words.
        problems: (what, remedy) pairs that speak against it.
        notes: what else is worth knowing.
        data: everything as plain data, for programs.
    """

    title: str
    good: bool = False
    verdict: str = ""
    sections: list[Section] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        """One JSON object."""
        whole = {
            "asked": self.title,
            "good": self.good,
            "verdict": self.verdict,
            "problems": [{"problem": what, "remedy": remedy} for what, remedy in self.problems],
            "notes": self.notes,
            **self.data,
        }
        return json.dumps(whole, indent=2, ensure_ascii=False, default=str)

    def as_text(self, width: int = 100) -> str:
        """For people, in lines of at most `width` columns (of a table's own width, if that is more)."""
        width = max(40, width)
        blocks = [f"glm4 doctor: {plain(self.title)}"]
        blocks += [_section(section, width) for section in self.sections]
        if self.notes:
            blocks.append("\n".join(["Notes", *(_bullet("-", note, width) for note in self.notes)]))
        verdict = [plain(self.verdict)]
        for what, remedy in self.problems:
            verdict.append(_bullet("x", what, width))
            if remedy:
                verdict.append(_bullet(" ", f"Remedy: {remedy}", width))
        blocks.append("\n".join(verdict))
        return "\n\n".join(blocks)


def plain(text: str) -> str:
    """One line that a terminal only shows: control characters become spaces, half characters are dropped."""
    return _CONTROL.sub(" ", text)


def _section(section: Section, width: int) -> str:
    lines = [section.heading]
    for label, text in section.rows:
        lines += _wrapped(f"  {label:<{LABEL}}", plain(text), width)
    return "\n".join(lines + section.lines)


def _bullet(mark: str, text: str, width: int) -> str:
    return "\n".join(_wrapped(f"  {mark} ", plain(text), width))


def _wrapped(first: str, text: str, width: int) -> list[str]:
    """Text behind a label, its further lines below its beginning. Chinese letters take two columns each."""
    columns = width - sum(unicodedata.east_asian_width(letter) in "WF" for letter in text[: 2 * width]) // 2
    return textwrap.wrap(
        text,
        max(columns, len(first) + 20),
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    ) or [first.rstrip()]
