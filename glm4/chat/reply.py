"""A reply's text back to content and tool calls, while it comes in.

The model marks a call in no way but by its shape, `name` newline `{json}`, and often writes it behind prose on the same
line. So the parser looks for the names that were declared, anywhere in the text, followed by something that begins like
a JSON object; the object ends where its braces balance. `python`, `simple_browser` and `cogview` take code or free
text, which has no end of its own, so they count only as the header (first line) of a segment and take all the rest of
it. A segment is what stands between two `<|assistant|>` tokens.

What it does with the unclear cases:

- a name with nothing like a JSON object behind it is text, and so is `name\\n{` followed by neither `"` nor `}`;
- from there on it is a call, whose arguments are handed out as they come; if the reply ends inside the object (cut off
  by max_tokens, say), it stays a call with the arguments so far, and is marked as incomplete;
- balanced but invalid JSON is a call with these arguments: whoever runs the tool reports it back to the model;
- white space behind a call is dropped, unless text follows it;
- without tools everything is text. One newline at the start of a reply belongs to the format, not to the content.

Time is linear in the text for a given set of tools, whatever the text. Nothing is withheld but what may still become
a call's header: at most the longest name and some white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from ..messages import ToolCall, ToolLike, as_tools


@dataclass(frozen=True)
class ParsedReply:
    """A reply taken apart. `complete` is False if it ended inside the arguments of its last call."""

    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    complete: bool = True


@dataclass(frozen=True)
class TextDelta:
    """More of the content."""

    text: str


@dataclass(frozen=True)
class CallStart:
    """A call begins; `index` counts the reply's calls from 0."""

    index: int
    name: str


@dataclass(frozen=True)
class CallArguments:
    """More of a call's arguments."""

    index: int
    text: str


@dataclass(frozen=True)
class CallEnd:
    """A call ended; `complete` is False if the reply stopped inside its JSON."""

    index: int
    complete: bool = True


ReplyEvent: TypeAlias = TextDelta | CallStart | CallArguments | CallEnd


class ReplyReader(Protocol):
    """What makes events of a reply's text, whatever pieces the text comes in: one for each way to write a reply."""

    def push(self, text: str) -> list[ReplyEvent]:
        """Take more of the reply; return what is decided now."""
        ...

    def new_segment(self) -> list[ReplyEvent]:
        """The model begins a new turn within its reply: what it was in the middle of is over."""
        ...

    def finish(self) -> list[ReplyEvent]:
        """The reply is over: release what was withheld."""
        ...


# Behind the name. White space is bounded, so that what is withheld is, and with it the time.
_CALL_OPENS = re.compile(r'\n[ \t\r\n]{0,16}(?=\{[ \t\r\n]{0,64}["}])')
_CALL_MAY_OPEN = re.compile(r"\n[ \t\r\n]{0,16}(?:\{[ \t\r\n]{0,64})?\Z")
_BRACE_OR_QUOTE = re.compile(r'[{}"]')
_QUOTE_OR_ESCAPE = re.compile(r'["\\]')
_IDENTIFIER = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


