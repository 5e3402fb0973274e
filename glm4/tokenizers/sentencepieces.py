"""A sentencepiece model: read with suspicion, and its pieces put together again one at a time.

The work is the sentencepiece package's. What stands here is what it does not say or do: whether a file is whole, and
how the text of pieces is joined while they still come in.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how sentencepiece writes a space
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_ESCAPED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class ModelFacts:
    """What a model file says about itself, as far as it matters for joining pieces."""

    n_pieces: int
    trained_pieces: int | None  # the vocabulary's size when it was trained; pieces may have been added since
    drops_first_space: bool  # the space it put in front of the text, or took off it, is not the text's
    drops_every_space: bool  # ... and neither are those of the pieces that follow an empty one


def model_facts(data: bytes, path: Path) -> ModelFacts:
    """Check that the file is whole, and say what it says about itself. Raises ValueError naming it."""
    try:
        n_pieces, trainer, normalizer = 0, None, None
        for number, value in _fields(data):
            if number == 1:
                n_pieces += 1
            elif number == 2 and isinstance(value, bytes):
                trainer = {**(trainer or {}), **dict(_fields(value))}  # parts of one message, merged
            elif number == 3 and isinstance(value, bytes):
                normalizer = {**(normalizer or {}), **dict(_fields(value))}
    except (IndexError, ValueError) as error:
        raise ValueError(f"{path} is no sentencepiece model, or damaged: {error}; download the file again") from None
    trained = trainer.get(4) if trainer is not None else None
    if trainer is None or normalizer is None or (isinstance(trained, int) and trained > n_pieces):
        raise ValueError(
            f"{path} is truncated: it holds {n_pieces} pieces"
            + (f" of {trained}" if isinstance(trained, int) else ", and not what follows them")
            + "; download the file again"
        )
    dummy_prefix, removes_extra = bool(normalizer.get(3, 1)), bool(normalizer.get(4, 1))
    return ModelFacts(
        n_pieces, trained if isinstance(trained, int) else None, dummy_prefix or removes_extra, removes_extra
    )


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of a protobuf message's fields. Raises IndexError, ValueError where it is none."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError(f"a number at byte {at} never ends")

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"there is no field of type {kind} (byte {at})")
        size = varint() if kind == 2 else 8 if kind == 1 else 4
        if at + size > len(data):
            raise ValueError(f"it ends {at + size - len(data)} bytes too early")
        yield key >> 3, data[at : at + size]
        at += size


class SentencePieces:
    """A model's pieces by id. Raises ValueError for a damaged file; the package itself checks the rest of it.

    surfaces: texts of pieces that stand for something else than their letters, such as "<n>" for a newline.
    """

    def __init__(self, data: bytes, path: Path, surfaces: Mapping[str, str] | None = None) -> None:
        self.facts = model_facts(data, path)
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=data)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}; download the file again") from None
        everything = list(range(self._model.vocab_size()))
        self.names: list[str] = self._model.id_to_piece(everything)
        """Every piece as the model writes it, by id."""
        self.ids: dict[str, int] = {name: piece_id for piece_id, name in enumerate(self.names)}
        self.unknown_id: int = self._model.unk_id()
        """The piece for what cannot be encoded."""
        self.control: frozenset[int] = frozenset(i for i, yes in enumerate(self._model.is_control(everything)) if yes)
        """Pieces that stand for no text."""
        self._surfaces = dict(surfaces or {})
        self._byte_values: dict[int, int] = {}
        for piece_id, yes in enumerate(self._model.is_byte(everything)):
            match = _BYTE_PIECE.fullmatch(self.names[piece_id]) if yes else None
            if match:
                self._byte_values[piece_id] = int(match[1], 16)
        self._unknown_text: str = self._model.decode([self.unknown_id])

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, text: str) -> list[int]:
        """The most likely pieces. Lone surrogates, which are no text, become U+FFFD."""
        try:
            ids: list[int] = self._model.encode(text)
        except (RuntimeError, UnicodeError):
            ids = self._model.encode(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
        return ids

    def byte_value(self, piece_id: int) -> int | None:
        """The byte that a piece of byte fallback stands for; None for any other piece."""
        return self._byte_values.get(piece_id)

    def text_of(self, piece_id: int) -> str:
        """What a piece that is no byte stands for, within a text: a control piece for nothing."""
        if piece_id in self.control:
            return ""
        if piece_id == self.unknown_id:
            return self._unknown_text
        name = self.names[piece_id]
        return self._surfaces.get(name, name.replace(_SPACE, " "))

    def bytes_of(self, piece_id: int) -> bytes:
        """A piece alone; a control piece's bytes are its name."""
        value = self._byte_values.get(piece_id)
        if value is not None:
            return bytes([value])
        return (self.names[piece_id] if piece_id in self.control else self.text_of(piece_id)).encode("utf-8")

    def begins_with_space(self, piece_id: int) -> bool:
        """Whether the piece is a word's beginning; one whose surface happens to be blank is not."""
        return self.names[piece_id].startswith(_SPACE)


class PieceStream:
    """sentencepiece's own decode, one piece at a time.

    Its rules: the space of the first piece is not the text's (and, where the model removes extra white space, neither
    are those of the following ones, as long as there is no text). Bytes that are no UTF-8 become one U+FFFD each.
    """

    def __init__(self, pieces: SentencePieces) -> None:
        self._pieces = pieces
        # Marks every byte that does not fit by itself; Python's own replacement puts one mark for several.
        self._utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._at_start = pieces.facts.drops_first_space

    def push(self, piece_id: int) -> str:
        """Take one piece; return the text that can no longer change."""
        value = self._pieces.byte_value(piece_id)
        if value is not None:
            self._at_start = False
            return self._decode(bytes([value]))
        text, surface = self._decode(b"", final=True), self._pieces.text_of(piece_id)
        if self._at_start and self._pieces.begins_with_space(piece_id):
            surface = surface[1:]
            self._at_start = self._pieces.facts.drops_every_space
        if surface:
            self._at_start = False
        return text + surface

    def finish(self) -> str:
        """The rest: the bytes of an unfinished character, as one U+FFFD each."""
        return self._decode(b"", final=True)

    def _decode(self, data: bytes, final: bool = False) -> str:
        return _ESCAPED.sub("\ufffd", self._utf8.decode(data, final))
