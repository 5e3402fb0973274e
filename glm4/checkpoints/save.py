"""Write a model as a checkpoint folder, in any layout it exists in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ..errors import ConfigError
from .architecture import family_for
from .family import Layout


def save_checkpoint(
    model: Any, folder: Path, *, layout: Layout, generation_config: Mapping[str, Any] | None = None
) -> None:
    """Write config.json and model.safetensors (and generation_config.json) into `folder`, made if need be.

    Loading the result gives the same weights, bit for bit. The tokenizer's files are the caller's to copy.

    Args:
        layout: "thudm" for the original names, "hf" for transformers' native classes.
        generation_config: sampling defaults and end-of-text ids; the ids are repeated in config.json, since readers
            look in one or the other.

    Raises:
        ConfigError: the model does not exist in that layout.
    """
    family = family_for(model.config, layout)
    if family.write is None:
        raise ConfigError(f"writing checkpoints in the layout {layout!r} is not supported")
    folder.mkdir(parents=True, exist_ok=True)
    ours = model.state_dict()
    tensors: dict[str, Tensor] = {}
    for place in family.places(model.config):
        tensor = ours[place.ours] if place.rows is None else ours[place.ours][place.rows]
        tensors[place.theirs] = tensor.detach().contiguous()
    config = family.write(model.config)
    config["torch_dtype"] = str(model.embed_tokens.weight.dtype).removeprefix("torch.")
    for key in ("eos_token_id", "pad_token_id"):
        if generation_config is not None and key in generation_config:
            config[key] = generation_config[key]
    _write_json(folder / "config.json", config)
    if generation_config is not None:
        _write_json(folder / "generation_config.json", dict(generation_config))
    weights = folder / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    shutil.copymode(folder / "config.json", weights)  # safetensors makes it unreadable to anyone else


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
