"""A report of the doctor: what to print, and the same as plain data."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
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
        text = json.dumps(whole, indent=2, ensure_ascii=False, default=str)
        return text.encode("utf-8", "replace").decode("utf-8")  # half characters, of broken file names

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
    """Text behind a label, its further lines below its beginning. Lines break between words, in a word that is longer
    than a line, and between any two Chinese letters, which take two columns each."""
    room = max(20, width - len(first))
    lines, line, columns = [], "", 0
    for piece in _pieces(text, room):
        taken = _columns(piece)
        if columns + _columns(piece.rstrip()) > room and line.strip():
            lines.append(line.rstrip())
            line, columns = "", 0
        line, columns = line + piece, columns + taken
    lines.append(line.rstrip())
    return [(first if not number else " " * len(first)) + part for number, part in enumerate(lines)]


def _pieces(text: str, room: int) -> Iterator[str]:
    """The text in parts that are not broken, the blanks behind a word with it."""
    for word in re.findall(r"[\u2e80-\uffef]\s*|[^\s\u2e80-\uffef]+\s*", text.strip()):
        yield from (word[at : at + room] for at in range(0, len(word), room))


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
