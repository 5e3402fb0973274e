"""What a folder is, from its config.json and the names in it. Names decide nothing about loading; they only help to say
what a person is looking at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .files import Listing


@dataclass
class Identity:
    """A folder's model in words.

    Attributes:
        name: such as "GLM-4-9B-Chat".
        layout: how the weights are laid out, in words.
        traits: everything else worth a line, such as "int4, packed".
        is_base: whether it is a base model, which was not trained to chat; None where that cannot be told.
    """

    name: str
    layout: str = ""
    traits: list[str] = field(default_factory=list)
    is_base: bool | None = None


@dataclass(frozen=True)
class NoModel:
    """A folder that is something else than a model this library reads: what, and what to do."""

    what: str
    remedy: str


_ORIGINAL = "original layout (THUDM)"
_HF = "transformers' layout (-hf)"


def identify(config: Mapping[str, Any]) -> Identity:
    """The model that a config.json describes. Never raises, whatever the values."""
    kind = config.get("model_type")
    if kind == "chatglm" and ("inner_hidden_size" in config or "position_encoding_2d" in config):
        found = _chatglm_6b(config)
    elif kind == "chatglm" and config.get("vision_config") is not None:
        found = Identity(_sized("GLM-4V", config, "-9B"), _ORIGINAL)
    elif kind == "chatglm" and config.get("padded_vocab_size") == 65024:
        found = Identity("ChatGLM2-6B or ChatGLM3-6B", _ORIGINAL, ["not one of the models that glm4 is made for"])
    elif kind == "chatglm":
        found = _glm4(config, _ratio_of_original(config), _number(config, "multi_query_group_num"), _ORIGINAL)
    elif kind == "glm":
        theta = _theta(config)
        ratio = theta / 10_000 if theta else None
        found = _glm4(config, ratio, _number(config, "num_key_value_heads"), _HF)
    elif kind == "glm4":
        size = {40: "9B-0414", 61: "32B-0414"}.get(_number(config, "num_hidden_layers") or 0, "0414")
        found = Identity(f"GLM-4-{size} or GLM-Z1-{size}", _HF)
    elif kind == "internvl_chat":
        found = _internvl(config)
    elif isinstance(kind, str):
        found = Identity(f"a model of type {kind[:60]!r}, which is not of this family")
    else:
        found = Identity("unknown: config.json has no model_type")
    found.traits += _quantization(config)
    return found


def _chatglm_6b(config: Mapping[str, Any]) -> Identity:
    found = Identity("ChatGLM-6B", _ORIGINAL)
    if config.get("vocab_size") == 150_528:
        found.traits.append("the older vocabulary of 150,528 tokens")
    bits = config.get("quantization_bit")
    if bits in (4, 8):
        embeddings = " and embeddings" if config.get("quantization_embeddings") else ""
        found.traits.append(f"int{bits}: linear layers{embeddings} stored packed")
    if config.get("pre_seq_len"):
        found.traits.append(f"P-tuning v2, a prefix of {config['pre_seq_len']} slots")
    found.is_base = False
    return found


def _glm4(config: Mapping[str, Any], ratio: float | None, n_groups: int | None, layout: str) -> Identity:
    """The three differ in the base of their rotary embedding and in their groups of heads."""
    name = _sized("GLM-4", config, "-9B")
    if ratio is None or not name.endswith("-9B"):
        return Identity(name, layout)
    if ratio == 1:
        return Identity(f"{name} (base)", layout, is_base=True)
    return Identity(name + ("-Chat-1M" if n_groups == 4 else "-Chat"), layout, is_base=False)


def _internvl(config: Mapping[str, Any]) -> Identity:
    inner = config.get("llm_config")
    kind = inner.get("model_type", inner.get("architectures")) if isinstance(inner, Mapping) else None
    if kind in ("llama", ["LlamaForCausalLM"]) and not config.get("dynamic_image_size"):
        return Identity("InternVL-Chat-V1-1", "original layout (OpenGVLab)", is_base=False)
    return Identity("a later InternVL than Chat-V1-1", "original layout (OpenGVLab)")


def _quantization(config: Mapping[str, Any]) -> list[str]:
    method = config.get("quantization_config")
    if isinstance(method, Mapping):
        bits = method.get("bits", method.get("w_bit", 4 if method.get("load_in_4bit") else None))
        name = str(method.get("quant_method", "unknown method"))[:40]
        return [f"quantized by {name.upper() if len(name) <= 4 else name}" + (f", {bits} bits" if bits else "")]
    if isinstance(config.get("quantization"), Mapping):
        return ["quantized by MLX"]
    return []


def _sized(family: str, config: Mapping[str, Any], size: str) -> str:
    """The name with the size, where the model has it; small ones share the architecture and not the name."""
    layers = _number(config, "num_layers") or _number(config, "num_hidden_layers")
    if (layers, _number(config, "hidden_size")) == (40, 4096):
        return family + size
    return f"a model of {family}'s architecture"


def _ratio_of_original(config: Mapping[str, Any]) -> float | None:
    ratio = config.get("rope_ratio", 1)
    return float(ratio) if isinstance(ratio, (int, float)) else None


def _theta(config: Mapping[str, Any]) -> float | None:
    nested = config.get("rope_parameters")
    theta = config.get("rope_theta", nested.get("rope_theta") if isinstance(nested, Mapping) else None)
    return float(theta) if isinstance(theta, (int, float)) and theta else None


def _number(config: Mapping[str, Any], key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def no_model(listing: Listing, adapter: Mapping[str, Any]) -> NoModel:
    """What a folder without config.json is; `adapter` is its adapter_config.json, if it has one."""
    files, folders = listing.files, listing.folders
    if "adapter_config.json" in files:
        base = adapter.get("base_model_name_or_path")
        of = f" of {base[:120]}" if isinstance(base, str) and base else ""
        return NoModel(
            f"a LoRA adapter (or another PEFT adapter){of}, not a whole model",
            "merge it into its base model, and load the result",
        )
    if listing.ending(".gguf"):
        return NoModel(
            "a GGUF model, the format of llama.cpp and ollama",
            "take the original checkpoint; or run this one with llama.cpp",
        )
    if listing.ending(".ggml") or any("ggml" in name and name.endswith(".bin") for name in files):
        return NoModel("a GGML model, the format of chatglm.cpp", "take the original checkpoint")
    if {"snapshots", "blobs"} <= set(folders):
        return NoModel(
            "an entry of the Hugging Face cache; the model is in one of its snapshots",
            "pass the folder inside snapshots/, or the model's hub id",
        )
    if any(name.startswith("mp_rank_") for name in (*files, *folders)) or "latest" in files:
        return NoModel(
            "a Megatron, DeepSpeed or SwissArmyTransformer checkpoint (split by rank)",
            "convert it to the Hugging Face layout with the tools of the program that wrote it",
        )
    if any(name.startswith(("iter_", "global_step")) for name in folders):
        return NoModel(
            "the output of a Megatron or DeepSpeed training", "convert it to the Hugging Face layout with its own tools"
        )
    checkpoints = sorted(name for name in folders if name.startswith("checkpoint-"))
    if checkpoints:
        return NoModel(
            f"the output folder of a training, with {len(checkpoints)} checkpoints in it",
            f"pass one of them, such as {checkpoints[-1]}",
        )
    if "openvino_model.xml" in files or listing.ending(".onnx"):
        return NoModel("a model exported to OpenVINO or ONNX", "take the original checkpoint")
    if not files and not folders and not listing.odd:
        return NoModel("an empty folder", "download a checkpoint into it, as with `hf download`")
    if listing.ending(".safetensors", ".bin", ".pt", ".pth"):
        return NoModel(
            "weights without the config.json that says what they are",
            "copy config.json and the tokenizer's files from the original checkpoint into the folder",
        )
    if listing.ending(".py") or ".git" in folders:
        return NoModel("a folder of code, without a model", "pass the folder that holds config.json and the weights")
    return NoModel("no model: there is no config.json", "pass the folder that holds config.json and the weights")
