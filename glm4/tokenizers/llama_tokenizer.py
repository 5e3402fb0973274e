"""LLaMA-2's tokenizer as InternVL-Chat-V1-1 was trained with it: a sentencepiece model, and tokens added behind it.

The weights were trained with transformers 4.37's slow tokenizer in its "legacy" mode. It parts a text at the added and
the control tokens and gives each part to sentencepiece by itself, so that each begins with a word of its own: "</s>Hi"
is `</s>`, `▁Hi`. Newer versions of transformers, with their fast tokenizer, put that space only in front of the whole
text, and so give other ids than the weights know. `"legacy": false` in tokenizer_config.json asks for the newer way,
and gets it.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, SupportsIndex

from .sentencepieces import PieceStream, SentencePieces

FILE_NAME = "tokenizer.model"

# A serialised `normalizer_spec { add_dummy_prefix: false }`: joined to a model, it overrides that one field.
_WITHOUT_PREFIX = b"\x1a\x02\x18\x00"
# How far behind the vocabulary an added token's id may lie: the embedding has a row for each.
_MOST_ADDED = 100_000
_NAMED = ("unk_token", "bos_token", "eos_token", "pad_token", "sep_token", "cls_token", "mask_token")
_IN_BRACKETS = re.compile(r"</?\w+>")


@dataclass(frozen=True)
class AddedToken:
    """A token that sentencepiece never sees, since texts are parted at it.

    lstrip, rstrip: whether white space to its left, to its right, goes with it. is_control: whether it stands for no
    text, so that a user's text must not make one.
    """

    token_id: int
    lstrip: bool = False
    rstrip: bool = False
    is_control: bool = True


@dataclass(frozen=True)
class LlamaSettings:
    """What the files beside the vocabulary decide."""

    added: dict[str, AddedToken]  # control tokens that are pieces of the vocabulary included
    legacy: bool = True
    bos: str | None = "<s>"  # in front of every text; None for nothing
    eos: str = "</s>"
    ends_with_eos: bool = False


def load_llama_tokenizer(folder: Path, *, padded_vocab_size: int | None = None) -> LlamaTokenizer:
    """Read a checkpoint folder's tokenizer.model in sentencepiece's format, and what tokenizer_config.json,
    special_tokens_map.json and added_tokens.json say about it, as far as they are there.

    Raises FileNotFoundError naming a missing file, ValueError naming a damaged one.
    """
    path = folder / FILE_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no tokenizer in {folder}: {FILE_NAME} is missing; copy it from the original"
        ) from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    pieces = SentencePieces(data, path)
    settings = _settings(folder, pieces)
    later = None if settings.legacy else SentencePieces(data + _WITHOUT_PREFIX, path)
    return LlamaTokenizer(pieces, settings, later=later, padded_vocab_size=padded_vocab_size)


# The files beside the vocabulary -------------------------------------------------------------------------------------


def _settings(folder: Path, pieces: SentencePieces) -> LlamaSettings:
    file = folder / "tokenizer_config.json"
    config = _json(file)
    names = {**_json(folder / "special_tokens_map.json"), **config}

    def flag(key: str, default: bool) -> bool:
        value = config.get(key)
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"{file}: {key} is {value!r}, expected true or false; copy the original's file")
        return default if value is None else value

    added = _added(folder, config, pieces)
    named = {key: _name(names.get(key), default) for key, default in _DEFAULT_NAMES.items()}
    extra = names.get("additional_special_tokens") or ()
    if not isinstance(extra, (list, tuple)):
        raise ValueError(f"{file}: additional_special_tokens is {extra!r}, expected a list; copy the original's file")
    behind = max(len(pieces), *(token.token_id + 1 for token in added.values()), 0)
    for name in [*named.values(), *(_name(entry, None) for entry in extra)]:
        if name and name in added:
            added[name] = replace(added[name], is_control=True)  # whatever added_tokens_decoder says
        elif name:
            known = pieces.ids.get(name)
            # As transformers has it: a token that no file gives an id comes behind all others.
            added[name] = AddedToken(behind if known is None else known)
            behind += known is None
    bos, eos = named["bos_token"], named["eos_token"]
    return LlamaSettings(
        added=added,
        legacy=flag("legacy", True),  # files from before the key existed mean the old way
        bos=bos if flag("add_bos_token", True) else None,
        eos=eos or "</s>",
        ends_with_eos=flag("add_eos_token", False),
    )


_DEFAULT_NAMES: dict[str, str | None] = dict.fromkeys(_NAMED) | {
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
}


def _added(folder: Path, config: Mapping[str, Any], pieces: SentencePieces) -> dict[str, AddedToken]:
    """Tokens with ids of their own: tokenizer_config.json knows the most about them, added_tokens.json only ids."""
    added: dict[str, AddedToken] = {}
    file = folder / "tokenizer_config.json"
    entries = config.get("added_tokens_decoder") or {}
    try:
        for key, entry in entries.items():
            name = str(entry["content"])
            # Files that have been through several versions lost the flag here and there. A name in angle brackets
            # stays a control token: a user's text must not be able to write <img>.
            control = bool(entry.get("special", True)) or _IN_BRACKETS.fullmatch(name) is not None
            if entry.get("single_word"):
                raise ValueError(f"{name!r} counts as a single word only, which is not implemented")
            added[name] = AddedToken(int(key), bool(entry.get("lstrip")), bool(entry.get("rstrip")), control)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: added_tokens_decoder cannot be read ({error!r}); copy the original's file") from None
    _check(added, pieces, file)
    file = folder / "added_tokens.json"
    for name, token_id in _json(file).items():
        if type(token_id) is not int:
            raise ValueError(f"{file}: the id of {name!r} is {token_id!r}, expected an integer; copy the original's")
        if added.get(name, AddedToken(token_id)).token_id != token_id:
            raise ValueError(
                f"{file}: {name!r} has id {token_id}, in tokenizer_config.json it has {added[name].token_id}; the two "
                "files belong to different tokenizers"
            )
        added.setdefault(name, AddedToken(token_id))
    _check(added, pieces, file)
    return added


def _check(added: Mapping[str, AddedToken], pieces: SentencePieces, file: Path) -> None:
    seen: set[int] = set()
    for name, token in added.items():
        if not 0 <= token.token_id < len(pieces) + _MOST_ADDED or not name:
            raise ValueError(
                f"{file}: the added token {name!r} has id {token.token_id}, expected one right behind the "
                f"{len(pieces)} pieces of the vocabulary; copy the original's file"
            )
        if token.token_id < len(pieces) and pieces.names[token.token_id] != name:
            raise ValueError(
                f"{file}: the added token {name!r} has id {token.token_id}, which in the vocabulary is "
                f"{pieces.names[token.token_id]!r}; the two files belong to different tokenizers"
            )
        if token.token_id in seen:
            raise ValueError(f"{file}: two added tokens have the id {token.token_id}; copy the original's file")
        seen.add(token.token_id)


def _name(value: object, default: str | None) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("content")  # as transformers writes a token with its properties
    return value if isinstance(value, str) and value else default


def _json(file: Path) -> dict[str, Any]:
    """A JSON object; empty if there is no such file."""
    if not file.exists():
        return {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {error}; copy the original's file") from None
    if not isinstance(data, dict):
        raise ValueError(f"{file} holds no JSON object; copy the original's file")
    return data


# Text and ids --------------------------------------------------------------------------------------------------------


class LlamaTokenizer:
    """Text in, ids out (see `LanguageTokenizer`)."""

    def __init__(
        self,
        pieces: SentencePieces,
        settings: LlamaSettings,
        *,
        later: SentencePieces | None = None,
        padded_vocab_size: int | None = None,
    ) -> None:
        """later: the same vocabulary without a space in front of the text, for the parts of a text behind the first;
        None where `settings.legacy` holds."""
        self.pieces, self.settings = pieces, settings
        self.later = later or pieces
        self._added = settings.added
        controls = {name: token.token_id for name, token in settings.added.items() if token.is_control}
        self.special_tokens: dict[str, int] = controls
        """Control token -> id."""
        self._controls = {token_id: name for name, token_id in self.special_tokens.items()}
        self._words = {t.token_id: name for name, t in self._added.items() if not t.is_control}
        self.vocab_size: int = max(len(pieces), 1 + max((t.token_id for t in self._added.values()), default=0))
        """All ids."""
        self.padded_vocab_size: int = max(padded_vocab_size or 0, self.vocab_size)
        """Ids up to here can be decoded; from `vocab_size` on they are padding."""
        self._all_tokens = _alternatives(self._added)
        self._word_tokens = _alternatives(self._words.values())

    @property
    def prefix_ids(self) -> list[int]:
        """What every sequence starts with: `<s>`, [1]."""
        return [] if self.settings.bos is None else [self.special_tokens[self.settings.bos]]

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """`</s>` (2), which ends a reply."""
        return frozenset([self.special_tokens[self.settings.eos]])

    def encode(self, text: str, add_special_tokens: bool = True, *, parse_special: bool = True) -> list[int]:
        """Text to a flat list of ids, `<s>` first where `add_special_tokens`.

        `parse_special`: "</s>" in the text becomes the control token, as the original's tokenizer has it. Pass False
        for text that came from somebody else, which must stay plain text; chat formats always do. Lone surrogates
        become U+FFFD. Raises ValueError for what is no string.
        """
        if not isinstance(text, str):
            raise ValueError(f"text to encode is {text!r} ({type(text).__name__}); it must be a string")
        ids = self.prefix_ids if add_special_tokens else []
        ids += self._encode(text, self._all_tokens if parse_special else self._word_tokens, first=True)
        if add_special_tokens and self.settings.ends_with_eos:
            ids.append(self.special_tokens[self.settings.eos])
        return ids

    def encode_part(self, text: str, *, first: bool) -> list[int]:
        """Plain text that stands between control tokens, or, where `first`, in front of all of them."""
        return self._encode(text, self._word_tokens, first)

    def _encode(self, text: str, tokens: re.Pattern[str] | None, first: bool) -> list[int]:
        ids: list[int] = []
        parts = tokens.split(text) if tokens is not None else [text]
        for index, part in enumerate(parts):
            if index % 2:
                ids.append(self._added[part].token_id)
                continue
            if index and self._added[parts[index - 1]].rstrip:
                part = part.lstrip()
            if index + 1 < len(parts) and self._added[parts[index + 1]].lstrip:
                part = part.rstrip()
            if part:
                ids += (self.pieces if first and index == 0 else self.later).encode(part)
        return ids

    def decode(
        self,
        ids: Iterable[SupportsIndex],
        skip_special_tokens: bool = False,
        *,
        spaces_between_special_tokens: bool = True,
    ) -> str:
        """Ids to text: what was encoded, without the space that sentencepiece put in front of it (of each part of it,
        where control tokens are kept). Bytes that are no UTF-8 become U+FFFD, padding ids nothing.
        `spaces_between_special_tokens` changes nothing: the original's tokenizer has none.

        Raises ValueError for an id outside 0 <= id < padded_vocab_size, or no integer.
        """
        stream = self.text_stream(skip_special_tokens)
        return "".join(map(stream.push, ids)) + stream.finish()

    def text_stream(self, skip_special_tokens: bool = True) -> LlamaStream:
        """`decode`, one id at a time."""
        return LlamaStream(self, skip_special_tokens)

    def bytes_of(self, token_id: SupportsIndex) -> bytes:
        """The bytes one id stands for; a control token's are its name, a padding id's none.

        Raises ValueError for an id outside 0 <= id < padded_vocab_size, or no integer.
        """
        token_id = self.checked(token_id)
        name = self.name_of(token_id)
        if name is not None:
            return name.encode("utf-8")
        return self.pieces.bytes_of(token_id) if token_id < len(self.pieces) else b""

    def is_special(self, token_id: SupportsIndex) -> bool:
        """Whether the id is a control token's. Raises ValueError for no integer."""
        return _as_id(token_id) in self._controls

    def name_of(self, token_id: int) -> str | None:
        """A control or added token's name; None for a piece."""
        return self._controls.get(token_id, self._words.get(token_id))

    def checked(self, token_id: SupportsIndex) -> int:
        """The id as Python's integer. Raises ValueError for one out of range, or no integer."""
        token_id = _as_id(token_id)
        if not 0 <= token_id < self.padded_vocab_size:
            raise ValueError(
                f"token id {token_id} is out of range: this tokenizer has ids 0 to {self.vocab_size - 1}"
                + (f", padded to {self.padded_vocab_size - 1}" if self.padded_vocab_size > self.vocab_size else "")
            )
        return token_id


