"""A reply's ids to content and tool calls, one id at a time: the one path that streamed and whole replies take."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..messages import ToolCall
from ..tokenizers import Detokenizer, StopMatcher, Tokenizer
from .reply import CallArguments, CallEnd, CallStart, ReplyEvent, ReplyParser, TextDelta


class Piece(NamedTuple):
    """What new ids add to a reply: text that is safe to show, and calls that are whole now."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


class ReplyAssembler:
    """Feed it a reply's ids, end token left out; the pieces joined are the reply.

    Ids become characters, characters become content and calls (see `ReplyParser`), and the content ends at the first
    stop string. Stop strings are looked for in the content only: not in the format's leading newline, which they
    would end before it began, nor in a call's arguments, which they would cut to pieces.
    """

    def __init__(self, tokenizer: Tokenizer, parser: ReplyParser, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._parser = tokenizer, parser
        self._turn_id = tokenizer.special_tokens.get("<|assistant|>")
        self._characters = Detokenizer(tokenizer)
        self._stop = StopMatcher(stop)
        self._name, self._arguments = "", ""
        self.called = False
        """Whether the reply holds a complete call. One that was cut off is handed out too, as far as it went."""

    @property
    def stopped(self) -> str | None:
        """The stop string that ended the content, once one has."""
        return self._stop.stopped

    def push(self, token_id: int) -> Piece:
        """Take one id."""
        if token_id != self._turn_id:
            return self._take(self._parser.push(self._characters.push(token_id)))
        # It begins a turn of its own: what is withheld belongs to the one before.
        events = self._parser.push(self._characters.finish()) + self._parser.new_segment()
        self._characters = Detokenizer(self._tokenizer)
        return self._take(events)

    def finish(self) -> Piece:
        """The reply is over: what was withheld."""
        piece = self._take(self._parser.push(self._characters.finish()) + self._parser.finish())
        return Piece(piece.text + self._stop.finish(), piece.tool_calls)

    def _take(self, events: Iterable[ReplyEvent]) -> Piece:
        text: list[str] = []
        calls: list[ToolCall] = []
        for event in events:
            match event:
                case TextDelta(content):
                    text.append(self._stop.push(content))
                case CallStart(_, name):
                    self._name, self._arguments = name, ""
                case CallArguments(_, arguments):
                    self._arguments += arguments
                case CallEnd(_, complete):
                    calls.append(ToolCall(self._name, self._arguments, id=f"call_{uuid.uuid4().hex}"))
                    self.called |= complete
        return Piece("".join(text), tuple(calls))
