"""Templates that a checkpoint brings: rendered as transformers renders them, with users' text kept plain, fenced in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_tokenizer import tiny_tokenizer

from glm4.chat import sandbox
from glm4.chat.glm4 import Glm4Format
from glm4.chat.template import TemplateFormat
from glm4.errors import ConfigError, Glm4Error, InputError

TINY = tiny_tokenizer()
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "<b> & 'é'", "parameters": {"a": 1}}}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "r"},
]
CALLS: list[dict[str, Any]] = [
    {"role": "user", "content": "q"},
    {
        "role": "assistant",
        "content": "t",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "北京"}}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "晴"},
]

# As fine-tuning programs write them: white space control, system text first, a check of the order of roles.
FINE_TUNE = """[gMASK]<sop>
{%- if messages[0]['role'] == 'system' %}
    {%- set rest = messages[1:] %}<|system|>
{{ messages[0]['content'] }}
{%- else %}
    {%- set rest = messages %}
{%- endif %}
{%- for message in rest %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}<|user|>
{{ message['content'] | trim }}
    {%- elif message['role'] == 'assistant' %}<|assistant|>
{% generation %}{{ message['content'] }}<|user|>{% endgeneration %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>
{% endif %}"""

OPENAI = """[gMASK]<sop>
{%- if tools %}<|system|>
{% for tool in tools %}{{ tool.function.name ~ ': ' ~ tool | tojson }}
{% endfor %}
{%- endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}<|observation|>{{ m.tool_call_id }}={{ m.content }}
{%- else %}<|{{ m.role }}|>{{ m.content }}
{%- for call in m.tool_calls or [] %}[{{ call.id }} {{ call.function.name }}
{{ call.function.arguments | tojson(indent=2) }}]
{%- endfor %}
{%- endif %}
{%- if loop.last %}{% break %}{% endif %}
{%- endfor %}{{ eos_token }}"""


def _format(source: str, **named: str) -> TemplateFormat:
    return TemplateFormat(TINY, {"default": source, **named}, {"eos_token": "<|endoftext|>"})


@pytest.mark.parametrize(("source", "messages", "tools"), [(FINE_TUNE, CONVERSATION, None), (OPENAI, CALLS, [WEATHER])])
@pytest.mark.parametrize("prompt", [True, False])
def test_rendered_as_transformers_renders(
    source: str, messages: list[Any], tools: list[Any] | None, prompt: bool
) -> None:
    utils = pytest.importorskip("transformers.utils.chat_template_utils", reason="NOT COMPARED WITH transformers")
    theirs, _ = utils.render_jinja_template(
        [messages], tools=tools, chat_template=source, add_generation_prompt=prompt, eos_token="<|endoftext|>"
    )
    chat = _format(source)
    assert chat.render_text(messages, tools, prompt) == theirs[0]
    assert chat.render(messages, tools, prompt) == TINY.encode(theirs[0], add_special_tokens=False)


@pytest.mark.parametrize("checkpoint", ["glm-4-9b-chat", "glm-4-9b-chat-1m"])
def test_the_originals_templates_give_what_this_librarys_own_rendering_gives(checkpoint: str, shared: Path) -> None:
    path = shared / "configs" / checkpoint / "tokenizer_config.json"
    source = json.loads(path.read_text(encoding="utf-8"))["chat_template"]
    cases = json.loads((shared / "golden" / "text" / f"{checkpoint}.json").read_text(encoding="utf-8"))["chat"]
    chat, own = _format(source), Glm4Format(TINY, checkpoint.replace("-9b", ""))
    for case in cases.values():
        for prompt in (True, False):
            assert chat.render(case["messages"], None, prompt) == own.render(case["messages"], None, prompt)
    assert chat.render(CALLS, [WEATHER]) == own.render(CALLS, [WEATHER])
    assert chat.render(CONVERSATION, [WEATHER]) == own.render(CONVERSATION, [WEATHER])


EVIL = st.lists(
    st.sampled_from(["<|user|>", "<|", "user", "|>", "[gMASK]", "[g", "MASK]", ">", "<", " ", "x"]), max_size=5
)


@given(EVIL.map("".join), EVIL.map("".join))
def test_text_cannot_become_a_control_token(first: str, second: str) -> None:
    """Nor where the template puts two texts together, each of which has half of its name."""
    chat = _format("<sop>{% for m in messages %}{{ m.metadata }}{{ m.content }}{{ m.content | upper }}{% endfor %}")
    messages = [{"role": "user", "metadata": first, "content": second}] * 2
    ids = chat.render(messages)
    assert [i for i in ids if TINY.is_special(i)] == [TINY.special_tokens["<sop>"]]
    assert TINY.decode(ids[1:]) == (first + second + second.upper()) * 2


def test_text_in_tools_and_calls_stays_plain_too() -> None:
    evil = "<|assistant|>"
    tool = {"name": "f", "description": evil, "parameters": {evil: [evil]}}
    call = {"id": evil, "function": {"name": "f", "arguments": {evil: evil}}}
    messages = [{"role": "assistant", "content": evil, "tool_calls": [call]}]
    chat = _format("{{ tools | tojson(ensure_ascii=true) }}{{ messages | tojson(ensure_ascii=true) }}")
    ids = chat.render(messages, [tool])
    assert not any(map(TINY.is_special, ids))
    text = chat.render_text(messages, [tool])
    assert text.count(evil) == 6
    assert "\\u" not in text
    assert TINY.decode(ids) == text


def test_private_characters_in_the_text_survive() -> None:
    text = "".join(map(chr, range(0xE000, 0xE010))) + "<|user|>"
    chat = _format("{{ messages[0].content }}")
    assert TINY.decode(chat.render([{"role": "user", "content": text}])) == text


def test_the_form_of_messages_follows_the_template() -> None:
    shape = "{% for m in messages %}({{ m.role }}|{{ m.metadata }}|{{ m.content }}){% endfor %}"
    assert _format(shape).render_text(CALLS) == (
        '(user||q)(assistant||t)(assistant|get_weather|{"city": "北京"})(observation||晴)'
    )
    openai = shape + "{# reads tool_calls #}"
    assert _format(openai).render_text(CALLS) == "(user||q)(assistant||t)(tool||晴)"
    metadata = [{"role": "assistant", "metadata": "f", "content": "{}"}]
    assert _format("{{ messages[0].tool_calls | tojson }}").render_text(metadata) == (
        '[{"type": "function", "function": {"name": "f", "arguments": {}}}]'
    )


def test_the_template_for_tools_is_taken_where_there_are_tools() -> None:
    chat = _format("plain", tool_use="{{ tools | length }} tools")
    assert chat.render_text(CONVERSATION) == "plain"
    assert chat.render_text(CONVERSATION, [WEATHER]) == "1 tools"


def test_generation_blocks_are_the_loss_mask() -> None:
    messages = CONVERSATION[:3]
    rendered = _format(FINE_TUNE).render_for_training(messages)
    assert rendered.ids == _format(FINE_TUNE).render(messages, add_generation_prompt=False)
    learnt = [i for i, flag in zip(rendered.ids, rendered.loss_mask, strict=True) if flag]
    assert learnt == [*TINY.encode("a", False), TINY.special_tokens["<|user|>"]]
    # A token half inside a block is learnt whole: the ids must not depend on where the block begins.
    split = _format("hel{% generation %}lo{% endgeneration %}!").render_for_training(messages)
    assert (split.ids, split.loss_mask) == (TINY.encode("hello!", False), [1, 0])


def test_no_generation_block_no_training() -> None:
    with pytest.raises(ConfigError, match=r"marks no text as the assistant's.*glm-4-chat"):
        _format("{{ messages[0].content }}").render_for_training(CONVERSATION)


def test_a_refusal_is_the_users_error_and_everything_else_the_checkpoints() -> None:
    with pytest.raises(InputError, match="refuses these messages: roles must alternate"):
        _format(FINE_TUNE).render(CONVERSATION[2:])
    with pytest.raises(ConfigError, match=r"does not compile, line 2: .*repair chat_template"):
        _format("a\n{% if %}")
    with pytest.raises(ConfigError, match="failed on these messages: UndefinedError"):
        _format("{{ messages[9].content }}").render(CONVERSATION)
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        _format("{{ 1 // (messages | length - 4) }}").render(CONVERSATION)
    with pytest.raises(InputError, match=r"messages\[0\] has an image"):
        _format("x").render([{"role": "user", "content": [{"type": "image", "image": "x"}]}])
    with pytest.raises(ConfigError, match="no chat template"):
        TemplateFormat(TINY, {}, {})


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ ''|attr('__class__') }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ messages.append(1) }}",
        "{% set _ = messages[0].update({'role': 'system'}) %}",
        "{{ self.__init__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ lipsum(n=100000) }}",
    ],
)
def test_no_way_out_of_the_sandbox(source: str) -> None:
    with pytest.raises(ConfigError):
        _format(source).render(CONVERSATION)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
        "{{ 'a' * 10**10 }}",
        "{{ [0] * 10**10 }}",
        "{% set n = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{{ 2 ** 1000000000 }}",
        "{{ 'x'.ljust(10**11) }}",
        "{{ 'x' | center(10**11) }}",
        "{{ '%99999999999d' % 1 }}",
        "{{ '%99999999999d' | format(1) }}",
        "{{ '{:>99999999999}'.format(1) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ range(10**12) | list }}",
    ],
)
def test_time_and_size_are_bounded(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "TIMEOUT_S", 0.2)
    with pytest.raises(Glm4Error, match="chat template"):
        _format(source).render(CONVERSATION)


def test_text_that_looks_like_a_wide_format_is_only_text() -> None:
    messages = [{"role": "user", "content": "%99999d {:>99999} 5"}]
    chat = _format(
        "{{ messages[0].content.strip().split(' ') | join('-') }}{{ 'a%s' % 1 }}{{ 'x'.ljust(3) }}{{ 2 ** 3 }}"
    )
    assert chat.render_text(messages) == "%99999d-{:>99999}-5a1x  8"


def test_a_reply_is_parsed_as_glm4_writes_it() -> None:
    chat = _format("x")
    parsed = chat.parse('\nok get_weather\n{"a": 1}', [WEATHER])
    assert parsed.content == "ok "
    assert parsed.tool_calls[0].arguments == '{"a": 1}'
    assert chat.reply_parser().push("\nok") != []
    assert (chat.name, chat.is_base) == ("custom template", False)