class LlamaStream:
    """`LlamaTokenizer.decode`, one id at a time (see `TextStream`). Withheld are the bytes of an unfinished
    character."""

    def __init__(self, tokenizer: LlamaTokenizer, skip_special_tokens: bool = True) -> None:
        self._tokenizer, self._skip = tokenizer, skip_special_tokens
        self._pieces = tokenizer.pieces
        self._text = PieceStream(self._pieces)
        self._begun = False  # whether there was anything but the prefix

    def push(self, token_id: SupportsIndex) -> str:
        """Take one id; return the text that can no longer change. Raises ValueError for an id out of range."""
        known = self._tokenizer.checked(token_id)
        name = self._tokenizer.name_of(known)
        if name is None:
            self._begun = True
            return self._text.push(known) if known < len(self._pieces) else ""
        if self._skip and self._tokenizer.is_special(known):
            return ""
        before = self._text.finish()
        at_start = not self._begun and known in self._tokenizer.prefix_ids
        self._begun = True
        self._text = PieceStream(self._pieces if at_start else self._tokenizer.later)
        return before + name

    def finish(self) -> str:
        """The rest: an unfinished character's bytes, each as U+FFFD."""
        return self._text.finish()


def _alternatives(names: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern that splits at the names: the leftmost, and of those that begin there the longest."""
    ordered = sorted(names, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, ordered)) + ")") if ordered else None


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
