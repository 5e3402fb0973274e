"""What a model's answers come back as. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import CheckpointError
from .messages import ToolCall
from .sampling import TokenLogprob

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class Usage:
    """Tokens read and written. The end token counts as written, as it took a step to write."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Delta:
    """A piece of a streamed reply.

    Attributes:
        text: whole characters to append to what was shown; may be empty.
        tool_calls: calls that became complete with this piece.
        token_ids: the new tokens it comes from. Text lags behind tokens while a character, a stop string or a tool
            call may still be going on.
        finish_reason, usage: on the last piece only.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


@dataclass(frozen=True)
class Reply:
    """A whole chat reply.

    Attributes:
        content: the text, without the format's leading newline; "" if the model only called tools.
        tool_calls: what it asks to be run, in order. Nothing is ever run by this library on its own. A call that was
            cut off is the last one, as far as it went; finish_reason is then not "tool_calls".
        finish_reason: "stop", "length" (max_tokens or the context ended it), or "tool_calls".
        token_ids: what the model emitted, end token included.
        logprobs: one entry a token, if asked for.
    """

    content: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    usage: Usage
    token_ids: list[int] = field(repr=False, default_factory=list)
    logprobs: list[TokenLogprob] | None = field(repr=False, default=None)
    other_choices: tuple[Reply, ...] = field(repr=False, default=())

    @property
    def choices(self) -> tuple[Reply, ...]:
        """All n replies, this one first."""
        return (self, *self.other_choices)

    @property
    def message(self) -> dict[str, Any]:
        """The reply as a message to append to the conversation."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.tool_calls
            ]
        return message


@dataclass(frozen=True)
class Completion:
    """What follows a prompt, without any chat format.

    Attributes:
        token_ids: new tokens, end token included.
        finish_reason: "stop" or "length".
        logprobs: one entry a token, if asked for.
    """

    token_ids: list[int]
    finish_reason: FinishReason
    usage: Usage
    logprobs: list[TokenLogprob] | None = field(repr=False, default=None)
    other_choices: tuple[Completion, ...] = field(repr=False, default=())
    decoded: str | None = field(repr=False, default=None)
    why_not_decoded: str = field(repr=False, default="")

    @property
    def text(self) -> str:
        """The new tokens as text, without special tokens and without the stop string.

        Raises:
            CheckpointError: the checkpoint came without a tokenizer; names the missing file.
        """
        if self.decoded is None:
            raise CheckpointError(self.why_not_decoded)
        return self.decoded

    @property
    def choices(self) -> tuple[Completion, ...]:
        """All n completions, this one first."""
        return (self, *self.other_choices)
