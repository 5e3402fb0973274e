"""ChatGLM-6B's tokenizer: a unigram vocabulary of 130,000 pieces run by sentencepiece, behind 20,000 ids for images.

The first release (150,528 rows of embedding) begins with the ids of image tokens, which no published weight uses;
version 1.1 (130,528 rows) dropped them, and every id moved down by 20,000. `num_image_tokens` says which it is.

sentencepiece sees no white space but single spaces: a newline is the piece "<n>", a tab "<|tab|>", and two to eighty
spaces "<|blank_2|>" to "<|blank_80|>". Its normalisation (NFKC) is not undone by decoding: full-width punctuation and
letters come back half-width, and a single space in front is lost. A text that holds the letters "<n>" comes back with
a newline in their place. All of this is the original's.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

from .replace import Replacements
from .sentencepieces import PieceStream, SentencePieces, model_facts

FILE_NAME = "ice_text.model"
IMAGE_TOKENS = 20_000  # of the first release: the original class's default

_MOST_BLANKS = 80
_MOST_IMAGE_TOKENS = 10**6
_BLANKS = re.compile(f" {{2,{_MOST_BLANKS}}}")
_SURFACES = {"<n>": "\n", "<|tab|>": "\t"} | {f"<|blank_{n}|>": " " * n for n in range(2, _MOST_BLANKS + 1)}
_CONTROL = ("[MASK]", "[gMASK]", "[sMASK]", "<unused_0>", "<sop>", "<eop>", "<ENC>", "<dBLOCK>")

# What transformers 4.27, which the model was released for, did to every decoded text: English tokenizers of the time
# parted words from punctuation. The original's replies have it, so it stays.
CLEAN_UP = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"),
    (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


@dataclass(frozen=True)
class IceSettings:
    """What tokenizer_config.json decides."""

    num_image_tokens: int  # ids in front of the text's
    remove_space: bool = False
    do_lower_case: bool = False
    begin: str = "<sop>"
    end: str = "<eop>"  # ends a reply; "</s>" in the checkpoints of the first weeks
    mask: str = "[MASK]"
    gmask: str = "[gMASK]"
    pad: str = "<pad>"
    unknown: str = "<unk>"


def load_ice_tokenizer(folder: Path, *, padded_vocab_size: int | None = None) -> IceTokenizer:
    """Read a checkpoint folder's ice_text.model and tokenizer_config.json.

    Where the latter does not give `num_image_tokens`, the rows of the embedding decide; where they are not known
    either, whether the file holds the control pieces, which the first release added when it was read.

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
    n_pieces, addition = _addition(data, path)
    if padded_vocab_size is not None:
        shift = IMAGE_TOKENS if padded_vocab_size >= IMAGE_TOKENS + n_pieces else 0
    else:
        shift = IMAGE_TOKENS if addition else 0
    settings = _settings(folder / "tokenizer_config.json", shift)
    pieces = SentencePieces(data + addition, path, _SURFACES)
    try:
        return IceTokenizer(pieces, settings, padded_vocab_size=padded_vocab_size)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _addition(data: bytes, path: Path) -> tuple[int, bytes]:
    """How many pieces there are in all, and those that the file lacks.

    The first release's file ends with the trained pieces; its tokenizer appended control pieces, blanks and bytes in
    memory, in this order, and version 1.1's file holds them. Serialised messages are joined by putting one behind the
    other.
    """
    facts = model_facts(data, path)
    if facts.n_pieces != facts.trained_pieces or b"[gMASK]" in data or b"<0x00>" in data:
        return facts.n_pieces, b""
    control = b"".join(_piece(name, 3) for name in _CONTROL)
    blanks = b"".join(_piece(name, 4) for name in ("<|tab|>", *(f"<|blank_{n}|>" for n in range(2, _MOST_BLANKS + 1))))
    fallback = b"".join(_piece(f"<0x{byte:02X}>", 6) for byte in range(256))
    byte_fallback = b"\x12\x03\x98\x02\x01"  # trainer_spec { byte_fallback: true }
    n_added = len(_CONTROL) + 1 + _MOST_BLANKS - 1 + 256
    return facts.n_pieces + n_added, control + blanks + fallback + byte_fallback


def _piece(name: str, kind: int) -> bytes:
    """A serialised piece of score 0: `pieces { piece: name, score: 0, type: kind }`."""
    text = name.encode("utf-8")
    body = b"\x0a" + bytes([len(text)]) + text + b"\x15\0\0\0\0\x18" + bytes([kind])
    return b"\x0a" + bytes([len(body)]) + body


