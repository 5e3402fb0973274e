"""A checkpoint's tokenizer and chat format in one object: what `glm4.load_tokenizer` returns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

from ..errors import CheckpointError, InputError
from ..messages import MessageLike, ToolLike
from ..tokenizers import LanguageTokenizer, load_tokenizer
from .detect import load_chat_format, read_optional_json
from .format import ChatFormat, Rendered
from .reply import ParsedReply, ReplyReader


class ChatTokenizer:
    """Text and conversations to ids, and back. Plain delegation to `tokenizer` and `format`."""

    def __init__(self, tokenizer: LanguageTokenizer, format: ChatFormat) -> None:
        self.tokenizer = tokenizer
        """Text to ids and back."""
        self.format = format
        """Messages to ids, replies to messages."""

    def __repr__(self) -> str:
        return f"ChatTokenizer({self.vocab_size} tokens, chat format {self.format.name!r})"

    @classmethod
    def load(cls, folder: str | os.PathLike[str], config: Mapping[str, Any] | None = None) -> ChatTokenizer:
        """Read a checkpoint folder. Needs no weights. `config` is its config.json, for who has read it already; without
        it the file is looked at where there is one.

        Raises CheckpointError naming a missing, unreadable or damaged file, ConfigError for invalid JSON and for an
        unknown chat format.
        """
        if config is None:
            config = read_optional_json(Path(folder) / "config.json")
        # First, since the tokenizer looks at it too, and would call broken JSON by another name.
        tokenizer_config = read_optional_json(Path(folder) / "tokenizer_config.json")
        inner = config.get("llm_config")  # InternVL's language model has a configuration inside
        sizes = {**inner, **config} if isinstance(inner, Mapping) else config
        rows = sizes.get("padded_vocab_size", sizes.get("vocab_size"))
        try:
            tokenizer = load_tokenizer(folder, padded_vocab_size=rows if isinstance(rows, int) else None)
        except (ValueError, OSError) as error:
            raise CheckpointError(str(error)) from error
        return cls(tokenizer, load_chat_format(folder, tokenizer, config, tokenizer_config))

    @property
    def special_tokens(self) -> dict[str, int]:
        """Control token -> id."""
        return self.tokenizer.special_tokens

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """Ids that end a reply: 151329, 151336 and 151338 for GLM-4-9B."""
        return self.tokenizer.stop_token_ids

    @property
    def prefix_ids(self) -> list[int]:
        """`[gMASK]<sop>`: what every sequence starts with."""
        return self.tokenizer.prefix_ids

    @property
    def vocab_size(self) -> int:
        """All ids, control tokens included, padding not: 151,343 for GLM-4-9B."""
        return self.tokenizer.vocab_size

    def encode(self, text: str, add_special_tokens: bool = True, *, parse_special: bool | None = None) -> list[int]:
        """Text to ids, equal to the original's. `parse_special`: whether names of control tokens in the text become
        control tokens; None for what the tokenizer does by itself (see its `encode`). Raises InputError."""
        try:
            if parse_special is None:
                return self.tokenizer.encode(text, add_special_tokens)
            return self.tokenizer.encode(text, add_special_tokens, parse_special=parse_special)
        except ValueError as error:
            raise InputError(str(error)) from None

    def decode(
        self,
        ids: Iterable[SupportsIndex],
        skip_special_tokens: bool = False,
        *,
        spaces_between_special_tokens: bool = True,
    ) -> str:
        """Ids to text; see `Tokenizer.decode`. Raises InputError for an id out of range or no integer."""
        if not isinstance(ids, Iterable):
            raise InputError(f"ids to decode is {ids!r} ({type(ids).__name__}); pass a list of ids, such as [{ids!r}]")
        try:
            return self.tokenizer.decode(
                ids, skip_special_tokens, spaces_between_special_tokens=spaces_between_special_tokens
            )
        except ValueError as error:
            raise InputError(str(error)) from None

    def bytes_of(self, token_id: SupportsIndex) -> bytes:
        """The bytes one id stands for. Raises InputError for an id out of range or no integer."""
        try:
            return self.tokenizer.bytes_of(token_id)
        except ValueError as error:
            raise InputError(str(error)) from None

    def render(
        self,
        messages: Iterable[MessageLike],
        tools: Iterable[ToolLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """A conversation as the prompt's flat ids. Raises InputError naming the message, the value and the remedy."""
        return self.format.render(messages, tools, add_generation_prompt)

    def render_text(
        self,
        messages: Iterable[MessageLike],
        tools: Iterable[ToolLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The same prompt for people to read. Raises InputError.

        Not to encode again: `encode` puts a second `[gMASK]<sop>` in front of the one it begins with, and makes control
        tokens of a user's text. The ids are `render`'s.
        """
        return self.format.render_text(messages, tools, add_generation_prompt)

    def render_for_training(self, messages: Iterable[MessageLike], tools: Iterable[ToolLike] | None = None) -> Rendered:
        """A whole conversation's ids and loss mask, 1 on what the model must emit. Raises InputError, ConfigError."""
        return self.format.render_for_training(messages, tools)

    def parse(self, reply: str | Sequence[int], tools: Iterable[ToolLike] | None = None) -> ParsedReply:
        """A whole reply, as text or as ids, to content and tool calls. Raises ToolCallError for malformed tools,
        InputError for an id out of range or no integer."""
        return self.format.parse(reply, tools)

    def reply_parser(self, tools: Iterable[ToolLike] | None = None) -> ReplyReader:
        """A parser to feed with a reply's text as it comes in. Raises ToolCallError for malformed tools."""
        return self.format.reply_parser(tools)
