"""GLM-4's wire format: how a conversation is written as tokens, in the four ways the family's checkpoints have it.

    [gMASK]<sop><|role|>{metadata}\\n{content}<|role|>{metadata}\\n{content}<|assistant|>

There is no end-of-turn token: the next role's token ends a turn, so the model ends an answer with `<|user|>` and a tool
call with `<|observation|>`. A tool call is a turn of the assistant whose metadata is the tool's name. The prompt ends
in a bare `<|assistant|>`; the model writes metadata (nothing, for an answer), the newline and the content.

Text of messages is always plain text: `<|assistant|>` in it is encoded as letters, never as the control token. This
departs on purpose from glm-4-9b-chat and -1m, whose Hugging Face tokenizers let a user's text forge a turn.

Empty messages are skipped, as the original does, with two exceptions that the original would lose: an assistant's turn
with metadata or tool calls (a call without arguments), and the result of a call named by `tool_call_id`. A conversation
of which nothing is left is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import ConfigError, InputError
from ..messages import ImagePart, Message, MessageLike, Role, Tool, ToolLike, as_messages, with_tools
from ..tokenizers import LanguageTokenizer
from .assemble import parse_reply
from .format import Rendered
from .reply import ParsedReply, ReplyParser
from .tool_texts import BUILTIN_TEXTS, CALL_AS_JSON, HEADING, PREAMBLE


@dataclass(frozen=True)
class Variant:
    """What differs between the checkpoints' system headers.

    The chat checkpoints were trained with a Jinja template as Hugging Face renders it (trim_blocks eats the newline
    after `{% if %}`), the base and vision checkpoints bring Python code that says the same with small differences.
    """

    name: str
    assistant_name: str  # whom the system text says the assistant is; "GhatGLM" is the original's own misprint
    heading: str  # "# 可用工具", which the vision checkpoint leaves out
    before_tool: str  # newlines in front of each "## name"
    header_for_no_tools: bool  # whether `tools: []` still prints the header
    joint_encoding: bool  # metadata, newline and content encoded in one go (Jinja) or as two pieces (Python)
    shows_images: bool = False
    is_base: bool = False


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("glm-4-base", "GhatGLM", HEADING, "\n\n", False, False, is_base=True),
        Variant("glm-4-chat", "ChatGLM", HEADING, "\n", True, True),
        Variant("glm-4-chat-1m", "GLM-4", HEADING, "\n", True, True),
        Variant("glm-4v", "GLM-4", "", "\n\n", False, False, shows_images=True),
    )
}

_NEEDED_TOKENS = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
# The placeholder between the markers is <|endoftext|>; the vision tower's output replaces all three.
_IMAGE_TOKENS = ("<|begin_of_image|>", "<|endoftext|>", "<|end_of_image|>")


@dataclass(frozen=True)
class _Turn:
    """One `<|role|>{metadata}\\n{content}` on the wire."""

    role: Role
    metadata: str
    content: tuple[str | None, ...]  # text, and None where a picture stands

    @property
    def is_call(self) -> bool:
        return self.role == "assistant" and self.metadata != ""


class Glm4Format:
    """Chat format of a GLM-4 checkpoint (see `ChatFormat` for the methods' contracts)."""

    def __init__(self, tokenizer: LanguageTokenizer, variant: str) -> None:
        """variant: a key of VARIANTS. Raises ConfigError for another, or if the tokenizer lacks a control token."""
        if variant not in VARIANTS:
            raise ConfigError(f"chat format {variant!r} is unknown; known are {', '.join(VARIANTS)}")
        self._variant = VARIANTS[variant]
        self._tokenizer = tokenizer
        needed = _NEEDED_TOKENS + (_IMAGE_TOKENS if self._variant.shows_images else ())
        missing = [token for token in needed if token not in tokenizer.special_tokens]
        if missing:
            raise ConfigError(
                f"the tokenizer has no control token {', '.join(missing)}, which chat format {variant} is written in; "
                "copy tokenizer_config.json from the original checkpoint (ChatGLM2 and ChatGLM3, which lack some, "
                "are not supported)"
            )

    @property
    def name(self) -> str:
        """The variant's name."""
        return self._variant.name

    @property
    def is_base(self) -> bool:
        """True for glm-4-9b, which was never trained to chat."""
        return self._variant.is_base

    def render(
        self,
        messages: Iterable[MessageLike],
        tools: Iterable[ToolLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """The prompt as flat ids (the original's -9b and -4v give a list of one list).

        Raises InputError for messages it cannot show, or that are all empty.

        "你好" -> [151331, 151333, 151336, 198, 109377, 151337].
        """
        ids = self._tokenizer.prefix_ids
        for turn in self._turns(messages, tools):
            ids += [self._role_id(turn.role), *self._turn_ids(turn)]
        if add_generation_prompt:
            ids.append(self._role_id("assistant"))
        return ids

    def render_text(
        self,
        messages: Iterable[MessageLike],
        tools: Iterable[ToolLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt for people to read; pictures show as their three markers. Raises InputError.

        Not to encode again: `encode` puts a second `[gMASK]<sop>` in front of the one it begins with, and makes control
        tokens of a user's text. The ids are `render`'s.
        """
        text = "[gMASK]<sop>"
        for turn in self._turns(messages, tools):
            content = "".join("".join(_IMAGE_TOKENS) if piece is None else piece for piece in turn.content)
            text += f"<|{turn.role}|>{turn.metadata}\n{content}"
        return text + "<|assistant|>" * add_generation_prompt

    def render_for_training(self, messages: Iterable[MessageLike], tools: Iterable[ToolLike] | None = None) -> Rendered:
        """Ids and loss mask: 1 on all that the model must emit, which is for every turn of the assistant metadata,
        newline, content, and the token that ends it.

        That is `<|observation|>` after a call and `<|user|>` after an answer: the next turn's opening token, where it
        is the right one (where it is not, nothing is learnt there), and appended after the last turn. Where the
        assistant goes on with another turn, the joining `<|assistant|>` is learnt instead. Raises InputError.
        """
        rendered = Rendered(self._tokenizer.prefix_ids, [])
        rendered.loss_mask.extend([0] * len(rendered.ids))

        def emit(ids: Sequence[int], learnt: bool) -> None:
            rendered.ids.extend(ids)
            rendered.loss_mask.extend([int(learnt)] * len(ids))

        before: _Turn | None = None
        for turn in self._turns(messages, tools):
            emit([self._role_id(turn.role)], before is not None and turn.role in ("assistant", _ender(before)))
            emit(self._turn_ids(turn), turn.role == "assistant")
            before = turn if turn.role == "assistant" else None
        if before is not None:
            emit([self._role_id(_ender(before))], True)
        return rendered

    def parse(self, reply: str | Sequence[int], tools: Iterable[ToolLike] | None = None) -> ParsedReply:
        """A whole reply to content and tool calls; see `assemble.parse_text` and `assemble.parse_ids`."""
        return parse_reply(reply, self._tokenizer, tools)

    def reply_parser(self, tools: Iterable[ToolLike] | None = None) -> ReplyParser:
        """A parser to feed with a reply's text as it comes in."""
        return ReplyParser(tools)

    def _turns(self, messages: Iterable[MessageLike], tools: Iterable[ToolLike] | None) -> list[_Turn]:
        checked = as_messages(messages)
        for index, message in enumerate(checked):
            if message.images and not self._variant.shows_images:
                raise InputError(
                    f"messages[{index}] has an image, but {self.name} reads text only; use a GLM-4V checkpoint"
                )
        turns: list[_Turn] = []
        for message in with_tools(checked, tools):
            if message.tools or (message.tools is not None and self._variant.header_for_no_tools):
                turns.append(_Turn("system", "", (self._header(message.tools),)))
            turns += _message_turns(message)
        if not turns:
            raise InputError("every message is empty, so there is nothing to show the model; give one some content")
        return turns

    def _header(self, tools: Sequence[Tool]) -> str:
        variant = self._variant
        return (
            PREAMBLE.format(name=variant.assistant_name)
            + variant.heading
            + "".join(variant.before_tool + _tool_text(tool) for tool in tools)
        )

    def _role_id(self, role: Role) -> int:
        return self._tokenizer.special_tokens[f"<|{role}|>"]

    def _turn_ids(self, turn: _Turn) -> list[int]:
        """All of a turn but its opening token."""
        if self._variant.joint_encoding:
            return self._encode(f"{turn.metadata}\n{''.join(piece or '' for piece in turn.content)}")
        ids = self._encode(f"{turn.metadata}\n")
        for piece in turn.content:
            ids += self._image_ids() if piece is None else self._encode(piece)
        return ids

    def _image_ids(self) -> list[int]:
        return [self._tokenizer.special_tokens[token] for token in _IMAGE_TOKENS]

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False, parse_special=False)


def _message_turns(message: Message) -> Iterator[_Turn]:
    """A message's turns: its own content, then one turn per tool call, joined by `<|assistant|>` on the wire."""
    answers_call = message.role == "observation" and message.tool_call_id is not None
    bare_call = message.role == "assistant" and message.metadata
    if message.text or message.images or answers_call or bare_call:
        yield _Turn(message.role, message.metadata, _content(message))
    for call in message.tool_calls:
        yield _Turn("assistant", call.name, (call.arguments,))


def _content(message: Message) -> tuple[str | None, ...]:
    """Text and pictures (None) as they follow each other; texts side by side are joined by a newline.

    A single picture stands in front, wherever the message has it: the weights never saw it anywhere else.
    """
    if isinstance(message.content, str) or len(message.images) < 2:
        return (*(None for _ in message.images), message.text)
    pieces: list[str | None] = []
    for part in message.content:
        if isinstance(part, ImagePart):
            pieces.append(None)
        elif pieces and pieces[-1] is not None:
            pieces[-1] += f"\n{part.text}"
        else:
            pieces.append(part.text)
    return tuple(pieces)


def _ender(turn: _Turn) -> Role:
    """Whose token the model ends an assistant's turn with."""
    return "observation" if turn.is_call else "user"


def _tool_text(tool: Tool) -> str:
    if tool.function is None:
        return f"## {tool.name}\n\n{BUILTIN_TEXTS[tool.type]}"
    schema = json.dumps(tool.function, ensure_ascii=False, indent=4)
    return f"## {tool.name}\n\n{schema}\n{CALL_AS_JSON}"