class ReplyParser:
    """Feed it a reply's text in any pieces; it returns events whose texts, joined, do not depend on the pieces."""

    def __init__(self, tools: Iterable[ToolLike] | None = None) -> None:
        """tools: those the prompt declared. Raises ToolCallError if they are not well-formed."""
        declared = as_tools(tools or ())
        # Longest first: of two names that the text ends with, the longer is meant.
        self._functions = sorted({tool.name for tool in declared if tool.function is not None}, key=len, reverse=True)
        self._beginnings = frozenset(name[:n] for name in self._functions for n in range(1, len(name) + 1))
        self._initials = frozenset(name[0] for name in self._functions)
        self._longest = len(self._functions[0]) if self._functions else 0
        self._headers = {tool.name + "\n": tool.name for tool in declared if tool.function is None}

        self._state: Literal["start", "text", "json", "free"] = "start"
        self._buffer = ""  # received
        self._at = 0  # how much of it is decided
        self._before = ""  # the last character handed out in this segment, for the word boundary in front of a name
        self._n_calls = 0
        self._any_text = False
        self._gap: list[str] | None = None  # white space since the last call; None once text followed, or before any
        self._json = _JsonObject()

    def push(self, text: str) -> list[ReplyEvent]:
        """Take more of the reply; return what is decided now."""
        self._buffer += text
        events: list[ReplyEvent] = []
        while self._at < len(self._buffer) and self._step(events):
            pass
        # Cut once per push, not once per call found: the text may hold a hundred thousand of them.
        self._buffer, self._at = self._buffer[self._at :], 0
        return events

    def new_segment(self) -> list[ReplyEvent]:
        """The model emitted the control token `<|assistant|>`: what it was in the middle of is over."""
        events: list[ReplyEvent] = []
        if self._state in ("start", "text"):
            self._emit_text(self._buffer, events)
        elif self._state == "json":
            self._end_call(events, complete=False)
        else:
            self._end_call(events, complete=True)
        if self._gap is not None:
            self._gap = []
        self._buffer, self._state, self._before = "", "start", ""
        return events

    def finish(self) -> list[ReplyEvent]:
        """The reply is over: release what was withheld."""
        return self.new_segment()

    def _step(self, events: list[ReplyEvent]) -> bool:
        """Decide what can be decided at the front of the buffer; False if more text is needed."""
        if self._state == "start":
            return self._step_start(events)
        if self._state == "text":
            return self._step_text(events)
        if self._state == "json":
            return self._step_json(events)
        events.append(CallArguments(self._n_calls - 1, self._buffer[self._at :]))
        self._at = len(self._buffer)
        return False

    def _step_start(self, events: list[ReplyEvent]) -> bool:
        for header, name in self._headers.items():
            if self._buffer.startswith(header, self._at):
                self._start_call(name, self._at + len(header), "free", events)
                return True
            if header.startswith(self._buffer[self._at : self._at + len(header)]):
                return False
        # An answer's header is an empty line. Between two answers in one reply its newline keeps them apart.
        if self._buffer[self._at] == "\n" and not self._any_text:
            self._at += 1
        self._state = "text"
        return True

    def _step_text(self, events: list[ReplyEvent]) -> bool:
        newline = self._buffer.find("\n", self._at) if self._functions else -1
        while newline >= 0:
            name = self._name_before(newline)
            if name:
                start = newline - len(name)
                opens = _CALL_OPENS.match(self._buffer, newline)
                if opens:
                    self._release(start, events)
                    self._start_call(name, opens.end(), "json", events)
                    return True
                if _CALL_MAY_OPEN.match(self._buffer, newline):
                    self._release(start, events)
                    return False
            newline = self._buffer.find("\n", newline + 1)
        self._release(self._undecided_from(), events)
        return False

    def _step_json(self, events: list[ReplyEvent]) -> bool:
        end = self._json.scan(self._buffer, self._at)
        events.append(CallArguments(self._n_calls - 1, self._buffer[self._at : end]))
        self._at = end
        if self._json.depth == 0:
            self._end_call(events, complete=True)
            self._state, self._before = "text", ""
        return True

    def _name_before(self, end: int) -> str | None:
        """The longest declared name that the buffer has right before `end`, standing free."""
        for name in self._functions:
            if self._buffer.endswith(name, self._at, end) and self._is_free(end - len(name)):
                return name
        return None

    def _undecided_from(self) -> int:
        """Where the longest end of the buffer starts that may be the beginning of a name."""
        length = len(self._buffer)
        for start in range(max(self._at, length - self._longest), length):
            if (
                self._buffer[start] in self._initials
                and self._buffer[start:] in self._beginnings
                and self._is_free(start)
            ):
                return start
        return length

    def _is_free(self, start: int) -> bool:
        """Whether a name at `start` is not the tail of a longer identifier: "set_time" does not call "time".

        Only ASCII counts: Chinese runs words together, and the model writes calls right behind it.
        """
        before = self._buffer[start - 1] if start > self._at else self._before
        return before not in _IDENTIFIER or self._buffer[start] not in _IDENTIFIER

    def _release(self, end: int, events: list[ReplyEvent]) -> None:
        self._emit_text(self._buffer[self._at : end], events)
        self._at = end

    def _emit_text(self, text: str, events: list[ReplyEvent]) -> None:
        if not text:
            return
        self._before = text[-1]
        if self._gap is not None:
            self._gap.append(text)
            if text.isspace():
                return
            text, self._gap = "".join(self._gap), None
        self._any_text = True
        events.append(TextDelta(text))

    def _start_call(self, name: str, header_end: int, state: Literal["json", "free"], events: list[ReplyEvent]) -> None:
        self._at = header_end
        self._state = state
        self._json = _JsonObject()
        events.append(CallStart(self._n_calls, name))
        self._n_calls += 1

    def _end_call(self, events: list[ReplyEvent], complete: bool) -> None:
        events.append(CallEnd(self._n_calls - 1, complete))
        self._gap = []


class _JsonObject:
    """Finds the end of a JSON object in text that comes in pieces; it looks at braces, strings and escapes only."""

    def __init__(self) -> None:
        self.depth = 0
        self._in_string = False
        self._escaped = False

    def scan(self, text: str, position: int) -> int:
        """Where in `text`, from `position` on, the object ends or the text does; `depth` is 0 if the object did."""
        if self._escaped:
            position, self._escaped = position + 1, False
        while True:
            mark = (_QUOTE_OR_ESCAPE if self._in_string else _BRACE_OR_QUOTE).search(text, position)
            if mark is None:
                return len(text)
            position = mark.end()
            char = mark.group()
            if char == "\\":
                if position == len(text):
                    self._escaped = True
                position += 1
            elif char == '"':
                self._in_string = not self._in_string
            else:
                self.depth += 1 if char == "{" else -1
                if self.depth == 0:
                    return position
