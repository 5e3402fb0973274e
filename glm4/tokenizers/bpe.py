"""GLM-4's tokenizer: byte-pair ranks run by tiktoken, and 14 control tokens that follow them."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import SupportsIndex

import tiktoken

from .byte_stream import ByteStream
from .vocabulary import PATTERN as PATTERN
from .vocabulary import PREFIX_TOKENS as PREFIX_TOKENS
from .vocabulary import read_vocabulary

STOP_TOKENS = ("<|endoftext|>", "<|user|>", "<|observation|>")

# tiktoken's regex engine recurses once per character of a white space run and dies of it near half a million, so
# longer runs than this are cut. Below it the result is tiktoken's, to the id.
_MAX_SPACE_RUN = 50_000
_LONG_SPACE = re.compile(r"\s{2,}")


def load_tokenizer(folder: str | os.PathLike[str], *, padded_vocab_size: int | None = None) -> Tokenizer:
    """Read a checkpoint folder's tokenizer: `tokenizer.model` (tiktoken ranks), else the -hf layout's `tokenizer.json`.

    The control tokens follow the ranks in the original's order unless tokenizer_config.json gives them other ids.
    `padded_vocab_size` is the number of rows of the model's embedding, where known.

    Raises FileNotFoundError naming the missing file, ValueError naming a damaged or unreadable one, or a
    tokenizer.json that is not GLM-4's, with the place and the remedy.
    """
    vocabulary = read_vocabulary(Path(folder))
    return Tokenizer(vocabulary.ranks, vocabulary.special_tokens, padded_vocab_size=padded_vocab_size)


class Tokenizer:
    """Bytes in, ids out. Every string can be encoded; every valid id can be decoded.

    ranks: token bytes -> id. special_tokens: control token -> id, disjoint from the ranks. pattern: tiktoken regex.
    padded_vocab_size: rows of the model's embedding; GLM-4-9B pads 151,343 tokens to 151,552 rows, and a model can
    emit the padding ids, so those decode to nothing instead of failing.
    """

    def __init__(
        self,
        ranks: Mapping[bytes, int],
        special_tokens: Mapping[str, int],
        *,
        pattern: str = PATTERN,
        padded_vocab_size: int | None = None,
    ) -> None:
        self._bpe = tiktoken.Encoding("glm4", pat_str=pattern, mergeable_ranks=dict(ranks), special_tokens={})
        self.special_tokens: dict[str, int] = dict(special_tokens)
        """Control token -> id."""
        self._special_names = {token_id: token for token, token_id in self.special_tokens.items()}
        self.vocab_size: int = 1 + max(*ranks.values(), *self.special_tokens.values(), -1, -1)
        """All ids, control tokens included (151,343 for GLM-4-9B). transformers' vocab_size leaves them out."""
        self.padded_vocab_size: int = max(padded_vocab_size or 0, self.vocab_size)
        """Ids up to here can be decoded; from `vocab_size` on they are padding and decode to ""."""
        # By id, and no list: control tokens may have any ids, however far off.
        self._bytes = {rank: token for token, rank in ranks.items()}
        self._bytes |= {token_id: name.encode("utf-8") for name, token_id in self.special_tokens.items()}
        # Longest first, so that a token which begins with another one wins.
        names = sorted(self.special_tokens, key=len, reverse=True)
        self._special_pattern = re.compile("(" + "|".join(map(re.escape, names)) + ")") if names else None

    @property
    def prefix_ids(self) -> list[int]:
        """What every sequence starts with: `[gMASK]<sop>`, [151331, 151333] for GLM-4-9B."""
        return [self.special_tokens[token] for token in PREFIX_TOKENS if token in self.special_tokens]

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """Ids that end a reply: `<|endoftext|>`, `<|user|>`, `<|observation|>` (151329, 151336, 151338).

        All three are needed: the model ends an answer with the next speaker's token, hardly ever with the first.
        """
        return frozenset(self.special_tokens[token] for token in STOP_TOKENS if token in self.special_tokens)

    def encode(self, text: str, add_special_tokens: bool = True, *, parse_special: bool = True) -> list[int]:
        """Text to a flat list of ids, `[gMASK]<sop>` first where `add_special_tokens`.

        `parse_special`: "<|user|>" in the text becomes the control token 151336, as the original's encode has it. Pass
        False for text that came from somebody else, which must stay plain text; chat formats always do. Lone
        surrogates become U+FFFD.
        """
        if not isinstance(text, str):
            raise ValueError(f"text to encode is {text!r} ({type(text).__name__}); it must be a string")
        ids = self.prefix_ids if add_special_tokens else []
        if not parse_special or self._special_pattern is None:
            return ids + self._encode_plain(text)
        for piece in self._special_pattern.split(text):
            if piece in self.special_tokens:
                ids.append(self.special_tokens[piece])
            elif piece:
                ids += self._encode_plain(piece)
        return ids

    def _encode_plain(self, text: str) -> list[int]:
        if len(text) <= _MAX_SPACE_RUN:
            return self._bpe.encode_ordinary(text)
        return [token_id for piece in _cut_long_space(text) for token_id in self._bpe.encode_ordinary(piece)]

    def decode(
        self,
        ids: Iterable[SupportsIndex],
        skip_special_tokens: bool = False,
        *,
        spaces_between_special_tokens: bool = True,
    ) -> str:
        """Ids to text. Bytes that are no UTF-8 become U+FFFD; padding ids become nothing.

        `spaces_between_special_tokens`: with control tokens kept, a space parts each from its neighbours
        ("[gMASK] <sop>"), as the original's decode has it (transformers' slow tokenizers do that by default).

        Raises ValueError for an id outside 0 <= id < padded_vocab_size, or no integer (numpy's are integers too).
        """
        runs: list[str] = []
        pending: list[bytes] = []
        for token_id in map(_as_id, ids):
            if token_id in self._special_names:
                if not skip_special_tokens:
                    runs += [b"".join(pending).decode("utf-8", "replace"), self._special_names[token_id]]
                    pending = []
            else:
                pending.append(self.bytes_of(token_id))
        runs.append(b"".join(pending).decode("utf-8", "replace"))
        return (" " if spaces_between_special_tokens else "").join(run for run in runs if run)

    def text_stream(self, skip_special_tokens: bool = True) -> ByteStream:
        """`decode`, one id at a time."""
        return ByteStream(self, skip_special_tokens)

    def bytes_of(self, token_id: SupportsIndex) -> bytes:
        """The bytes one id stands for; a control token's are its name, a padding id's none. Not always whole UTF-8.

        Raises ValueError for an id outside 0 <= id < padded_vocab_size, or no integer.
        """
        token_id = _as_id(token_id)
        if not 0 <= token_id < self.padded_vocab_size:
            raise ValueError(
                f"token id {token_id} is out of range: this tokenizer has ids 0 to {self.vocab_size - 1}"
                + (f", padded to {self.padded_vocab_size - 1}" if self.padded_vocab_size > self.vocab_size else "")
            )
        return self._bytes.get(token_id, b"")

    def is_special(self, token_id: SupportsIndex) -> bool:
        """Whether the id is a control token's. Raises ValueError for no integer."""
        return _as_id(token_id) in self._special_names


def _as_id(value: SupportsIndex) -> int:
    """Any library's integer as Python's. True is no id, though Python takes it for 1."""
    if type(value) is int:
        return value
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"token id {value!r} ({type(value).__name__}) is no integer; pass ids as encode returns them")


def _cut_long_space(text: str) -> Iterator[str]:
    start = 0
    for match in _LONG_SPACE.finditer(text):
        while match.end() - max(start, match.start()) > _MAX_SPACE_RUN:
            cut = max(start, match.start()) + _MAX_SPACE_RUN
            yield text[start:cut]
            start = cut
    yield text[start:]
