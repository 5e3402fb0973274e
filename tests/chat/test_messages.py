"""Both ways of writing a conversation come out as the same messages; wrong ones are named."""

from __future__ import annotations

from typing import Any

import pytest

from glm4.errors import InputError, ToolCallError
from glm4.messages import (
    ImagePart,
    Message,
    TextPart,
    Tool,
    ToolCall,
    as_messages,
    as_tools,
    declared_tools,
)

WEATHER = {"name": "get_weather", "description": "查天气", "parameters": {"type": "object", "properties": {}}}
USER = {"role": "user", "content": "北京天气"}


def test_openai_form_and_the_originals_are_the_same_conversation() -> None:
    openai = as_messages(
        [
            USER,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "北京"}}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "晴"},
        ],
        tools=[{"type": "function", "function": WEATHER}],
    )
    assert openai == (
        Message("system", "", tools=(Tool("function", WEATHER),)),
        Message("user", "北京天气"),
        Message("assistant", "", tool_calls=(ToolCall("get_weather", '{"city": "北京"}', "c1"),)),
        Message("observation", "晴", tool_call_id="c1"),
    )
    original = as_messages(
        [
            {"role": "system", "content": "", "tools": [{"type": "function", "function": WEATHER}]},
            USER,
            {"role": "assistant", "metadata": "get_weather", "content": '{"city": "北京"}'},
            {"role": "observation", "content": "晴"},
        ]
    )
    assert original[:2] == openai[:2]
    assert original[2] == Message("assistant", '{"city": "北京"}', metadata="get_weather")
    assert original[3] == Message("observation", "晴")
    assert declared_tools(openai) == declared_tools(original) == as_tools([WEATHER])


def test_messages_pass_through_unchanged() -> None:
    once = as_messages([{"role": "developer", "content": "s"}, USER, {"role": "assistant", "content": "a"}], [WEATHER])
    assert as_messages(once) == once
    assert as_messages(iter(once)) == once


def test_tools_join_an_existing_system_message() -> None:
    messages = as_messages([{"role": "system", "content": "s"}, USER], [{"type": "python"}])
    assert messages[0] == Message("system", "s", tools=(Tool("python"),))
    assert as_messages([USER], [])[0].role == "user"
    assert as_messages([{"role": "system", "content": "s", "tools": []}])[0].tools == ()


@pytest.mark.parametrize(
    "tool",
    [WEATHER, {"type": "function", "function": WEATHER}, {"type": "function", **WEATHER}, Tool("function", WEATHER)],
)
def test_all_forms_of_a_function(tool: Any) -> None:
    (checked,) = as_tools([tool])
    assert checked == Tool("function", WEATHER)
    assert checked.name == "get_weather"
    assert list(checked.function or ()) == ["name", "description", "parameters"]


def test_content_in_parts() -> None:
    (message,) = as_messages(
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what"},
                    {"type": "image_url", "image_url": {"url": "http://x/a.png"}},
                    {"type": "image", "image": b"png"},
                    {"type": "image", "url": "b.png"},
                    {"type": "text", "text": "is it?"},
                ],
            }
        ]
    )
    assert message.text == "what\nis it?"
    assert message.images == ("http://x/a.png", b"png", "b.png")
    picture = object()
    (original,) = as_messages([{"role": "user", "content": "描述", "image": picture}])
    assert original.content == (ImagePart(picture), TextPart("描述"))


def test_missing_arguments() -> None:
    def arguments(name: str, **given: object) -> str:
        call = {"function": {"name": name, **given}}
        return as_messages([{"role": "assistant", "tool_calls": [call]}])[0].tool_calls[0].arguments

    assert arguments("now") == arguments("now", arguments="") == arguments("now", arguments=None) == "{}"
    assert arguments("python") == ""
    assert arguments("now", arguments='{"a" :1}') == '{"a" :1}'


def test_the_older_function_call() -> None:
    (message,) = as_messages([{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}])
    assert message.tool_calls == (ToolCall("f", "{}"),)
    assert as_messages([{"role": "function", "name": "f", "content": "1"}])[0].role == "observation"


