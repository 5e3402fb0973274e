"""Small ChatGLM-6B models with random weights, and checkpoint folders of them. Nothing here is a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from glm4.checkpoints import load_model_weights, read_architecture
from glm4.models.chatglm6b import ChatGLM6B
from glm4.quant import pack

MASK, GMASK, SOP, EOP = 310, 311, 314, 315
CONFIG: dict[str, Any] = {
    "architectures": ["ChatGLMModel"],
    "model_type": "chatglm",
    "bos_token_id": SOP,
    "eos_token_id": EOP,
    "mask_token_id": MASK,
    "gmask_token_id": GMASK,
    "pad_token_id": 3,
    "hidden_size": 32,
    "inner_hidden_size": 48,
    "layernorm_epsilon": 1e-5,
    "max_sequence_length": 128,
    "num_attention_heads": 4,
    "num_layers": 3,
    "position_encoding_2d": True,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": 320,
}


def random_tensors(seed: int = 0, **changes: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json with `changes`, and tensors by the original's names: float32 that float16 can hold. Attention is far
    from uniform, and heard behind the scaled residual."""
    config = CONFIG | changes
    hidden, wide, vocab = config["hidden_size"], config["inner_hidden_size"], config["vocab_size"]
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int, gain: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=generator) * gain).half().float()

    tensors = {"transformer.word_embeddings.weight": noise(vocab, hidden)}
    for index in range(config["num_layers"]):
        layer = f"transformer.layers.{index}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{layer}.{norm}.weight"] = (1 + noise(hidden, gain=0.2)).half().float()
            tensors[f"{layer}.{norm}.bias"] = noise(hidden, gain=0.2)
        for name, rows, columns, gain in (
            ("attention.query_key_value", 3 * hidden, hidden, 3.0),
            ("attention.dense", hidden, hidden, 6.0),
            ("mlp.dense_h_to_4h", wide, hidden, 2.0),
            ("mlp.dense_4h_to_h", hidden, wide, 6.0),
        ):
            tensors[f"{layer}.{name}.weight"] = noise(rows, columns, gain=gain / columns**0.5)
            tensors[f"{layer}.{name}.bias"] = noise(rows)
        tensors[f"{layer}.attention.rotary_emb.inv_freq"] = torch.zeros(hidden // config["num_attention_heads"] // 4)
    tensors["transformer.final_layernorm.weight"] = (1 + noise(hidden, gain=0.2)).half().float()
    tensors["transformer.final_layernorm.bias"] = noise(hidden, gain=0.2)
    return config, tensors


def packed_tensors(tensors: dict[str, Tensor], bits: int) -> dict[str, Tensor]:
    """The same as the original's quantized checkpoints hold them, out of float16."""
    packed = dict(tensors)
    for name, tensor in tensors.items():
        if name.endswith(".weight") and (".attention." in name or ".mlp." in name):
            packed[name], packed[f"{name}_scale"] = pack(tensor.half(), bits)
    return packed


def write_folder(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], kind: str = "bin") -> Path:
    """A checkpoint folder; `kind` is "bin" or "safetensors"."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if kind == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def random_folder(folder: Path, seed: int = 0, bits: int = 0, kind: str = "bin", **changes: Any) -> Path:
    """A random checkpoint, its weights packed where there are bits."""
    config, tensors = random_tensors(seed, **changes)
    if bits:
        config, tensors = config | {"quantization_bit": bits}, packed_tensors(tensors, bits)
    return write_folder(folder, config, tensors, kind)


def load(folder: Path, dtype: torch.dtype = torch.float32, quantize: int | None = None) -> ChatGLM6B:
    """The folder's model, without tokenizer and engine."""
    model: ChatGLM6B = load_model_weights(
        folder, read_architecture(folder), dtype=dtype, device=torch.device("cpu"), quantize=quantize
    )
    return model


@torch.inference_mode()
def logits(model: ChatGLM6B, ids: list[int]) -> Tensor:
    """[T, V], in one pass without a cache."""
    tokens = torch.tensor([ids])
    return model.logits(model(model.embed(tokens), model.positions(tokens[0])[None]))[0]


@torch.inference_mode()
def greedy(model: ChatGLM6B, prompt: list[int], n_new: int) -> list[int]:
    """The likeliest tokens, one at a time through the cache."""
    positions = model.positions(torch.tensor(prompt), n_new)[None]
    cache, new = model.new_cache(1, len(prompt) + n_new), prompt
    found: list[int] = []
    while len(found) < n_new:
        here = slice(cache.length, cache.length + len(new))
        hidden = model(model.embed(torch.tensor([new])), positions[..., here], cache)
        found.append(int(model.logits(hidden[0, -1]).argmax()))
        new = found[-1:]
    return found
