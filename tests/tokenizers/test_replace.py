"""Replacing in text that comes in pieces: the same as in the whole text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm4.tokenizers.ice import CLEAN_UP
from glm4.tokenizers.replace import Replacements

PAIRS = {
    "clean-up": CLEAN_UP,
    "overlapping": (("aa", "b"), ("ba", "aa"), ("aab", "")),
    "long": (("[[time]]", "2023"),),
    "none": (),
}


def pieces(cut: list[int], text: str) -> list[str]:
    """The text, cut at these places."""
    ends = sorted({n % (len(text) + 1) for n in cut} | {len(text)})
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("pairs", PAIRS.values(), ids=PAIRS)
@given(st.data())
def test_pieces_do_not_matter(pairs: tuple[tuple[str, str], ...], data: st.DataObject) -> None:
    alphabet = sorted({char for pair in pairs for char in "".join(pair)} | set("ab"))
    text = data.draw(st.text(st.sampled_from(alphabet), max_size=30))
    expected = text
    for old, new in pairs:
        expected = expected.replace(old, new)
    stream = Replacements(pairs)
    parts = [stream.push(piece) for piece in pieces(data.draw(st.lists(st.integers(0, 30), max_size=12)), text)]
    assert "".join(parts) + stream.finish() == expected


def test_only_what_may_still_change_is_withheld() -> None:
    stream = Replacements(CLEAN_UP)
    assert [stream.push(char) for char in "it 's a dog . no'"] == [
        *("i", "t", "", "", "'s", "", " a", "", " d", "o", "g", "", ".", "", "", " no", "'")
    ]
    assert stream.finish() == ""


def test_the_rest_comes_at_the_end() -> None:
    stream = Replacements(CLEAN_UP)
    assert stream.push("he 'v") == "he"
    assert stream.finish() == " 'v"
