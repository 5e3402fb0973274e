"""Messages to ids and replies back to messages: one file per wire format, both directions in it."""

from __future__ import annotations

from glm4.chat.chat_tokenizer import ChatTokenizer
from glm4.chat.detect import load_chat_format
from glm4.chat.format import ChatFormat, Rendered
from glm4.chat.reply import (
    CallArguments,
    CallEnd,
    CallStart,
    ParsedReply,
    ReplyEvent,
    ReplyParser,
    TextDelta,
    collect,
)

__all__ = [
    "CallArguments",
    "CallEnd",
    "CallStart",
    "ChatFormat",
    "ChatTokenizer",
    "ParsedReply",
    "Rendered",
    "ReplyEvent",
    "ReplyParser",
    "TextDelta",
    "collect",
    "load_chat_format",
]
