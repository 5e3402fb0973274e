"""Streamed text: joined it is the decoded text, and nothing shown is ever taken back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_tokenizer import tiny_tokenizer

from glm4.tokenizers import Detokenizer, load_tokenizer

TINY = tiny_tokenizer(padded_vocab_size=512)
# Mostly bytes that begin or go on with a character, so that broken UTF-8 of every kind comes up.
ANY_IDS = st.lists(
    st.one_of(
        st.integers(0, 511),
        st.sampled_from([0xE4, 0xBD, 0xA0, 0xF0, 0x9F, 0x91, 0x8D, 0xC3, 0xA9, 0xED, 0xFF]),
        st.sampled_from(sorted(TINY.special_tokens.values())),
        st.sampled_from(list(b"ab")),
    ),
    max_size=40,
)
STOPS = st.lists(st.text("ab你", min_size=1, max_size=4), max_size=3)


def _stream(ids: list[int], stop: tuple[str, ...] = (), skip: bool = True) -> tuple[list[str], str | None]:
    detokenizer = Detokenizer(TINY, stop, skip)
    pieces = [detokenizer.push(token_id) for token_id in ids]
    return [*pieces, detokenizer.finish()], detokenizer.stopped


def _first_stop(text: str, stops: list[str]) -> tuple[int, str] | None:
    """The obvious way: the first place where any stop string is complete; of those that end there, the longest."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return end - len(longest), longest
    return None


@given(ANY_IDS, st.booleans())
def test_joined_pieces_are_the_decoded_text(ids: list[int], skip: bool) -> None:
    pieces, stopped = _stream(ids, skip=skip)
    assert "".join(pieces) == TINY.decode(ids, skip_special_tokens=skip)
    assert stopped is None


@given(ANY_IDS, STOPS)
def test_text_ends_right_before_the_first_stop_string(ids: list[int], stops: list[str]) -> None:
    whole = TINY.decode(ids, skip_special_tokens=True)
    pieces, stopped = _stream(ids, tuple(stops))
    found = _first_stop(whole, stops)
    if found is None:
        assert (pieces, stopped) == (_stream(ids, tuple(stops))[0], None)
        assert "".join(pieces) == whole
    else:
        assert ("".join(pieces), stopped) == (whole[: found[0]], found[1])


@given(ANY_IDS, STOPS)
def test_nothing_is_withheld_without_reason(ids: list[int], stops: list[str]) -> None:
    """After every id, all is out but an unfinished character and the longest end that may begin a stop string."""
    detokenizer = Detokenizer(TINY, stops)
    shown = ""
    for count, token_id in enumerate(ids, start=1):
        shown += detokenizer.push(token_id)
        if detokenizer.stopped is not None:
            break
        data = b"".join(TINY.bytes_of(i) for i in ids[:count] if not TINY.is_special(i))
        ready = _complete_characters(data)
        withheld = [n for stop in stops for n in range(1, len(stop)) if ready.endswith(stop[:n])]
        assert shown == ready[: len(ready) - max(withheld, default=0)]


def _complete_characters(data: bytes) -> str:
    for cut in (3, 2, 1):
        tail = data[-cut:]
        try:
            tail.decode("utf-8")
        except UnicodeDecodeError as error:
            # Python also waits for the last byte of an encoded surrogate, which cannot come out right any more.
            surrogate = len(tail) == 2 and tail[0] == 0xED and 0xA0 <= tail[1] <= 0xBF
            if len(tail) == cut and ((error.start == 0 and error.reason == "unexpected end of data") or surrogate):
                return data[:-cut].decode("utf-8", "replace")
    return data.decode("utf-8", "replace")


def test_half_a_character_is_not_shown() -> None:
    pieces, _ = _stream(list("👍".encode()))
    assert pieces == ["", "", "", "👍", ""]


def test_what_never_finishes_is_shown_as_decode_shows_it() -> None:
    assert _stream([0xF0, 0x9F])[0] == ["", "", "\ufffd"]
    assert _stream([0xF0, 0x61])[0] == ["", "\ufffda", ""]


def test_control_tokens_kept_are_parted_by_spaces_as_in_decode() -> None:
    user, stop = TINY.special_tokens["<|user|>"], TINY.special_tokens["<|endoftext|>"]
    assert "".join(_stream([user, 97, 98, stop, user], skip=False)[0]) == "<|user|> ab <|endoftext|> <|user|>"


def test_a_stop_string_across_ids() -> None:
    pieces, stopped = _stream(list(b"one END two"), ("END", "never"))
    assert ("".join(pieces), stopped) == ("one ", "END")
    assert pieces[4:] == [""] * 8


def test_a_stop_string_that_does_not_come_is_flushed() -> None:
    assert _stream(list(b"xEN"), ("END",)) == (["x", "", "", "EN"], None)


def test_stop_string_alone_and_wrong_ones() -> None:
    assert Detokenizer(TINY, "END").stopped is None  # a bare string is one stop string, not three letters
    for bad in ([""], [None], [5]):
        with pytest.raises(ValueError, match="must be a non-empty string"):
            Detokenizer(TINY, bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="9999 is out of range"):
        Detokenizer(TINY).push(9999)


def test_numpys_integers_are_ids_and_nothing_else_is() -> None:
    np = pytest.importorskip("numpy")
    ids = TINY.encode("你好<|user|>")
    assert _stream(list(np.array(ids)), skip=False) == _stream(ids, skip=False)
    for bad in (True, float(ids[-1])):
        with pytest.raises(ValueError, match=f"token id {bad} .* is no integer"):
            Detokenizer(TINY).push(bad)  # type: ignore[arg-type]


def test_time_is_linear_in_text_with_a_hostile_stop_string() -> None:
    stop = "a" * 2000 + "b"

    def seconds(n: int) -> float:
        detokenizer = Detokenizer(TINY, [stop])
        start = time.process_time()
        for _ in range(n):
            detokenizer.push(97)
        return time.process_time() - start

    # The machine may be busy, but quadratic time would be four times as much in each attempt.
    ratios = []
    for _ in range(4):
        ratios.append(min(seconds(40_000) for _ in range(3)) / min(seconds(20_000) for _ in range(3)))
        if ratios[-1] < 2.6:
            return
    pytest.fail(f"twice the text took {ratios} times as long")


def test_real_vocabulary_streams_what_it_encodes(shared: Path) -> None:
    tokenizer = load_tokenizer(shared / "tokenizers" / "glm-4")
    text = "𠀀𠀁 rare CJK, 👩‍👩‍👧‍👦 family, naïve café — 你好，世界！"
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.push(token_id) for token_id in tokenizer.encode(text)]
    assert "".join(pieces) + detokenizer.finish() == text
    assert not any("\ufffd" in piece for piece in pieces)