def test_text_that_is_no_text() -> None:
    (message,) = as_messages([{"role": "user", "content": "a\ud83d\udc4d\udc00\x00"}])
    assert message.text == "a👍\ufffd\x00"


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], r"messages is empty; pass at least one"),
        ("你好", r"must be a list of messages, not '你好' \(str\)"),
        (USER, "must be a list of messages"),
        (None, "must be a list of messages, not None"),
        (["你好"], r"messages\[0\] is '你好' \(str\); a message is a dict"),
        (
            [USER, {"role": "bot", "content": ""}],
            r"messages\[1\]\.role is 'bot' \(str\); it must be one of system, user",
        ),
        ([{"content": "x"}], r"messages\[0\]\.role is None"),
        ([{"role": ["user"], "content": "x"}], r"messages\[0\]\.role is \['user'\]"),
        ([{"role": "user"}], r"messages\[0\]\.content is missing"),
        ([{"role": "user", "content": 5}], r"messages\[0\]\.content is 5 \(int\)"),
        ([{"role": "user", "content": {"text": "x"}}], r"messages\[0\]\.content is \{'text': 'x'\} \(dict\)"),
        ([{"role": "user", "content": b"x"}], r"messages\[0\]\.content is b'x' \(bytes\)"),
        ([{"role": "user", "content": [5]}], r"messages\[0\]\.content\[0\] is 5"),
        (
            [{"role": "user", "content": [{"type": "audio"}]}],
            r"content\[0\]\.type is 'audio' .* text, image_url or image",
        ),
        ([{"role": "user", "content": [{"type": "text"}]}], r"content\[0\]\.text is None"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], r"content\[0\] of type image_url holds no image"),
        (
            [{"role": "system", "content": [{"type": "image", "image": 1}]}],
            r"messages\[0\] has an image under .* system",
        ),
        ([{"role": "assistant", "content": "x", "metadata": 5}], r"messages\[0\]\.metadata is 5"),
        ([{"role": "assistant", "content": "x", "metadata": "a\nb"}], r"messages\[0\]\.metadata .* one line"),
        ([{"role": "tool", "content": "x", "tool_call_id": 5}], r"messages\[0\]\.tool_call_id is 5"),
    ],
)
def test_wrong_messages_are_named(messages: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        as_messages(messages)


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ("python", r"tools must be a list of tools, not 'python'"),
        ({"type": "python"}, "tools must be a list"),
        (["python"], r"tools\[0\] is 'python'"),
        ([{"type": "retrieval"}], r"tools\[0\]\.type is 'retrieval' .*cogview, python, simple_browser"),
        ([{"type": "function"}], r"tools\[0\]\.function is None"),
        ([{"type": "function", "function": {}}], r"tools\[0\]\.function\.name is None .* needs a name"),
        ([{"name": "a\nb"}], r"tools\[0\]\.function\.name is 'a\\nb' .* one line"),
        ([{"name": " a"}], r"name is ' a'"),
        ([{"name": "a", "parameters": {1, 2}}], r"tools\[0\]\.function cannot be written as JSON"),
    ],
)
def test_wrong_tools_are_named(tools: Any, says: str) -> None:
    with pytest.raises(ToolCallError, match=says):
        as_messages([USER], tools)


@pytest.mark.parametrize(
    ("calls", "says"),
    [
        ("f", r"messages\[0\]\.tool_calls must be a list, not 'f'"),
        ([5], r"tool_calls\[0\] is 5"),
        ([{"function": 5}], r"tool_calls\[0\]\.function is 5"),
        ([{"function": {"arguments": "{}"}}], r"tool_calls\[0\]\.function\.name is None"),
        (
            [{"function": {"name": "f", "arguments": 5}}],
            r"tool_calls\[0\]\.function\.arguments is 5 .*JSON text or a dict",
        ),
        ([{"id": 5, "function": {"name": "f", "arguments": "{}"}}], r"tool_calls\[0\]\.id is 5"),
        ([{"function": {"name": "f", "arguments": {"a": object()}}}], r"arguments cannot be written as JSON"),
    ],
)
def test_wrong_calls_are_named(calls: Any, says: str) -> None:
    with pytest.raises(ToolCallError, match=says):
        as_messages([{"role": "assistant", "tool_calls": calls}])


def test_only_the_assistant_calls_and_tools_are_given_once() -> None:
    with pytest.raises(ToolCallError, match=r"messages\[0\] has tool_calls under the role user"):
        as_messages([{"role": "user", "content": "", "tool_calls": [{"function": {"name": "f"}}]}])
    with pytest.raises(InputError, match=r"given twice: in messages\[0\] and as tools="):
        as_messages([{"role": "system", "content": "", "tools": [WEATHER]}, USER], [WEATHER])
