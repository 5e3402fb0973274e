"""A reply's ids to content and tool calls: the one path that streamed and whole replies take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import InputError
from ..messages import ToolCall, ToolLike, as_tools
from ..tokenizers import Detokenizer, LanguageTokenizer, StopMatcher
from .reply import CallArguments, CallEnd, CallStart, ParsedReply, ReplyEvent, ReplyParser, ReplyReader, TextDelta


class Piece(NamedTuple):
    """What new ids add to a reply: text that is safe to show, and calls that ended."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


class ReplyAssembler:
    """Feed it a reply's ids, end token left out; the pieces joined are the reply.

    Ids become characters, characters become content and calls (see `ReplyParser`), and the content ends at the first
    stop string. Stop strings are looked for in the content only: not in the format's leading newline, which they
    would end before it began, nor in a call's arguments, which they would cut to pieces.
    """

    def __init__(self, tokenizer: LanguageTokenizer, parser: ReplyReader, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._parser = tokenizer, parser
        self._turn_id = tokenizer.special_tokens.get("<|assistant|>")
        self._characters = Detokenizer(tokenizer)
        self._joined = _Joined(stop)

    @property
    def stopped(self) -> str | None:
        """The stop string that ended the content, once one has."""
        return self._joined.stop.stopped

    @property
    def called(self) -> bool:
        """Whether the reply holds a complete call."""
        return self._joined.called

    @property
    def complete(self) -> bool:
        """Whether the last call, if there is one, was complete. One cut off is handed out too, as far as it went."""
        return self._joined.complete

    def push(self, token_id: int) -> Piece:
        """Take one id. Raises ValueError for one out of range."""
        if token_id != self._turn_id:
            return self._joined.add(self._parser.push(self._characters.push(token_id)))
        # It begins a turn of its own: what is withheld belongs to the one before.
        events = self._parser.push(self._characters.finish()) + self._parser.new_segment()
        self._characters = Detokenizer(self._tokenizer)
        return self._joined.add(events)

    def finish(self) -> Piece:
        """The reply is over: what was withheld."""
        piece = self._joined.add(self._parser.push(self._characters.finish()) + self._parser.finish())
        return Piece(piece.text + self._joined.stop.finish(), piece.tool_calls)


class _Joined:
    """A parser's events as text, up to a stop string, and calls as they end."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.stop = StopMatcher(stop)
        self.called, self.complete = False, True
        self._name, self._arguments = "", ""

    def add(self, events: Iterable[ReplyEvent]) -> Piece:
        text: list[str] = []
        calls: list[ToolCall] = []
        for event in events:
            match event:
                case TextDelta(content):
                    text.append(self.stop.push(content))
                case CallStart(_, name):
                    self._name, self._arguments = name, ""
                case CallArguments(_, arguments):
                    self._arguments += arguments
                case CallEnd(_, complete):
                    calls.append(ToolCall(self._name, self._arguments))
                    self.called |= complete
                    self.complete = complete
        return Piece("".join(text), tuple(calls))


def collect(events: Iterable[ReplyEvent]) -> ParsedReply:
    """A finished reply's events, from first to last, as one value."""
    joined = _Joined()
    content, calls = joined.add(events)
    return ParsedReply(content, calls, joined.complete)


def parse_reply(
    reply: str | Sequence[int], tokenizer: LanguageTokenizer, tools: Iterable[ToolLike] | None = None
) -> ParsedReply:
    """A whole reply, as text or as ids, to content and calls; see `parse_text` and `parse_ids`."""
    return parse_text(reply, tools) if isinstance(reply, str) else parse_ids(reply, tokenizer, tools)


def parse_text(reply: str, tools: Iterable[ToolLike] | None = None) -> ParsedReply:
    """A whole reply's text to content and calls.

    With tools, "<|assistant|>" in it parts segments, as the original's process_response has it; only ids can tell the
    control token from the same letters (see `parse_ids`). Raises ToolCallError for malformed tools.
    """
    declared = as_tools(tools or ())
    parser = ReplyParser(declared)
    events: list[ReplyEvent] = []
    for segment in reply.split("<|assistant|>") if declared else [reply]:
        events += parser.push(segment)
        events += parser.new_segment()
    return collect(events)


def parse_ids(
    ids: Sequence[int],
    tokenizer: LanguageTokenizer,
    tools: Iterable[ToolLike] | None = None,
    parser: ReplyReader | None = None,
) -> ParsedReply:
    """A whole reply's ids to content and calls, up to the first stop id, if there is one.

    `parser`: a fresh one of the format's, where that is not `ReplyParser`. Control tokens other than `<|assistant|>`
    are left out. Raises ToolCallError for malformed tools, InputError for an id out of range or no integer.
    """
    reply = ReplyAssembler(tokenizer, parser or ReplyParser(tools))
    pieces: list[Piece] = []
    for token_id in ids:
        if token_id in tokenizer.stop_token_ids:
            break
        try:
            pieces.append(reply.push(token_id))
        except ValueError as error:
            raise InputError(str(error)) from None
    pieces.append(reply.finish())
    calls = tuple(call for piece in pieces for call in piece.tool_calls)
    return ParsedReply("".join(piece.text for piece in pieces), calls, reply.complete)
