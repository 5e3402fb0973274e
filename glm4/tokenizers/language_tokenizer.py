"""What the rest of the library asks of a family's tokenizer: the one seam between them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, SupportsIndex


class TextStream(Protocol):
    """Ids to text while they come in. Everything returned, joined, is `decode` of all ids; nothing is taken back."""

    def push(self, token_id: SupportsIndex) -> str:
        """Take one id; return the text that can no longer change, often "". Raises ValueError for one out of range."""
        ...

    def finish(self) -> str:
        """The ids are over: the rest of the text."""
        ...


class LanguageTokenizer(Protocol):
    """Text to ids and back. Every string can be encoded; every id below `padded_vocab_size` can be decoded."""

    special_tokens: dict[str, int]
    """Control token -> id."""
    vocab_size: int
    """Ids there are, control tokens included."""
    padded_vocab_size: int
    """Rows of the model's embedding; ids from `vocab_size` on are padding, and decode to ""."""

    @property
    def prefix_ids(self) -> list[int]:
        """What every prompt starts with; empty where a family has no such thing."""
        ...

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """Ids that end a reply."""
        ...

    def encode(self, text: str, add_special_tokens: bool = True, *, parse_special: bool = ...) -> list[int]:
        """Text to a flat list of ids, with what frames a prompt where `add_special_tokens`.

        `parse_special`: whether the names of control tokens in the text become control tokens. Its default is the
        family's. Raises ValueError for what is no string.
        """
        ...

    def decode(
        self,
        ids: Iterable[SupportsIndex],
        skip_special_tokens: bool = False,
        *,
        spaces_between_special_tokens: bool = True,
    ) -> str:
        """Ids to text. Raises ValueError for an id outside 0 <= id < padded_vocab_size, or no integer."""
        ...

    def text_stream(self, skip_special_tokens: bool = True) -> TextStream:
        """`decode`, one id at a time."""
        ...

    def bytes_of(self, token_id: SupportsIndex) -> bytes:
        """The bytes that one id alone stands for; a control token's are its name, a padding id's none.

        Raises ValueError for an id out of range, or no integer.
        """
        ...

    def is_special(self, token_id: SupportsIndex) -> bool:
        """Whether the id is a control token's. Raises ValueError for no integer."""
        ...
