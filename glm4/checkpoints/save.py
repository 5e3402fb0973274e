"""Write a model as a checkpoint folder, in either layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ..models.glm import GLM, GLMConfig
from .architecture import Layout
from .names import places


def save_checkpoint(
    model: GLM, folder: Path, *, layout: Layout, generation_config: Mapping[str, Any] | None = None
) -> None:
    """Write config.json and model.safetensors (and generation_config.json) into `folder`, made if need be.

    Loading the result gives the same weights, bit for bit. The tokenizer's files are the caller's to copy.

    Args:
        layout: "thudm" for the original names, "hf" for transformers' GlmForCausalLM.
        generation_config: sampling defaults and end-of-text ids; the ids are repeated in config.json, since readers
            look in one or the other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours = model.state_dict()
    tensors: dict[str, Tensor] = {}
    for place in places(layout, model.config):
        tensor = ours[place.ours] if place.rows is None else ours[place.ours][place.rows]
        tensors[place.theirs] = tensor.detach().contiguous()
    config = _CONFIGS[layout](model.config)
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


def _thudm_config(config: GLMConfig) -> dict[str, Any]:
    return {
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "add_bias_linear": False,
        "add_qkv_bias": config.qkv_bias,
        "apply_residual_connection_post_layernorm": False,
        "ffn_hidden_size": config.ffn_size,
        "hidden_size": config.hidden_size,
        "kv_channels": config.head_dim,
        "layernorm_epsilon": config.norm_eps,
        "multi_query_attention": True,
        "multi_query_group_num": config.n_kv_heads,
        "num_attention_heads": config.n_heads,
        "num_hidden_layers": config.n_layers,
        "num_layers": config.n_layers,
        "original_rope": True,
        "padded_vocab_size": config.vocab_size,
        "post_layer_norm": True,
        "rmsnorm": True,
        "rope_ratio": config.rope_theta / 10000.0,
        "seq_length": config.max_positions,
        "tie_word_embeddings": False,
    }


def _hf_config(config: GLMConfig) -> dict[str, Any]:
    return {
        "model_type": "glm",
        "architectures": ["GlmForCausalLM"],
        "attention_bias": config.qkv_bias,
        "eos_token_id": None,  # stated, as transformers would otherwise take GLM-4-9B's ids, whatever the vocabulary
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.ffn_size,
        "max_position_embeddings": config.max_positions,
        "num_attention_heads": config.n_heads,
        "num_hidden_layers": config.n_layers,
        "num_key_value_heads": config.n_kv_heads,
        "pad_token_id": None,
        "partial_rotary_factor": config.rotary_dim / config.head_dim,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,  # read by transformers 4 and 5 alike
        "tie_word_embeddings": False,
        "vocab_size": config.vocab_size,
    }


_CONFIGS = {"thudm": _thudm_config, "hf": _hf_config}
