"""From a reply's ids to content and calls: where stop strings count, and where they do not."""

from __future__ import annotations

import pytest
from tiny_tokenizer import tiny_tokenizer

from glm4.chat import ReplyAssembler, ReplyParser
from glm4.messages import ToolCall

TOKENIZER = tiny_tokenizer()
TOOLS = [{"name": "get_weather", "parameters": {}}]
TURN = TOKENIZER.special_tokens["<|assistant|>"]


def assembled(*segments: str, stop: tuple[str, ...] = ()) -> tuple[str, list[ToolCall], ReplyAssembler]:
    """The reply that the segments' ids make, joined by the control token."""
    reply = ReplyAssembler(TOKENIZER, ReplyParser(TOOLS), stop)
    ids: list[int] = []
    for segment in segments:
        ids += [TURN] * bool(ids) + TOKENIZER.encode(segment, add_special_tokens=False)
    pieces = [reply.push(token_id) for token_id in ids] + [reply.finish()]
    return "".join(piece.text for piece in pieces), [call for piece in pieces for call in piece.tool_calls], reply


def test_the_formats_leading_newline_is_no_stop_string() -> None:
    content, _, reply = assembled("\nfirst\nsecond", stop=("\n",))
    assert (content, reply.stopped) == ("first", "\n")


def test_arguments_of_a_call_hold_no_stop_string() -> None:
    content, calls, reply = assembled('get_weather\n{"city": "Trondheim"}', stop=("Tron", "\n", '"'))
    assert (content, reply.stopped, reply.called) == ("", None, True)
    assert calls == [ToolCall("get_weather", '{"city": "Trondheim"}')]


def test_a_stop_string_may_come_to_light_at_the_end() -> None:
    """What might begin a call is withheld; when nothing follows it was text, and text may hold a stop string."""
    content, calls, reply = assembled("\nask get_weather", stop=("weather",))
    assert (content, calls, reply.stopped) == ("ask get_", [], "weather")


def test_nothing_behind_a_stop_string_is_shown() -> None:
    content, _, reply = assembled("\none STOP two", "\nthree", stop=("STOP",))
    assert (content, reply.stopped) == ("one ", "STOP")


@pytest.mark.parametrize("cut", range(len('get_weather\n{"city": "B"')))
def test_a_call_cut_off_is_handed_out_as_far_as_it_went(cut: int) -> None:
    text = '\nfirst get_weather\n{"city": "B"'[: len('\nfirst get_weather\n{"') + cut]
    content, calls, reply = assembled(text)
    assert content.rstrip() == "first"
    assert [call.arguments for call in calls] == [text.partition("get_weather\n")[2]]
    assert (reply.called, reply.complete) == (False, False)


def test_half_a_character_stays_in_its_own_segment() -> None:
    reply = ReplyAssembler(TOKENIZER, ReplyParser(TOOLS))
    ids = [*TOKENIZER.encode("\na", add_special_tokens=False), 0xE4, TURN, *TOKENIZER.encode("\nb", False)]
    content = "".join(reply.push(token_id).text for token_id in ids) + reply.finish().text
    assert content == "a\ufffd\nb"
