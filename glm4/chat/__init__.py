"""Messages to ids and replies back to messages: one file per wire format, both directions in it."""

from __future__ import annotations

from .assemble import Piece, ReplyAssembler
from .chat_tokenizer import ChatTokenizer
from .detect import load_chat_format
from .format import ChatFormat, Rendered
from .reply import (
    CallArguments,
    CallEnd,
    CallStart,
    ParsedReply,
    ReplyEvent,
    ReplyParser,
    ReplyReader,
    TextDelta,
)

__all__ = [
    "CallArguments",
    "CallEnd",
    "CallStart",
    "ChatFormat",
    "ChatTokenizer",
    "ParsedReply",
    "Piece",
    "Rendered",
    "ReplyAssembler",
    "ReplyEvent",
    "ReplyParser",
    "ReplyReader",
    "TextDelta",
    "load_chat_format",
]
