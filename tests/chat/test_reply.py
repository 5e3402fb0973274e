"""A reply back to content and calls: whole, in any pieces, hostile, and as the inverse of rendering."""

from __future__ import annotations

import gc
import itertools
import json
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tiny_tokenizer import tiny_tokenizer

from glm4.chat.assemble import collect, parse_text
from glm4.chat.glm4 import VARIANTS, Glm4Format
from glm4.chat.reply import (
    CallArguments,
    CallEnd,
    CallStart,
    ParsedReply,
    ReplyEvent,
    ReplyParser,
    TextDelta,
)
from glm4.errors import ToolCallError
from glm4.messages import Message, ToolCall

NAMES = ("get_weather", "get_weather_alert", "weather", "time", "天气", "查天气", "get-time")
BUILTIN: list[dict[str, Any]] = [{"type": name} for name in ("python", "simple_browser", "cogview")]
TOOLS: list[dict[str, Any]] = [{"name": name} for name in NAMES] + BUILTIN
TINY = tiny_tokenizer()
A = "<|assistant|>"


def _call(name: str, arguments: str) -> ToolCall:
    return ToolCall(name, arguments)


CASES: dict[str, tuple[str, ParsedReply]] = {
    "answer": ("\n你好", ParsedReply("你好")),
    "one newline only": ("\n\n你好\n", ParsedReply("\n你好\n")),
    "no newline at all": ("你好", ParsedReply("你好")),
    "empty": ("", ParsedReply("")),
    "call": ('get_weather\n{"city": "北京"}', ParsedReply("", (_call("get_weather", '{"city": "北京"}'),))),
    "no arguments": ("time\n{}", ParsedReply("", (_call("time", "{}"),))),
    "after prose on the line (GLM-4 issue 474)": (
        '\n好的，我来查询历史温度数据。get_weather\n{"city": "北京"}',
        ParsedReply("好的，我来查询历史温度数据。", (_call("get_weather", '{"city": "北京"}'),)),
    ),
    "after Chinese without any mark": ("我查天气\n{}", ParsedReply("我", (_call("查天气", "{}"),))),
    "longest name": ('get_weather_alert\n{"a": 1}', ParsedReply("", (_call("get_weather_alert", '{"a": 1}'),))),
    "not inside an identifier": ("\nset_time\n{}", ParsedReply("set_time\n{}")),
    "not behind a hyphen": ("\nset-time\n{}", ParsedReply("set-time\n{}")),
    "the longer of two that fit": ("\nget-time\n{}", ParsedReply("", (_call("get-time", "{}"),))),
    "two segments": (
        f'get_weather\n{{"c": 1}}{A}time\n{{"z": 2}}',
        ParsedReply("", (_call("get_weather", '{"c": 1}'), _call("time", '{"z": 2}'))),
    ),
    "one directly behind the other": (
        'get_weather\n{"c": 1}time\n{}\n \nweather\n{}\n',
        ParsedReply("", (_call("get_weather", '{"c": 1}'), _call("time", "{}"), _call("weather", "{}"))),
    ),
    "text behind a call": ("time\n{}\nthen", ParsedReply("\nthen", (_call("time", "{}"),))),
    "text, call, text": (f"\none{A}time\n{{}}{A}\ntwo", ParsedReply("one\ntwo", (_call("time", "{}"),))),
    "two answers": (f"\none{A}\ntwo", ParsedReply("one\ntwo")),
    "braces and quotes in strings": (
        'time\n{"a": "}{\\"}\\\\", "b": {"c": [{}, "{"]}} end',
        ParsedReply(" end", (_call("time", '{"a": "}{\\"}\\\\", "b": {"c": [{}, "{"]}}'),)),
    ),
    "indented": ('time\n{\n    "a": 1\n}', ParsedReply("", (_call("time", '{\n    "a": 1\n}'),))),
    "white space before the object": ("time\n \n {}", ParsedReply("", (_call("time", "{}"),))),
    "a name in prose": ("\nThe time\nis now, weather", ParsedReply("The time\nis now, weather")),
    "name and something else": ("\ntime\n[1]", ParsedReply("time\n[1]")),
    "name and braces that are no object": ("\ntime\n{ x: 1 }", ParsedReply("time\n{ x: 1 }")),
    "undeclared name": ('get_news\n{"a": 1}', ParsedReply('get_news\n{"a": 1}')),
    "cut off in the arguments": ('time\n{"a": "x}', ParsedReply("", (_call("time", '{"a": "x}'),), complete=False)),
    "cut off in an escape": ('time\n{"a": "\\', ParsedReply("", (_call("time", '{"a": "\\'),), complete=False)),
    "cut off before the arguments": ("\nso time\n{", ParsedReply("so time\n{")),
    "balanced but not JSON": ('time\n{"a": oops}', ParsedReply("", (_call("time", '{"a": oops}'),))),
    "a broken call, then another": (
        f'time\n{{"a": {A}time\n{{}}',
        ParsedReply("", (_call("time", '{"a": '), _call("time", "{}"))),
    ),
    "python": ("python\nprint({'a': 1})\n\nx = 2", ParsedReply("", (_call("python", "print({'a': 1})\n\nx = 2"),))),
    "python holding what looks like a call": ("python\ntime\n{}", ParsedReply("", (_call("python", "time\n{}"),))),
    "python without code": ("python\n", ParsedReply("", (_call("python", ""),))),
    "browser": (
        f'\n我搜索{A}simple_browser\nsearch("GLM-4", recency_days=7)',
        ParsedReply("我搜索", (_call("simple_browser", 'search("GLM-4", recency_days=7)'),)),
    ),
    "cogview": ("cogview\nA cat.", ParsedReply("", (_call("cogview", "A cat."),))),
    "python in the text": ("\npython\nis a snake", ParsedReply("python\nis a snake")),
    "python behind prose": ("\nuse python\nx = 1", ParsedReply("use python\nx = 1")),
    "only the beginning of a header": ("pyth", ParsedReply("pyth")),
    "a beginning of a name at the end": ("\nget_weath", ParsedReply("get_weath")),
}


