"""A chat format given by the checkpoint itself: the Jinja template that a fine-tune brought along.

Text of messages stays plain text here too. A template writes control tokens as text, so the rendered text alone cannot
tell its `<|assistant|>` from a user's. Hence every string that goes in is given a private character that breaks up
control tokens' names (also at its ends, where two strings might make one up), and comes out without it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from ..errors import ConfigError, InputError
from ..messages import Message, MessageLike, Tool, ToolCall, ToolLike, as_messages, declared_tools, with_tools
from ..tokenizers import LanguageTokenizer
from .assemble import parse_reply
from .format import Rendered
from .reply import ParsedReply, ReplyParser
from .sandbox import GENERATION_END, GENERATION_START, ChatTemplate


class TemplateFormat:
    """Chat format of a checkpoint with a template of its own (see `ChatFormat` for the methods' contracts).

    Templates are written for messages in one of two forms. One that speaks of `tool_calls` or of the role "tool" is
    given OpenAI's; any other the original's, where a call is a turn of the assistant with metadata and a result has the
    role "observation". Tools are put on the message they were declared in if the template reads them there
    (`item['tools']`), else into the variable `tools`.
    """

    def __init__(self, tokenizer: LanguageTokenizer, templates: Mapping[str, str], names: Mapping[str, str]) -> None:
        """templates: by name, "default" the usual one, "tool_use" preferred where tools are declared.
        names: variables such as "eos_token". Raises ConfigError if a template does not compile.
        """
        self._tokenizer = tokenizer
        self._templates = {name: _Template(source) for name, source in templates.items()}
        if not self._templates:
            raise ConfigError("the checkpoint has no chat template; copy tokenizer_config.json from the original")
        self._names = dict(names)
        literals = sorted(tokenizer.special_tokens, key=len, reverse=True)
        either = "|".join(map(re.escape, literals)) or r"(?!)"
        self._literal = re.compile(f"({either})")
        self._literal_starts = re.compile(f"(?=(?:{either}))(.)", re.DOTALL)
        self._heads = tuple({name[:n] for name in literals for n in range(1, len(name))})
        self._tails = tuple({name[n:] for name in literals for n in range(1, len(name))})

    @property
    def name(self) -> str:
        """Always "custom template"."""
        return "custom template"

    @property
    def is_base(self) -> bool:
        """False: who writes a template means it for chat."""
        return False

    def render(
        self,
        messages: Iterable[MessageLike],
        tools: Iterable[ToolLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """The prompt as flat ids, exactly as the template writes it: no prefix is added to it.

        Raises InputError for an image, or where the template refuses the messages; ConfigError where it fails.
        """
        text, marks = self._run(messages, tools, add_generation_prompt)
        return self._encode(text, marks).ids

    def render_text(
        self,
        messages: Iterable[MessageLike],
        tools: Iterable[ToolLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt for people to read. Not to encode again: where it begins with `[gMASK]<sop>`, `encode` doubles
        that, and makes control tokens of a user's text. The ids are `render`'s. Raises as `render`.
        """
        text, marks = self._run(messages, tools, add_generation_prompt)
        return marks.strip(text)

    def render_for_training(self, messages: Iterable[MessageLike], tools: Iterable[ToolLike] | None = None) -> Rendered:
        """Ids and loss mask: 1 where the template's `{% generation %}` blocks are.

        Raises ConfigError if the template has none: nothing then says which text is the assistant's.
        """
        text, marks = self._run(messages, tools, add_generation_prompt=False)
        rendered = self._encode(text, marks)
        if not any(rendered.loss_mask):
            raise ConfigError(
                "the checkpoint's chat template marks no text as the assistant's ({% generation %} ... "
                '{% endgeneration %}), so there is nothing to train on; mark it, or set "chat_format" in '
                'tokenizer_config.json to one of the original formats, such as "glm-4-chat"'
            )
        return rendered

    def parse(self, reply: str | Sequence[int], tools: Iterable[ToolLike] | None = None) -> ParsedReply:
        """A whole reply to content and tool calls, in GLM-4's own way of writing calls."""
        return parse_reply(reply, self._tokenizer, tools)

    def reply_parser(self, tools: Iterable[ToolLike] | None = None) -> ReplyParser:
        """A parser to feed with a reply's text as it comes in."""
        return ReplyParser(tools)

    def _run(
        self, messages: Iterable[MessageLike], tools: Iterable[ToolLike] | None, add_generation_prompt: bool
    ) -> tuple[str, _Marks]:
        checked = as_messages(messages)
        for index, message in enumerate(checked):
            if message.images:
                raise InputError(f"messages[{index}] has an image, but the checkpoint's chat template shows text only")
        checked = with_tools(checked, tools)
        declared = declared_tools(checked)
        template = self._templates.get("tool_use") if declared else None
        template = template or self._templates.get("default") or next(iter(self._templates.values()))
        variables = template.variables(checked, declared)
        marks = _Marks.unused_in(json.dumps(variables, ensure_ascii=False) + template.source)
        variables = {key: self._guard(value, marks) for key, value in variables.items()}
        variables |= self._names
        variables |= {
            "add_generation_prompt": add_generation_prompt,
            GENERATION_START: marks.start,
            GENERATION_END: marks.end,
        }
        text = template.compiled.render(variables)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), marks

    def _guard(self, value: Any, marks: _Marks) -> Any:
        """A copy with every string broken up where it says, or may help to say, a control token's name."""
        if isinstance(value, str):
            guarded = self._literal_starts.sub(rf"\1{marks.breaker}", value)
            before = marks.breaker if value.startswith(self._tails) else ""
            after = marks.breaker if value.endswith(self._heads) else ""
            return before + guarded + after
        if isinstance(value, Mapping):
            return {self._guard(key, marks): self._guard(item, marks) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._guard(item, marks) for item in value]
        return value

    def _encode(self, text: str, marks: _Marks) -> Rendered:
        ids: list[int] = []
        mask: list[int] = []
        learnt = False
        for piece in self._literal.split(text):
            if piece in self._tokenizer.special_tokens:
                ids.append(self._tokenizer.special_tokens[piece])
                mask.append(int(learnt))
                continue
            flags = bytearray()  # one per byte of the plain text: whether it is learnt
            for part in marks.boundary.split(marks.unbreak(piece)):
                if part in (marks.start, marks.end):
                    learnt = part == marks.start
                else:
                    flags += bytes([learnt]) * len(part.encode("utf-8"))
            piece_ids = self._tokenizer.encode(marks.strip(piece), add_special_tokens=False, parse_special=False)
            ids += piece_ids
            position = 0
            for token_id in piece_ids:
                end = position + len(self._tokenizer.bytes_of(token_id))
                mask.append(int(any(flags[position:end])))
                position = end
        return Rendered(ids, mask)


