"""GLM-4's tokenizer for transformers: this library's byte-level BPE behind the interface of `PreTrainedTokenizer`.

Tokens, as transformers means the word, are written with one printable letter a byte, as byte-level vocabularies are in
tokenizer.json. The control tokens are transformers' own added tokens, whose ids tokenizer_config.json states.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from transformers import AddedToken, BatchEncoding, PreTrainedTokenizer

from ..tokenizers.bpe import Tokenizer
from ..tokenizers.vocabulary import PREFIX_TOKENS, SPECIAL_TOKENS, byte_letters, read_ranks

# The original's templates of these checkpoints are Python code, which encodes a message's content on its own.
_CONTENT_APART = ("glm-4-base", "glm-4v")


class ChatGLM4Tokenizer(PreTrainedTokenizer):  # type: ignore[misc]
    """Text and conversations to ids, and back.

    Departs from the original in two points. `decode` shows control tokens and what lies between them, each once. And
    text of messages stays text in `apply_chat_template(tokenize=True)`: `<|assistant|>` that a user writes is encoded
    as letters, and never forges a turn. (`encode` and `__call__` make a control token of it, as the original does.)
    """

    vocab_files_names = {"vocab_file": "tokenizer.model"}  # noqa: RUF012 (transformers' own form)
    model_input_names = ["input_ids", "attention_mask", "position_ids"]  # noqa: RUF012

    def __init__(
        self,
        vocab_file: str,
        padding_side: str = "left",
        clean_up_tokenization_spaces: bool = False,
        chat_format: str | None = None,
        image_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        """chat_format: the conversation's wire format, by this library's name for it. image_size: pixels a side that
        the vision tower wants; None where the checkpoint cannot see. Raises ValueError for a damaged vocab_file."""
        ranks = read_ranks(Path(vocab_file))
        letters = byte_letters()  # one for each byte, whose own latin-1 letter may be unprintable
        self._printable = str.maketrans({chr(byte): letter for byte, letter in letters.items()})
        self._latin = str.maketrans({letter: chr(byte) for byte, letter in letters.items()})
        self.vocab_file, self.chat_format, self.image_size = vocab_file, chat_format, image_size
        self._bpe = Tokenizer(ranks, {})
        self._id_of = {token.decode("latin-1").translate(self._printable): rank for token, rank in ranks.items()}
        self._token_of = {rank: token for token, rank in self._id_of.items()}
        if not kwargs.get("added_tokens_decoder"):
            ids = range(len(ranks), len(ranks) + len(SPECIAL_TOKENS))
            kwargs["added_tokens_decoder"] = {
                i: AddedToken(token, special=True, normalized=False)
                for i, token in zip(ids, SPECIAL_TOKENS, strict=True)
            }
        # Kept by transformers, and written by save_pretrained.
        extra = {"chat_format": chat_format, "image_size": image_size}
        kwargs |= {key: value for key, value in extra.items() if value is not None}
        super().__init__(padding_side=padding_side, clean_up_tokenization_spaces=clean_up_tokenization_spaces, **kwargs)

    # The vocabulary ---------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Ids without the control tokens' (151,329 for GLM-4-9B), as transformers counts."""
        return len(self._id_of)

    def get_vocab(self) -> dict[str, int]:
        """Token -> id, control tokens included."""
        return {**self._id_of, **self.added_tokens_encoder}

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Copy tokenizer.model; returns its path."""
        target = Path(save_directory) / ((filename_prefix + "-" if filename_prefix else "") + "tokenizer.model")
        if not (target.exists() and target.samefile(self.vocab_file)):
            shutil.copyfile(self.vocab_file, target)
        return (str(target),)

    # Text to ids ------------------------------------------------------------------------------------------------------

    def tokenize(self, text: str, chat_marks: tuple[str, str] | None = None, **kwargs: Any) -> list[str]:
        """Text to tokens. `chat_marks`: (breaker, boundary) that `apply_chat_template` put into it, see there."""
        if chat_marks is None:
            tokens: list[str] = super().tokenize(text, **kwargs)
            return tokens
        breaker, boundary = chat_marks
        names = set(self.added_tokens_encoder)
        cut = re.compile(f"({_either(names)})|{boundary}")
        found: list[str] = []
        for piece in cut.split(text):
            if piece:
                found += [piece] if piece in names else self._tokenize(piece.replace(breaker, ""))
        return found

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        return [self._token_of[i] for i in self._bpe.encode(text, add_special_tokens=False, parse_special=False)]

    def _convert_token_to_id(self, token: str) -> int | None:
        return self._id_of.get(token)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """`[gMASK]<sop>`, then the one text, then the other."""
        return [*self._prefix(), *token_ids_0, *(token_ids_1 or [])]

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """1 on control tokens: the prefix, and where `already_has_special_tokens` every one there is."""
        if already_has_special_tokens:
            return [int(i in self.added_tokens_decoder) for i in token_ids_0]
        return [1] * len(self._prefix()) + [0] * (len(token_ids_0) + len(token_ids_1 or []))

    def _prefix(self) -> list[int]:
        return [self.added_tokens_encoder[token] for token in PREFIX_TOKENS]

    def _pad(self, encoded_inputs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """One sequence, padded. Positions are counted behind the padding, which has position 0."""
        unpadded = {key: value for key, value in encoded_inputs.items() if key != "position_ids"}
        padded: dict[str, Any] = super()._pad(unpadded, *args, **kwargs)
        if "attention_mask" in padded:
            count, positions = 0, []
            for valid in padded["attention_mask"]:
                positions.append(count if valid else 0)
                count += int(valid)
            padded["position_ids"] = positions
        return padded

    # Ids to text ------------------------------------------------------------------------------------------------------

    def _convert_id_to_token(self, index: int) -> str:
        return self._token_of.get(index, "")  # rows that pad the embedding stand for nothing

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Tokens to text; bytes that are no UTF-8 become U+FFFD."""
        return "".join(self._runs(tokens))

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        spaces_between_special_tokens: bool = True,
        **_: Any,
    ) -> str:
        added = self.added_tokens_decoder
        tokens = [
            added[i].content if i in added else self._convert_id_to_token(i)
            for i in ([token_ids] if isinstance(token_ids, int) else token_ids)
            if not (skip_special_tokens and i in added and added[i].special)
        ]
        # Not "cleaned up", whatever is asked for: the spaces of a byte-level vocabulary are the text's own.
        return (" " if spaces_between_special_tokens else "").join(self._runs(tokens))

    def _runs(self, tokens: list[str]) -> Iterator[str]:
        """Control tokens, and the text between them."""
        data, names = bytearray(), set(self.added_tokens_encoder)
        for token in [*tokens, None]:
            if token is not None and token not in names:
                data += token.translate(self._latin).encode("latin-1")
                continue
            if data:
                yield data.decode("utf-8", "replace")
                data.clear()
            if token is not None:
                yield token

    # Conversations ----------------------------------------------------------------------------------------------------

    def apply_chat_template(
        self,
        conversation: Any,
        tools: Any = None,
        documents: Any = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: Any = False,
        tokenize: bool = True,
        **kwargs: Any,
    ) -> Any:
        """As transformers' own, with two additions where `tokenize`: the text of messages and tools stays text, and
        the pictures in messages are returned under `images`, a float tensor [N, 3, S, S] in their order.

        A picture is the value of a message's key "image", or a part of its content: {"type": "image", "image": ...}. It
        may be a PIL image, a path, a file's bytes or a base64 data URL; nothing is fetched from the network.
        """
        rest = {"add_generation_prompt": add_generation_prompt, "continue_final_message": continue_final_message}
        rest |= {"chat_template": chat_template, "documents": documents, "tokenize": tokenize, **kwargs}
        if not tokenize:
            return super().apply_chat_template(conversation, tools, **rest)
        rest.pop("sanitize_control_tokens", None)  # transformers 5's way to do the same
        guard = _Guard(self.added_tokens_encoder, [conversation, tools, documents])
        batch = conversation if conversation and isinstance(conversation[0], (list, tuple)) else [conversation]
        images = [image for messages in batch for message in messages for image in _images(message)]
        if images and self.image_size is None:
            raise ValueError("a message has an image, and this checkpoint reads text only; use a GLM-4V checkpoint")
        guarded = [
            [guard.message(message, self.chat_format in _CONTENT_APART) for message in messages] for messages in batch
        ]
        rest["documents"] = guard.value(documents)
        rest["tokenizer_kwargs"] = {**(rest.get("tokenizer_kwargs") or {}), "chat_marks": guard.marks}
        out = super().apply_chat_template(guarded if batch is conversation else guarded[0], guard.value(tools), **rest)
        if images and isinstance(out, (dict, BatchEncoding)):
            out["images"] = self._pixels(images)
        return out

    def _pixels(self, images: list[Any]) -> Any:
        # Here, since a text checkpoint needs neither torch nor Pillow.
        from ..images import as_pixels
        from ..models.glm4v import MEAN, STD
        from ..models.language_model import PictureFormat

        return as_pixels(images, PictureFormat(int(self.image_size or 0), MEAN, STD))