@pytest.mark.parametrize("case", CASES)
def test_whole(case: str) -> None:
    reply, parsed = CASES[case]
    assert parse_text(reply, TOOLS) == parsed


def _feed(pieces: Iterable[str], tools: list[dict[str, Any]] | None = TOOLS) -> list[ReplyEvent]:
    """Pieces to events; A stands for the control token, which comes as an id of its own."""
    parser = ReplyParser(tools)
    events: list[ReplyEvent] = []
    for piece in pieces:
        events += parser.new_segment() if piece == A else parser.push(piece)
    return events + parser.finish()


def _segments(reply: str) -> list[str]:
    return [piece for segment in reply.split(A) for piece in (A, segment)][1:]


@pytest.mark.parametrize("case", CASES)
def test_streamed_at_every_split(case: str) -> None:
    reply, parsed = CASES[case]
    segments = _segments(reply)
    assert collect(_feed(piece for s in segments for piece in ([s] if s == A else s))) == parsed
    for index, segment in enumerate(segments):
        for cut in range(len(segment) if segment != A else 0):
            pieces = [*segments[:index], segment[:cut], segment[cut:], *segments[index + 1 :]]
            assert collect(_feed(pieces)) == parsed


@given(
    st.lists(
        st.sampled_from([*NAMES, "python", "\n", "{", "}", '"', "\\", " ", "a", "好", A, '{"a": 1}']), max_size=14
    ),
    st.data(),
)
def test_streamed_is_whole_for_any_text(parts: list[str], data: st.DataObject) -> None:
    reply = "".join(parts)
    pieces: list[str] = []
    for segment in _segments(reply):
        if segment == A:
            pieces.append(A)
            continue
        cuts = sorted(data.draw(st.lists(st.integers(0, len(segment)), max_size=5)))
        edges = [0, *cuts, len(segment)]
        pieces += [segment[a:b] for a, b in itertools.pairwise(edges)]
    assert collect(_feed(pieces)) == parse_text(reply, TOOLS)


@given(st.lists(st.sampled_from([*'\n{} "ab好', "time"]), max_size=20).map("".join))
def test_nothing_is_lost(reply: str) -> None:
    """Every character comes out, as text or as part of a call, but the format's newlines and space behind a call."""
    parsed = parse_text(reply, TOOLS)
    out = parsed.content + "".join(f"{call.name}\n{call.arguments}" for call in parsed.tool_calls)
    assert sorted(out.replace("\n", "").replace(" ", "")) == sorted(reply.replace("\n", "").replace(" ", ""))


def test_events_come_in_order_and_as_soon_as_they_can() -> None:
    parser = ReplyParser(TOOLS)
    assert parser.push("\nLet me see. ge") == [TextDelta("Let me see. ")]
    assert parser.push("t_weather") == []
    assert parser.push("\n") == []
    assert parser.push("{") == []
    assert parser.push('"ci') == [CallStart(0, "get_weather"), CallArguments(0, '{"ci')]
    assert parser.push('ty": "北') == [CallArguments(0, 'ty": "北')]
    assert parser.push('京"}\n') == [CallArguments(0, '京"}'), CallEnd(0)]
    assert parser.push("ti") == []
    assert parser.push("ny") == [TextDelta("\ntiny")]
    assert parser.new_segment() == []
    assert parser.push("python\nx") == [CallStart(1, "python"), CallArguments(1, "x")]
    assert parser.push(" = 1") == [CallArguments(1, " = 1")]
    assert parser.finish() == [CallEnd(1)]


def test_text_is_withheld_no_longer_than_it_may_become_a_call() -> None:
    parser = ReplyParser(TOOLS)
    assert parser.push("\nset_time") == [TextDelta("set_time")]  # part of a longer word: cannot
    assert parser.push(" time\n") == [TextDelta(" ")]
    assert parser.push("flies") == [TextDelta("time\nflies")]
    assert parser.push(" time\n" + " " * 20) == [TextDelta(" time\n" + " " * 20)]  # too far from any object


