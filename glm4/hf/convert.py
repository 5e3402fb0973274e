"""A checkpoint in the other layout, complete: weights, configuration, tokenizer, chat template."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from ..checkpoints.architecture import family_for, read_architecture
from ..checkpoints.convert import SHARD_BYTES, convert_weights
from ..errors import ConfigError, InputError
from ..hub import resolve_folder
from .source import SourceTokenizer, generation_config, new_folder, read_tokenizer, write_json
from .tokenizer_files import write_ranks, write_tokenizer_json

_ONLY = "GLM-4-9B, -Chat and -Chat-1M exist in both layouts"


def convert(
    model: str | os.PathLike[str],
    target: str | os.PathLike[str],
    to: Literal["hf", "thudm"],
    *,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write the checkpoint `model` into the new folder `target` in another layout.

    Weights keep every bit, and the vocabulary every token, so that converting back gives the same tensors and the same
    tokenizer.model. No model is built: memory for about two tensors is enough.

    Args:
        model: a folder or a hub id.
        to: "hf" for transformers' GlmForCausalLM, which needs no remote code; "thudm" for the original names. (For a
            folder that transformers loads in the original names, see `export`.)
        shard_bytes: the most a file of weights may hold.

    Raises:
        CheckpointError: the checkpoint is incomplete, or holds what the other layout has no place for.
        ConfigError: the model does not exist in that layout.
        InputError: `target` is taken.
    """
    if to not in ("hf", "thudm"):
        raise InputError(f"the layout is {to!r}; known: hf, thudm")
    source = resolve_folder(model)
    architecture = read_architecture(source)
    try:
        family_for(architecture.config, to)
    except ConfigError as error:
        raise ConfigError(
            f"{source} cannot be converted to {to}: {error}. {_ONLY}; GLM-4V-9B exists in the original one only, "
            "GLM-4-0414 and GLM-Z1 in transformers' only"
        ) from error
    tokenizer = read_tokenizer(source, architecture.raw)
    with new_folder(Path(target)) as folder:
        convert_weights(source, folder, to, shard_bytes=shard_bytes)
        generation = generation_config(source, architecture.raw, tokenizer)
        write_json(folder / "generation_config.json", generation)
        if tokenizer is not None:
            _write_tokenizer(tokenizer, folder, to, architecture.config.max_positions)
    return Path(target)


def _write_tokenizer(tokenizer: SourceTokenizer, folder: Path, to: str, max_positions: int) -> None:
    config = tokenizer.common_config(max_positions)
    if to == "hf":
        write_tokenizer_json(tokenizer.ranks, tokenizer.special_tokens, folder / "tokenizer.json")
        config |= {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "attention_mask"],
        }
    else:
        write_ranks(tokenizer.ranks, folder / "tokenizer.model")
        config |= {"tokenizer_class": "ChatGLM4Tokenizer"}
    write_json(folder / "tokenizer_config.json", config)