def _images(message: Mapping[str, Any]) -> list[Any]:
    """A message's pictures, in order."""
    found = [message["image"]] if message.get("image") is not None else []
    content = message.get("content")
    for part in content if isinstance(content, (list, tuple)) else ():
        if isinstance(part, Mapping) and part.get("type") in ("image", "image_url"):
            image = next((part[key] for key in ("image_url", "image", "url") if part.get(key) is not None), None)
            found.append(image.get("url") if isinstance(image, Mapping) else image)
    return found


class _Guard:
    """Marks in strings that go into a template, so that its own control tokens can be told from their letters.

    The breaker is put behind the first letter of every control token's name, and taken out once the text is cut at the
    names that are still whole. The boundary is put before a content that is encoded on its own.
    """

    def __init__(self, names: Iterable[str], values: list[Any]) -> None:
        taken = set(_characters(values))
        private = map(chr, chain(range(0xE000, 0xF900), range(0xF0000, 0xFFFFE)))
        free = (character for character in private if character not in taken)
        self.marks = (next(free), next(free))
        self._starts = re.compile(f"(?=(?:{_either(names)}))(.)", re.DOTALL)

    def value(self, value: Any) -> Any:
        """A copy with every string marked."""
        if isinstance(value, str):
            return self._starts.sub(rf"\1{self.marks[0]}", value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value

    def message(self, message: Mapping[str, Any], content_apart: bool) -> dict[str, Any]:
        """A copy of a message, marked."""
        marked: dict[str, Any] = self.value(message)
        if content_apart:
            boundary = self.marks[1]
            content = marked.get("content")
            if isinstance(content, str) and content:
                marked["content"] = boundary + content
            texts = [part for part in content if "text" in part] if isinstance(content, list) else []
            if texts:
                texts[0]["text"] = boundary + texts[0]["text"]
            for call in marked.get("tool_calls") or ():
                body = call.get("function", call)
                if isinstance(body.get("arguments"), str) and body["arguments"]:
                    body["arguments"] = boundary + body["arguments"]
        return marked


def _either(names: Iterable[str]) -> str:
    """A regular expression of any of them, the longest first."""
    return "|".join(map(re.escape, sorted(names, key=len, reverse=True)))


def _characters(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from value
    elif isinstance(value, Mapping):
        yield from _characters([*value.keys(), *value.values()])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _characters(item)