def test_without_tools_everything_is_text_at_once() -> None:
    parser = ReplyParser()
    assert parser.push("\n") == []
    assert parser.push("time\n{}") == [TextDelta("time\n{}")]
    assert parser.push("python\n") == [TextDelta("python\n")]
    assert parser.finish() == []
    assert parse_text(f"\nthe token {A} means", None) == ParsedReply(f"the token {A} means")


def test_malformed_tools_are_refused() -> None:
    with pytest.raises(ToolCallError, match=r"tools\[0\]"):
        ReplyParser([{"type": "function"}])


# Ids.


def test_ids_tell_the_control_token_from_its_name() -> None:
    chat = Glm4Format(TINY, "glm-4-chat")
    assistant, user = TINY.special_tokens[A], TINY.special_tokens["<|user|>"]

    def plain(text: str) -> list[int]:
        return TINY.encode(text, add_special_tokens=False, parse_special=False)

    ids = [*plain(f"\nthe token {A}"), assistant, *plain("time\n{}"), user, *plain("not mine")]
    assert chat.parse(ids, TOOLS) == ParsedReply(f"the token {A}", (_call("time", "{}"),))
    assert chat.parse([*plain("\n"), *"👍".encode()[:2]], TOOLS) == ParsedReply("\ufffd")
    assert chat.parse([], TOOLS) == ParsedReply("")
    assert chat.parse("time\n{}", TOOLS).tool_calls == (_call("time", "{}"),)


# Rendering and parsing are each other's inverse.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FUNCTION_CALLS = st.builds(
    lambda name, arguments, indent: ToolCall(name, json.dumps(arguments, ensure_ascii=False, indent=indent)),
    st.sampled_from(NAMES),
    st.dictionaries(st.text(max_size=6), JSON, max_size=3),
    st.sampled_from([None, 4]),
)
BUILTIN_CALLS = st.builds(ToolCall, st.sampled_from(["python", "simple_browser", "cogview"]), st.text(max_size=30))
CONTENT = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(["\n", " ", "time", "python", "{", "好", A]), max_size=12).map("".join),
)


@given(CONTENT, st.lists(FUNCTION_CALLS | BUILTIN_CALLS, max_size=3), st.sampled_from(sorted(VARIANTS)))
def test_render_then_parse_is_the_identity(content: str, calls: list[ToolCall], variant: str) -> None:
    """For every content that does not itself spell a call, which the model's own text cannot be told from."""
    assume(not parse_text("\n" + content.replace(A, ""), TOOLS).tool_calls)
    chat = Glm4Format(TINY, variant)
    question = [Message("user", "q")]
    message = Message("assistant", content, tool_calls=tuple(calls))
    prompt = chat.render(question, TOOLS)
    rendered = chat.render_for_training([*question, message], TOOLS)
    reply = rendered.ids[len(prompt) :] if content or calls else []
    assert chat.parse(reply, TOOLS) == ParsedReply(content, tuple(calls))


def test_a_call_written_as_metadata_parses_as_a_call() -> None:
    chat = Glm4Format(TINY, "glm-4-chat")
    message = {"role": "assistant", "metadata": "time", "content": '{"a": 1}'}
    ids = chat.render([message], add_generation_prompt=False)
    assert chat.parse(ids[3:], TOOLS).tool_calls == (_call("time", '{"a": 1}'),)


# Hostile text.

HOSTILE = {
    "name and brace": "get_weather\n{",
    "name, brace, quote": 'get_weather\n{"',
    "braces": "{",
    "quotes": '"',
    "names run together": "get_weather",
    "beginnings of a name": "get_weathe",
    "names and newlines": "time\n",
    "name and space": "time\n" + " " * 16,
    "newlines": "\n",
    "calls": "time\n{}",
    "space behind a call": "time\n{} ",
    "backslashes": "\\",
    "Chinese names": "天气\n",
}


def _seconds(text: str, step: int) -> float:
    parser = ReplyParser(TOOLS)
    gc.disable()  # its passes over the events made so far would be measured too, and they are not linear
    try:
        start = time.process_time()
        for position in range(0, len(text), step):
            parser.push(text[position : position + step])
        parser.finish()
        return time.process_time() - start
    finally:
        gc.enable()


@pytest.mark.parametrize("opening", ["\n", 'time\n{"'], ids=["in text", "in arguments"])
@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("step", [7, 1 << 20], ids=["streamed", "whole"])
def test_time_is_linear_on_hostile_text(hostile: str, opening: str, step: int) -> None:
    unit = HOSTILE[hostile]
    n = 25_000 if step < 100 else 100_000

    def text(characters: int) -> str:
        return opening + unit * (characters // len(unit))

    # The least of several runs: the machine may be busy, but quadratic time would be four times as much in each.
    for _ in range(4):
        twice = min(_seconds(text(2 * n), step) for _ in range(2))
        ratio = twice / min(_seconds(text(n), step) for _ in range(2))
        if ratio < 2.5 or twice < 0.01:
            return
    pytest.fail(f"twice the text took {ratio:.1f} times as long")


def test_a_megabyte_is_parsed_in_seconds() -> None:
    for unit in HOSTILE.values():
        assert _seconds("\n" + unit * (1_000_000 // len(unit)), 1 << 20) < 10