def _settings(path: Path, image_tokens: int) -> IceSettings:
    """tokenizer_config.json, with the original class's defaults. Raises ValueError naming the file and the key."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}; copy the original's file") from None
    if not isinstance(raw, Mapping):
        raise ValueError(f"{path} holds no JSON object; copy the original's file")

    def get(key: str, kind: type, default: Any) -> Any:
        value = raw.get(key)
        if isinstance(value, Mapping) and kind is str:
            value = value.get("content")  # as transformers writes a token with its properties
        if value is None:
            return default
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value <= _MOST_IMAGE_TOKENS):
            raise ValueError(f"{path}: {key} is {value!r}, expected {kind.__name__}; copy the original's file")
        return value

    return IceSettings(
        num_image_tokens=get("num_image_tokens", int, image_tokens),
        remove_space=get("remove_space", bool, False),
        do_lower_case=get("do_lower_case", bool, False),
        begin=get("bos_token", str, "<sop>"),
        end=get("eos_token", str, "<eop>"),
        mask=get("mask_token", str, "[MASK]"),
        gmask=get("gmask_token", str, "[gMASK]"),
        pad=get("pad_token", str, "<pad>"),
        unknown=get("unk_token", str, "<unk>"),
    )


class IceTokenizer:
    """Text in, ids out (see `LanguageTokenizer`). `[gMASK]<sop>` stands behind a prompt, not in front of it."""

    def __init__(self, pieces: SentencePieces, settings: IceSettings, *, padded_vocab_size: int | None = None) -> None:
        """Raises ValueError if the vocabulary lacks a piece that this tokenizer writes."""
        self._pieces, self._settings = pieces, settings
        self._shift = settings.num_image_tokens
        needed = (*_SURFACES, settings.begin, settings.end, settings.mask, settings.gmask, settings.pad)
        missing = [name for name in needed if name not in pieces.ids]
        if missing:
            raise ValueError(
                f"the vocabulary of {len(pieces)} pieces lacks {', '.join(missing[:5])}"
                f"{', ...' if len(missing) > 5 else ''}; it is no ChatGLM-6B's, or truncated: download the file again"
            )
        special = sorted(pieces.control | {pieces.unknown_id})
        self.special_tokens: dict[str, int] = {pieces.names[i]: i + self._shift for i in special}
        """Control piece -> id."""
        self._special_ids = frozenset(self.special_tokens.values())
        self.vocab_size: int = len(pieces) + self._shift
        """All ids: 130,344 in version 1.1."""
        self.padded_vocab_size: int = max(padded_vocab_size or 0, self.vocab_size)
        """Ids up to here can be decoded; from `vocab_size` on they are padding."""
        self.pad_token_id: int = pieces.ids[settings.pad] + self._shift
        """Fills the left of shorter prompts in a batch: 3."""
        self.gmask_token_id: int = pieces.ids[settings.gmask] + self._shift
        """Where the reply is generated: behind the prompt, 130001."""
        self.begin_token_id: int = pieces.ids[settings.begin] + self._shift
        """`<sop>`: the reply begins, 130004."""
        # Those that transformers knew of, and so looked for in every text.
        named = {settings.begin, settings.end, settings.mask, settings.pad, settings.unknown} & set(self.special_tokens)
        self._parsed = re.compile("(" + "|".join(map(re.escape, sorted(named, key=len, reverse=True))) + ")")
        self._hidden = frozenset(self.special_tokens[name] for name in named)

    @property
    def prefix_ids(self) -> list[int]:
        """Nothing: what frames a prompt stands behind it (see `suffix_ids`)."""
        return []

    @property
    def suffix_ids(self) -> list[int]:
        """What every prompt ends with: `[gMASK]<sop>`, [130001, 130004]."""
        return [self.gmask_token_id, self.begin_token_id]

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """`<eop>` (130005), which ends a reply."""
        return frozenset([self._pieces.ids[self._settings.end] + self._shift])

    def encode(self, text: str, add_special_tokens: bool = True, *, parse_special: bool = False) -> list[int]:
        """Text to a flat list of ids, `[gMASK]<sop>` behind it where `add_special_tokens`.

        `parse_special`: "<sop>", "<eop>", "[MASK]", "<pad>" and "<unk>" in the text become control tokens, and white
        space around them is lost, as the original's tokenizer had it under transformers 4.27; not so "[gMASK]". By
        default they stay letters, as text that came from somebody else must. Lone surrogates become U+FFFD.
        """
        if not isinstance(text, str):
            raise ValueError(f"text to encode is {text!r} ({type(text).__name__}); it must be a string")
        ids: list[int] = []
        parts = self._parsed.split(text) if parse_special else [text]
        for index, part in enumerate(parts):
            if index % 2:
                ids.append(self.special_tokens[part])
                continue
            part = part.lstrip() if index else part
            part = part.rstrip() if index < len(parts) - 1 else part
            ids += [piece_id + self._shift for piece_id in self._pieces.encode(self._prepared(part))]
        return ids + (self.suffix_ids if add_special_tokens else [])

    def _prepared(self, text: str) -> str:
        if self._settings.remove_space:
            text = " ".join(text.split())
        if self._settings.do_lower_case:
            text = text.lower()
        text = text.replace("\n", "<n>").replace("\t", "<|tab|>")
        return _BLANKS.sub(lambda run: f"<|blank_{len(run[0])}|>", text)

    def decode(
        self,
        ids: Iterable[SupportsIndex],
        skip_special_tokens: bool = False,
        *,
        spaces_between_special_tokens: bool = True,
    ) -> str:
        """Ids to text. Control pieces stand for no text and never show, as in the original; `skip_special_tokens`
        matters to the unknown piece only, which else shows as sentencepiece has it. Image and padding ids become
        nothing. `spaces_between_special_tokens` changes nothing.

        Raises ValueError for an id outside 0 <= id < padded_vocab_size, or no integer.
        """
        stream = _Plain(self, skip_special_tokens)
        text = "".join(map(stream.push, ids)) + stream.finish()
        for old, new in CLEAN_UP:
            text = text.replace(old, new)
        return text

    def text_stream(self, skip_special_tokens: bool = True) -> IceStream:
        """`decode`, one id at a time."""
        return IceStream(self, skip_special_tokens)

    def bytes_of(self, token_id: SupportsIndex) -> bytes:
        """The bytes one id stands for; a control piece's are its name, an image's or a padding id's none.

        Raises ValueError for an id outside 0 <= id < padded_vocab_size, or no integer.
        """
        piece_id = self.piece_of(token_id)
        return b"" if piece_id is None else self._pieces.bytes_of(piece_id)

    def is_special(self, token_id: SupportsIndex) -> bool:
        """Whether the id is a control piece's, or the unknown one. Raises ValueError for no integer."""
        return _as_id(token_id) in self._special_ids

    def piece_of(self, token_id: SupportsIndex) -> int | None:
        """sentencepiece's number of an id; None for an image's or a padding id. Raises ValueError as `bytes_of`."""
        token_id = _as_id(token_id)
        if not 0 <= token_id < self.padded_vocab_size:
            raise ValueError(
                f"token id {token_id} is out of range: this tokenizer has ids 0 to {self.vocab_size - 1}"
                + (f", padded to {self.padded_vocab_size - 1}" if self.padded_vocab_size > self.vocab_size else "")
            )
        return token_id - self._shift if self._shift <= token_id < self.vocab_size else None

    def is_hidden(self, token_id: int, skip_special_tokens: bool) -> bool:
        """Whether decoding leaves the id out altogether: padding always, and of the control pieces those five that
        transformers knew of."""
        return token_id == self.pad_token_id or (skip_special_tokens and token_id in self._hidden)

    @property
    def pieces(self) -> SentencePieces:
        """The vocabulary."""
        return self._pieces