class _Marks:
    """Three private characters that occur nowhere in what is rendered, so that they can be told apart in it."""

    def __init__(self, characters: Sequence[str]) -> None:
        self.breaker, self.start, self.end = characters
        self.boundary = re.compile(f"([{self.start}{self.end}])")
        # A template's tojson(ensure_ascii=true) would write the breaker as an escape.
        self._breaker = re.compile(f"{self.breaker}|{re.escape(_escape(self.breaker))}")

    @classmethod
    def unused_in(cls, text: str) -> _Marks:
        """Pick three. Raises InputError if the text uses up all private characters."""
        taken = frozenset(text)
        private = map(chr, chain(range(0xE000, 0xF900), range(0xF0000, 0xFFFFE)))
        free = (char for char in private if char not in taken and _escape(char) not in text)
        characters = list(islice(free, 3))
        if len(characters) < 3:
            raise InputError("the messages use every private character of Unicode; take some out")
        return cls(characters)

    def unbreak(self, text: str) -> str:
        """The text without the breaker."""
        return self._breaker.sub("", text)

    def strip(self, text: str) -> str:
        """The text without any of the three."""
        return self.boundary.sub("", self.unbreak(text))


def _escape(char: str) -> str:
    return json.dumps(char)[1:-1]


class _Template:
    """A template's source, compiled, and the form of messages it is written for."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.compiled = ChatTemplate(source)
        self._openai = re.search(r"tool_calls|['\"]tool['\"]", source) is not None
        self._tools_on_message = re.search(r"\[\s*['\"]tools['\"]\s*\]|\.tools\b", source) is not None

    def variables(self, messages: Sequence[Message], declared: Sequence[Tool]) -> dict[str, Any]:
        """Messages and tools as the plain values the template reads."""
        turns: list[dict[str, Any]] = []
        for message in messages:
            made = list(_openai_turns(message) if self._openai else _original_turns(message))
            if message.tools is not None and self._tools_on_message:
                if not made:
                    made = [{"role": message.role, "content": ""}]
                made[0]["tools"] = [_tool_value(tool) for tool in message.tools]
            turns += made
        tools = [_tool_value(tool) for tool in declared] if declared and not self._tools_on_message else None
        return {"messages": turns, "tools": tools, "documents": None}


def _original_turns(message: Message) -> Iterator[dict[str, Any]]:
    # A system message that only carried tools says nothing itself.
    only_tools = message.tools is not None and not message.text
    if not only_tools and (message.text or message.metadata or not message.tool_calls):
        yield {"role": message.role, "metadata": message.metadata, "content": message.text}
    for call in message.tool_calls:
        yield {"role": "assistant", "metadata": call.name, "content": call.arguments}


def _openai_turns(message: Message) -> Iterator[dict[str, Any]]:
    calls, content = message.tool_calls, message.text
    if message.role == "assistant" and message.metadata:
        calls, content = (ToolCall(message.metadata, content), *calls), ""
    if message.tools is not None and not content and not calls:
        return
    turn: dict[str, Any] = {"role": "tool" if message.role == "observation" else message.role, "content": content}
    if calls:
        turn["tool_calls"] = [_call_value(call) for call in calls]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    yield turn


def _call_value(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        arguments = call.arguments
    if not isinstance(arguments, dict):
        arguments = call.arguments
    value: dict[str, Any] = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return value if call.id is None else {"id": call.id, **value}


def _tool_value(tool: Tool) -> dict[str, Any]:
    return {"type": tool.type} if tool.function is None else {"type": tool.type, "function": tool.function}
