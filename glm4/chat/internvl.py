"""InternVL-Chat-V1-1's wire format, the template `internvl_zh`: how a conversation with pictures is written as tokens.

    <s>{system} <human>: {question} <bot>: {answer}</s><human>: {question} <bot>:

The roles are letters, not control tokens; only <s>, </s> and a picture's tokens are. A picture is <img>, its 256
<IMG_CONTEXT>, </img>.

Where a message's pictures stand: where its text says "<image>", once for each, as in "Image-1: <image>\\nImage-2:
<image>\\nWhat differs?" or a video's "Frame1: <image>\\n". Where it does not say: a single picture in front of the text
and a newline, as the original does, and several where the message has them between its texts, each with a newline
behind it. A part that holds a list of pictures is one place for all of them, a single <img> ... </img> of several times
256. (The original's `num_patches_list`: [1, 1] for two places, [2] for one.) In a conversation without any picture
"<image>" is letters, as in the original.

Text of messages is always plain: "</s>" and "<img>" in it are encoded as letters, while the original lets a user's text
make control tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, InputError
from ..messages import Message, MessageLike, TextPart, ToolLike, as_messages
from ..tokenizers import LanguageTokenizer
from ..tokenizers.llama_tokenizer import LlamaTokenizer
from .assemble import collect, parse_ids
from .format import Rendered
from .reply import ParsedReply, ReplyEvent, TextDelta

NAME = "internvl_zh"
IMAGE = "<image>"
"""Where a picture stands, in a message's text."""

_USER, _BOT = "<human>:", "<bot>:"
_NEEDED_TOKENS = ("</s>", "<img>", "</img>", "<IMG_CONTEXT>")


@dataclass(frozen=True)
class _Text:
    """Letters between two control tokens; what the model must learn to emit begins at `learnt_from`, if anywhere."""

    text: str
    learnt_from: int | None = None


@dataclass(frozen=True)
class _Control:
    """A control token, `times` times."""

    token: str
    times: int = 1
    learnt: bool = False


