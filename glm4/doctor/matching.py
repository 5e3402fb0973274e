"""Which known errors a pasted text holds: a line, a whole traceback, a terminal's wrapped output, a log."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from .known_faults import KNOWN_ERRORS, KnownError

LONGEST_TEXT = 400_000  # characters looked at: half from the start, half from the end, where the message stands
MOST_SHOWN = 3
GAP = 300  # characters that a `*` may stand for

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
# What is no part of a message: white space (terminals wrap anywhere), quotes of every kind (shells eat them, messages
# differ in them), the frames drawn around tracebacks, escaped line ends in logs, marks of quoted mail.
_SKIPPED = re.compile(r"""(?:\\[nrt"'\\]|[\s'"`´‘’“”「」『』«»│┃|╭╮╰╯─━❱>]|\[rank\d+\]:)+""")
# Chinese input methods' forms of ASCII. (Normalising as NFKC would take quadratic time on hostile text.)
_FULL_WIDTH = {code + 0xFEE0: code for code in range(0x21, 0x7F)} | {0x3000: 0x20}
# A browser's translation of the commonest forms.
_TRANSLATED = {
    "对象没有属性": " object has no attribute ",
    "没有属性": " has no attribute ",
    "得到了一个意外的关键字参数": " got an unexpected keyword argument ",
    "得到一个意外的关键字参数": " got an unexpected keyword argument ",
    "收到意外的关键字参数": " got an unexpected keyword argument ",
    "无法设置属性": " can't set attribute ",
    "值太多,无法解包(预期2)": " too many values to unpack (expected 2) ",
    "要解包的值太多(预期为2)": " too many values to unpack (expected 2) ",
}


@dataclass(frozen=True)
class Match:
    """A known error in a text: which, and the message as the table has it."""

    error: KnownError
    message: str
    end: int  # offset in the squeezed text, for sorting


@dataclass(frozen=True)
class _Squeezed:
    """A text without what `_SKIPPED` removes, in lower case, and where something was removed."""

    text: str
    gaps: frozenset[int]

    def is_edge(self, at: int) -> bool:
        """Whether a word may begin or end at this offset."""
        if not 0 < at < len(self.text) or at in self.gaps:
            return True
        before, after = self.text[at - 1], self.text[at]
        return not (_in_word(before) and _in_word(after))


def _in_word(character: str) -> bool:
    # Chinese letters around an English message do not belong to it.
    return character == "_" or (character.isascii() and character.isalnum())


def find_known_errors(text: str) -> list[Match]:
    """The known errors in a text, the last one first (what was raised last is what ended the program), at most three.

    White space, line wraps, quotes, terminal colours, letter case, paths and numbers do not matter. Takes any text, of
    any length, in time linear in it.
    """
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT // 2] + "\n" + text[-LONGEST_TEXT // 2 :]
    squeezed = _squeeze(text)
    is_traceback = "traceback(mostrecentcalllast)" in squeezed.text or re.search(r'File "[^"\n]+", line \d', text)
    found = []
    for error in KNOWN_ERRORS:
        if is_traceback and error.context and not any(_fragments(word)[0] in squeezed.text for word in error.context):
            continue
        ends = {message: _find(_fragments(message), squeezed) for message in error.messages}
        fullest = max((message for message, end in ends.items() if end), key=len, default=None)
        if fullest is not None:
            found.append(Match(error, fullest, max(ends.values())))
    return sorted(found, key=lambda match: -match.end)[:MOST_SHOWN]


def _squeeze(text: str) -> _Squeezed:
    text = html.unescape(_ESCAPES.sub("", text).translate(_FULL_WIDTH))
    for chinese, english in _TRANSLATED.items():
        text = text.replace(chinese, english)
    pieces = _SKIPPED.split(text.lower())
    gaps, at = set(), 0
    for piece in pieces:
        at += len(piece)
        gaps.add(at)
    return _Squeezed("".join(pieces), frozenset(gaps))


@cache
def _fragments(message: str) -> tuple[str, ...]:
    return tuple(_squeeze(part).text for part in message.split("*"))


def _find(fragments: tuple[str, ...], squeezed: _Squeezed) -> int:
    """Where the last occurrence of the fragments, one after the other, ends; 0 for none."""
    last_end = 0
    for start in _occurrences(fragments[0], squeezed.text, 0, len(squeezed.text)):
        if not squeezed.is_edge(start):
            continue
        end = start + len(fragments[0])
        for fragment in fragments[1:]:
            at = squeezed.text.find(fragment, end, end + GAP + len(fragment))
            if at < 0:
                break
            end = at + len(fragment)
        else:
            if not fragments[-1] or squeezed.is_edge(end):
                last_end = end
    return last_end


def _occurrences(fragment: str, text: str, start: int, stop: int) -> Iterator[int]:
    at = text.find(fragment, start, stop)
    while at >= 0:
        yield at
        at = text.find(fragment, at + 1, stop)
