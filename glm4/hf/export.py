"""A checkpoint as a folder that transformers loads by itself: the weights in the original's names, and the code."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import safe_open

from .. import __version__
from ..checkpoints.architecture import Architecture, read_architecture
from ..checkpoints.convert import SHARD_BYTES, convert_weights
from ..checkpoints.load import plan_weights
from ..errors import ConfigError
from ..hub import resolve_folder
from ..jsonfile import read_json
from ..models.glm import GLMConfig
from ..models.glm4v import GLM4VConfig
from .remote_code import AUTO_MAP, TOKENIZER_AUTO_MAP, write_code
from .source import generation_config, new_folder, read_tokenizer, write_json
from .tokenizer_files import write_ranks

_POSSIBLE = "GLM-4-9B, -Chat, -Chat-1M and GLM-4V-9B can be exported"


def export(
    model: str | os.PathLike[str] | None,
    target: str | os.PathLike[str],
    *,
    link: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write the checkpoint `model` into the new folder `target`, with this library's classes as remote code.

    `AutoTokenizer`, `AutoConfig` and `AutoModelForCausalLM.from_pretrained(target, trust_remote_code=True)` then work
    on transformers 4.46 to 5, in a process without glm4. `load_model` reads the folder too, and runs none of its code.

    Args:
        model: a folder or a hub id; None for the default model in the package.
        link: share the files of weights with the checkpoint instead of copying them, where it is in the original
            layout. Whoever then writes into one of them in place changes both.
        shard_bytes: the most a file of weights may hold, where they have to be written anew.

    Raises:
        ConfigError: a model of another family.
        CheckpointError: the checkpoint is incomplete or damaged.
        InputError: `target` is taken.
    """
    source = resolve_folder(model)
    architecture = read_architecture(source)
    _refuse_other_families(source, architecture)
    plan_weights(source, architecture)  # checks that all weights are there
    tokenizer = read_tokenizer(source, architecture.raw)
    with new_folder(Path(target)) as folder:
        if architecture.layout == "thudm" and _copy_weights(source, folder, link):
            config = dict(architecture.raw)
        else:
            convert_weights(source, folder, "thudm", shard_bytes=shard_bytes)
            config = read_json(folder / "config.json")
        generation = generation_config(source, architecture.raw, tokenizer)
        config |= {"architectures": ["ChatGLMForConditionalGeneration"], "auto_map": AUTO_MAP}
        if tokenizer is not None:
            config["tokenizer_class"] = "ChatGLM4Tokenizer"  # the pipelines of 4.46 look for it here
        config |= {key: generation[key] for key in ("eos_token_id", "pad_token_id") if key in generation}
        write_json(folder / "config.json", config)
        write_json(folder / "generation_config.json", generation)
        if tokenizer is not None:
            write_ranks(tokenizer.ranks, folder / "tokenizer.model")
            tokenizer_config: dict[str, Any] = tokenizer.common_config(architecture.config.max_positions)
            tokenizer_config |= {"auto_map": TOKENIZER_AUTO_MAP, "tokenizer_class": "ChatGLM4Tokenizer"}
            if isinstance(architecture.config, GLM4VConfig):
                tokenizer_config["image_size"] = architecture.config.vision.image_size
            write_json(folder / "tokenizer_config.json", tokenizer_config)
        write_code(folder, __version__)
    return Path(target)


def _refuse_other_families(source: Path, architecture: Architecture) -> None:
    config = architecture.config
    if type(config) is GLMConfig and config.sandwich_norms:
        raise ConfigError(
            f"{source} is GLM-4-0414 or GLM-Z1, which transformers loads as it is (Glm4ForCausalLM); {_POSSIBLE}"
        )
    if type(config) not in (GLMConfig, GLM4VConfig):
        raise ConfigError(
            f"{source} is a model of another family ({architecture.layout}), for which there is no class to export; "
            f"glm4.load_model runs it. {_POSSIBLE}"
        )


def _copy_weights(source: Path, folder: Path, link: bool) -> bool:
    """Copy or link safetensors files as they are; False where there are none, or transformers 4 would not read them."""
    single, index = source / "model.safetensors", source / "model.safetensors.index.json"
    if single.is_file():
        files = [single]
    elif index.is_file():
        files = [source / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    else:
        return False
    for file in files:
        with safe_open(file, "pt") as opened:
            if "format" not in (opened.metadata() or {}):
                return False
    if files != [single]:
        shutil.copyfile(index, folder / index.name)
    for file in files:
        if not (link and _linked(file, folder / file.name)):
            shutil.copyfile(file, folder / file.name)
    return True


def _linked(file: Path, target: Path) -> bool:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk, or one that cannot
        return False
    return True
