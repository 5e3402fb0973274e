"""What a chat format is: messages to ids, and a reply back to messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..messages import MessageLike, ToolLike
from .reply import ParsedReply, ReplyReader


@dataclass(frozen=True)
class Rendered:
    """A conversation as training data: `ids`, and `loss_mask` of the same length, 1 on what the model must emit."""

    ids: list[int]
    loss_mask: list[int]


class ChatFormat(Protocol):
    """One wire format, both directions. One a family, and one that renders a template which came with a checkpoint."""

    @property
    def name(self) -> str:
        """Such as "glm-4-chat", "glm-4v", "chatglm-6b", "internvl_zh", or "custom template"."""
        ...

    @property
    def is_base(self) -> bool:
        """Whether the checkpoint was never trained to chat, so that its replies will disappoint."""
        ...

    def render(
        self,
        messages: Iterable[MessageLike],
        tools: Iterable[ToolLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """The prompt as flat ids. Raises InputError for messages it cannot show, or that are all empty."""
        ...

    def render_text(
        self,
        messages: Iterable[MessageLike],
        tools: Iterable[ToolLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The same prompt for people to read. Not to encode again: `encode` puts a second `[gMASK]<sop>` in front of
        the one it begins with, and makes control tokens of a user's text. The ids are `render`'s.
        """
        ...

    def render_for_training(self, messages: Iterable[MessageLike], tools: Iterable[ToolLike] | None = None) -> Rendered:
        """Ids and loss mask of a whole conversation. Raises ConfigError where the format cannot mark the turns."""
        ...

    def parse(self, reply: str | Sequence[int], tools: Iterable[ToolLike] | None = None) -> ParsedReply:
        """A whole reply, as text or as ids, to its content and tool calls."""
        ...

    def reply_parser(self, tools: Iterable[ToolLike] | None = None) -> ReplyReader:
        """A parser to feed with a reply's text as it comes in."""
        ...
