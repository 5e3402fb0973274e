"""config.json -> which family, in which layout, and every fact of its architecture."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ConfigError
from ..jsonfile import read_json
from ..models.glm import GLMConfig
from ..models.glm4v import GLM4VConfig
from . import chatglm6b, glm, glm4v, internvl
from .facts import HARMLESS, Facts
from .family import Family, Layout


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint folder says it is."""

    family: Family
    config: Any  # the family's configuration, a dataclass of models/
    dtype: str | None  # as the weights were saved, such as "bfloat16"; None when the file does not say
    raw: Mapping[str, Any]  # config.json itself

    def named(self, special_tokens: Mapping[str, int]) -> Architecture:
        """With what the tokenizer alone states, by its control tokens."""
        if self.family.name_ids is None:
            return self
        return replace(self, config=self.family.name_ids(self.config, special_tokens))

    @property
    def layout(self) -> Layout:
        """How the tensors are named."""
        return self.family.layout


def read_architecture(folder: Path) -> Architecture:
    """Read a checkpoint folder's config.json.

    Raises:
        CheckpointError: there is none.
        ConfigError: an unknown family, a missing fact, or a value this library cannot honour.

    Warns:
        UserWarning: a key that is neither used nor known to be harmless, by name.
    """
    path = folder / "config.json"
    if not path.exists() and (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{folder} holds a LoRA adapter, not a model: there is no config.json beside its adapter_config.json; "
            "merge it into its base model, and load the result"
        )
    raw = read_json(path)
    facts = Facts(path, raw)
    family = family_of(facts)
    config = family.read(facts)
    unknown = sorted(set(raw) - facts.asked - HARMLESS)
    if unknown:
        warnings.warn(f"{path}: ignored keys this library does not know: {', '.join(unknown)}", stacklevel=2)
    dtype = raw.get("torch_dtype", raw.get("dtype"))
    return Architecture(family, config, dtype if isinstance(dtype, str) else None, raw)


def family_of(facts: Facts) -> Family:
    """Which family a config.json describes, by its content and never by the folder's name.

    The `model_type` does not settle it: ChatGLM-6B, GLM-4 and GLM-4V all say "chatglm".

    Raises:
        ConfigError: none this library reads.
    """
    raw = facts.raw
    model_type = raw.get("model_type")
    if raw.get("quantization_config") is not None:
        method = raw["quantization_config"]
        method = method.get("quant_method", method) if isinstance(method, dict) else method
        raise ConfigError(
            f"{facts.path}: the weights are quantized ({method!r}), which is not supported; load the unquantized "
            "checkpoint"
        )
    if raw.get("vision_config") is not None and model_type == "chatglm":
        return glm4v.THUDM
    if model_type == "internvl_chat":
        return internvl.INTERNVL
    if raw.get("vision_config") is not None:
        raise ConfigError(f"{facts.path}: the checkpoint has a vision tower (vision_config), which is not supported")
    if model_type == "chatglm" and ("position_encoding_2d" in raw or "inner_hidden_size" in raw):
        return chatglm6b.CHATGLM_6B
    if model_type == "chatglm" and raw.get("padded_vocab_size") == 65024:
        raise ConfigError(
            f"{facts.path}: this is a ChatGLM2, ChatGLM3 or CodeGeeX2 (padded_vocab_size is 65024), whose tokenizer "
            "and prompts this library does not know; load GLM-4-9B-Chat, their successor, or use transformers with the "
            "checkpoint's own code"
        )
    if model_type == "chatglm":
        return glm.THUDM
    if model_type == "glm":
        return glm.HF
    if model_type == "glm4":
        return glm.HF_0414
    raise ConfigError(
        f"{facts.path}: model_type {model_type!r} is not supported. Supported: GLM-4-9B, -Chat and -Chat-1M in their "
        'original layout (model_type "chatglm") and in transformers\' ("glm"), GLM-4-0414 and GLM-Z1 ("glm4"), '
        'GLM-4V-9B and ChatGLM-6B (both "chatglm"), InternVL-Chat-V1-1 ("internvl_chat")'
    )


def family_for(config: Any, layout: Layout) -> Family:
    """The family that writes a model of this configuration in this layout.

    Raises:
        ConfigError: the model does not exist in that layout.
    """
    if type(config) is GLMConfig:
        if layout == "hf":
            return glm.HF_0414 if config.sandwich_norms else glm.HF
        if layout == "thudm" and not config.sandwich_norms:
            return glm.THUDM
    if type(config) is GLM4VConfig and layout == "thudm":
        return glm4v.THUDM
    raise ConfigError(f"a model of this kind ({type(config).__name__}) cannot be written in the layout {layout!r}")