class InternVLFormat:
    """Chat format of InternVL-Chat-V1-1 (see `ChatFormat` for the methods' contracts)."""

    name = NAME
    is_base = False

    def __init__(self, tokenizer: LanguageTokenizer, tokens_per_picture: int) -> None:
        """tokens_per_picture: 256 where pictures have 448 pixels a side. Raises ConfigError for another tokenizer than
        LLaMA's, or one that lacks a control token."""
        missing = [token for token in _NEEDED_TOKENS if token not in tokenizer.special_tokens]
        if not isinstance(tokenizer, LlamaTokenizer) or missing:
            what = f"has no control token {', '.join(missing)}" if missing else "is not LLaMA's"
            raise ConfigError(
                f"the tokenizer {what}, but chat format {NAME} is written with it; copy tokenizer.model, "
                "added_tokens.json and tokenizer_config.json from the original checkpoint"
            )
        self._tokenizer = tokenizer
        self._tokens_per_picture = tokens_per_picture

    def render(
        self,
        messages: Iterable[MessageLike],
        tools: Iterable[ToolLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """The prompt as flat ids. Raises InputError for messages it cannot show, or that are all empty."""
        return [token_id for token_id, _ in self._emitted(self._parts(messages, tools, add_generation_prompt))]

    def render_text(
        self,
        messages: Iterable[MessageLike],
        tools: Iterable[ToolLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The same prompt for people to read, a picture as all its tokens' names. Raises InputError."""
        parts = self._parts(messages, tools, add_generation_prompt)
        return "".join(part.text if isinstance(part, _Text) else part.token * part.times for part in parts)

    def render_for_training(self, messages: Iterable[MessageLike], tools: Iterable[ToolLike] | None = None) -> Rendered:
        """Ids and loss mask: 1 on the answers and the </s> behind each. Raises InputError."""
        emitted = list(self._emitted(self._parts(messages, tools, add_generation_prompt=False)))
        return Rendered([token_id for token_id, _ in emitted], [int(learnt) for _, learnt in emitted])

    def parse(self, reply: str | Sequence[int], tools: Iterable[ToolLike] | None = None) -> ParsedReply:
        """A whole reply's content, up to </s> and without white space around it. There are no calls."""
        if not isinstance(reply, str):
            return parse_ids(reply, self._tokenizer, parser=self.reply_parser())
        parser = self.reply_parser()
        return collect(parser.push(reply.split("</s>")[0]) + parser.finish())

    def reply_parser(self, tools: Iterable[ToolLike] | None = None) -> StrippedReply:
        """A parser to feed with a reply's text as it comes in."""
        return StrippedReply()

    def _emitted(self, parts: Iterable[_Text | _Control]) -> Iterator[tuple[int, bool]]:
        """(id, whether the model must learn to emit it)."""
        for index, part in enumerate(parts):
            if isinstance(part, _Control):
                yield from itertools.repeat((self._tokenizer.special_tokens[part.token], part.learnt), part.times)
                continue
            first = index == len(self._tokenizer.prefix_ids)
            ids = self._tokenizer.encode_part(part.text, first=first)
            known = len(ids)
            if part.learnt_from is not None:
                before = self._tokenizer.encode_part(part.text[: part.learnt_from], first=first)
                known = next((i for i, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), len(before))
            yield from ((token_id, i >= known) for i, token_id in enumerate(ids))

    def _parts(
        self, messages: Iterable[MessageLike], tools: Iterable[ToolLike] | None, add_generation_prompt: bool
    ) -> list[_Text | _Control]:
        checked = as_messages(messages)
        if tools is not None and list(tools):
            raise InputError(f"chat format {NAME} has no way to show tools; leave them out")
        _check(checked)
        system = checked[0].text if checked[0].role == "system" else ""
        any_pictures = any(message.images for message in checked)
        bos = self._tokenizer.settings.bos
        turns: list[_Text | _Control] = [] if bos is None else [_Control(bos)]
        turns.append(_Text(system + " "))
        for index, message in enumerate(checked):
            if message.role == "user":
                turns += [_Text(_USER), *self._question(message, f"messages[{index}]", any_pictures)]
            elif message.role == "assistant":
                # An answer without letters is left open, as in the original, whose loop takes it for the one to come.
                answer = f"{_BOT} {message.text}" if message.text else _BOT
                turns.append(_Text(answer, len(_BOT) if message.text else None))
                turns += [_Control("</s>", learnt=True)] if message.text else []
        if add_generation_prompt:
            turns.append(_Text(_BOT))
        return list(_joined(turns))

    def _question(self, message: Message, where: str, any_pictures: bool) -> list[_Text | _Control]:
        """A user's text behind the role, with its pictures at their places."""
        if not message.text and not message.images:
            return []  # the original puts neither space behind the role then
        pieces = message.text.split(IMAGE) if any_pictures else [message.text]
        if message.images and len(pieces) == 1:
            pieces = _around_pictures(message)
        if len(pieces) - 1 != len(message.images):
            raise InputError(
                f"{where} says {IMAGE} {len(pieces) - 1} times and holds {len(message.images)} pictures; give one for "
                "each, in this message, or leave the word out of its text"
            )
        parts: list[_Text | _Control] = [_Text(" " + pieces[0])]
        for image, behind in zip(message.images, pieces[1:], strict=True):
            n_pictures = len(image) if isinstance(image, (list, tuple)) else 1
            if not n_pictures:
                raise InputError(f"{where} has an empty list in a picture's place; leave it out")
            context = _Control("<IMG_CONTEXT>", n_pictures * self._tokens_per_picture)
            parts += [_Control("<img>"), context, _Control("</img>"), _Text(behind)]
        return [*parts, _Text(" ")]


def _around_pictures(message: Message) -> list[str]:
    """The text in front of, between and behind a message's pictures, where its text names no places. A newline follows
    each. A single picture stands in front, wherever the message has it, as the weights saw it."""
    if isinstance(message.content, str) or len(message.images) == 1:
        return ["", "\n" + message.text]
    pieces, after_text = [""], False
    for part in message.content:
        if isinstance(part, TextPart):
            pieces[-1] += "\n" + part.text if after_text else part.text
        else:
            pieces.append("\n")
        after_text = isinstance(part, TextPart)
    return pieces


def _check(messages: Sequence[Message]) -> None:
    """Refuse what the template has no place for."""
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.tools or message.tool_calls or message.metadata or message.role == "observation":
            raise InputError(f"{where} has to do with tools, which chat format {NAME} has no way to show; leave it out")
        if message.role == "system" and index:
            raise InputError(f"{where} is a system message; in chat format {NAME} there is one place for it, in front")
    if not any(message.text or message.images for message in messages):
        raise InputError("every message is empty, so there is nothing to show the model; give one some content")


def _joined(parts: Iterable[_Text | _Control]) -> Iterator[_Text | _Control]:
    """Neighbouring texts as one, since they are encoded as one."""
    pending: _Text | None = None
    for part in parts:
        if isinstance(part, _Text):
            before = pending.text if pending is not None else ""
            learnt_from = None if part.learnt_from is None else len(before) + part.learnt_from
            if learnt_from is None and pending is not None:
                learnt_from = pending.learnt_from
            pending = _Text(before + part.text, learnt_from)
            continue
        if pending is not None and pending.text:
            yield pending
        pending = None
        yield part
    if pending is not None and pending.text:
        yield pending


class StrippedReply:
    """A reply's text without the white space around it (see `ReplyReader`). What may be the last is withheld."""

    def __init__(self) -> None:
        self._begun = False
        self._space: list[str] = []

    def push(self, text: str) -> list[ReplyEvent]:
        """Take more of the reply; return what is decided now."""
        if not self._begun:
            text = text.lstrip()
        shown = text.rstrip()
        if not shown:
            self._space.append(text)
            return []
        before, self._space, self._begun = "".join(self._space), [text[len(shown) :]], True
        return [TextDelta(before + shown)]

    def new_segment(self) -> list[ReplyEvent]:
        """Nothing: a reply is one segment."""
        return []

    def finish(self) -> list[ReplyEvent]:
        """Nothing: what was withheld is not part of the reply."""
        return []


def internvl_format(tokenizer: LanguageTokenizer, config: Mapping[str, Any]) -> InternVLFormat:
    """The chat format of a checkpoint with this config.json. Raises ConfigError for another template than V1-1's."""
    template = config.get("template", NAME)
    if template != NAME:
        raise ConfigError(f"the chat template {template!r} is not implemented; InternVL-Chat-V1-1's is {NAME!r}")
    vision = config.get("vision_config")
    vision = vision if isinstance(vision, Mapping) else {}
    size = config.get("force_image_size") or vision.get("image_size")
    try:
        per_side = int(int(size) // int(vision["patch_size"]) * float(config["downsample_ratio"]))  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError):
        per_side = 0
    if not 0 < per_side <= 1024:
        raise ConfigError(
            f"config.json does not say how many tokens a picture takes: force_image_size is {size!r}, "
            f"vision_config.patch_size {vision.get('patch_size')!r}, downsample_ratio "
            f"{config.get('downsample_ratio')!r}; restore the file that came with the checkpoint"
        )
    return InternVLFormat(tokenizer, per_side**2)
