"""What a checkpoint folder holds beside its weights, and how it is written for transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..chat.detect import load_chat_format, read_optional_json, read_templates
from ..chat.glm4 import Glm4Format
from ..errors import CheckpointError, InputError
from ..jsonfile import read_json
from ..tokenizers.bpe import Tokenizer
from ..tokenizers.vocabulary import read_vocabulary
from .chat_template import template_of
from .tokenizer_files import added_tokens

_END_OF_TEXT = "<|endoftext|>"


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `target` when all is well and is removed when not.

    Raises:
        InputError: `target` exists and is not an empty folder, or cannot be made.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target} exists and is not empty; name a new folder, nothing is overwritten")
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        remedy = "remove it, a run before was cut off" if unfinished.exists() else "name another folder"
        raise InputError(f"{unfinished} cannot be made: {error.strerror}; {remedy}") from error
    try:
        yield unfinished
        if target.exists():
            target.rmdir()
        unfinished.rename(target)
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{target} cannot be written: {error}") from error
    finally:
        if unfinished.exists():
            shutil.rmtree(unfinished, ignore_errors=True)


@dataclass(frozen=True)
class SourceTokenizer:
    """A folder's vocabulary and chat template, in whatever form they lay there."""

    ranks: Mapping[bytes, int]
    special_tokens: Mapping[str, int]
    config: Mapping[str, Any]  # tokenizer_config.json
    chat_format: str | None  # this library's name of it; None for a template of the checkpoint's own
    chat_template: str | list[dict[str, str]] | None

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """Ids that end a reply."""
        return Tokenizer(self.ranks, self.special_tokens).stop_token_ids

    def common_config(self, max_positions: int) -> dict[str, Any]:
        """What tokenizer_config.json says for every class that reads it."""
        named = {key: value for key, value in self.config.items() if key.endswith("_token") and value}
        described = added_tokens(self.special_tokens)
        own = self.config.get("added_tokens_decoder")
        for token_id, entry in (own if isinstance(own, dict) else {}).items():
            if described.get(token_id, {}).get("content") == entry["content"]:
                described[token_id] = entry  # it may say that the token is not a special one
        values = {
            "added_tokens_decoder": described,
            "additional_special_tokens": [
                entry["content"] for entry in described.values() if entry.get("special", True)
            ],
            "chat_format": self.chat_format,
            "chat_template": self.chat_template,
            "clean_up_tokenization_spaces": False,
            "eos_token": _END_OF_TEXT,
            "pad_token": _END_OF_TEXT,
            **named,
            "model_max_length": self.config.get("model_max_length") or max_positions,
            "padding_side": "left",
        }
        return {key: value for key, value in values.items() if value is not None}


def read_tokenizer(folder: Path, config: Mapping[str, Any]) -> SourceTokenizer | None:
    """The tokenizer of a checkpoint folder whose config.json is `config`; None if there is none.

    Raises:
        CheckpointError: it is damaged.
        ConfigError: its chat format is unknown, or its template does not compile.
    """
    try:
        vocabulary = read_vocabulary(folder)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    tokenizer_config = read_optional_json(folder / "tokenizer_config.json")
    tokenizer = Tokenizer(vocabulary.ranks, vocabulary.special_tokens)
    chat = load_chat_format(folder, tokenizer, config, tokenizer_config)
    template: str | list[dict[str, str]]
    if isinstance(chat, Glm4Format):
        name, template = chat.name, template_of(chat.name)
    else:
        templates = read_templates(folder, tokenizer_config)
        name = None
        template = (
            templates["default"]
            if list(templates) == ["default"]
            else [{"name": name, "template": text} for name, text in templates.items()]
        )
    return SourceTokenizer(vocabulary.ranks, vocabulary.special_tokens, tokenizer_config, name, template)


def generation_config(folder: Path, config: Mapping[str, Any], tokenizer: SourceTokenizer | None) -> dict[str, Any]:
    """generation_config.json, with the ids that end a reply from every file that names some.

    Any one of the files may have lost some, and without them `generate` does not stop.
    """
    path = folder / "generation_config.json"
    own = read_json(path) if path.is_file() else {}
    ends = set() if tokenizer is None else set(tokenizer.stop_token_ids)
    for values in (own, config):
        ids = values.get("eos_token_id")
        ends |= set(ids if isinstance(ids, list) else [] if ids is None else [ids])
    pad = own.get("pad_token_id", config.get("pad_token_id"))
    if pad is None and tokenizer is not None:
        pad = tokenizer.special_tokens.get(_END_OF_TEXT)
    written = {**own, "eos_token_id": sorted(ends) or None, "pad_token_id": pad}
    return {key: value for key, value in written.items() if value is not None}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """As every file of a checkpoint is written: two spaces, Chinese as it is."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