class _Plain:
    """`decode` before the clean-up."""

    def __init__(self, tokenizer: IceTokenizer, skip_special_tokens: bool) -> None:
        self._tokenizer, self._skip = tokenizer, skip_special_tokens
        self._text = PieceStream(tokenizer.pieces)

    def push(self, token_id: SupportsIndex) -> str:
        piece_id = self._tokenizer.piece_of(token_id)
        if piece_id is None or self._tokenizer.is_hidden(_as_id(token_id), self._skip):
            return ""
        return self._text.push(piece_id)

    def finish(self) -> str:
        return self._text.finish()


class IceStream:
    """`IceTokenizer.decode`, one id at a time (see `TextStream`).

    Withheld are the bytes of an unfinished character and what the clean-up may still change: a space, or a space, an
    apostrophe and a letter.
    """

    def __init__(self, tokenizer: IceTokenizer, skip_special_tokens: bool = True) -> None:
        self._plain = _Plain(tokenizer, skip_special_tokens)
        self._clean_up = Replacements(CLEAN_UP)

    def push(self, token_id: SupportsIndex) -> str:
        """Take one id; return the text that can no longer change. Raises ValueError for an id out of range."""
        return self._clean_up.push(self._plain.push(token_id))

    def finish(self) -> str:
        """The rest."""
        return self._clean_up.push(self._plain.finish()) + self._clean_up.finish()


def _as_id(value: SupportsIndex) -> int:
    if type(value) is int:
        return value
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"token id {value!r} ({type(value).__name__}) is no integer; pass ids as encode returns them")
