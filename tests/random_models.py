"""Small models with random weights, and checkpoint folders of them. Nothing here is a test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glm4.checkpoints import load_model_weights, read_architecture, save_checkpoint
from glm4.models.eva_clip import EVAConfig
from glm4.models.glm import GLM, GLMConfig
from glm4.models.glm4v import GLM4V, GLM4VConfig

TINY = GLMConfig(
    vocab_size=320,
    hidden_size=32,
    ffn_size=48,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=16,
    rotary_dim=8,
    rope_theta=10000.0,
    norm_eps=1.5625e-07,
    qkv_bias=True,
    sandwich_norms=False,
    max_positions=256,
)


def random_model(seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> GLM:
    """A model of `TINY` with `changes`. Every weight matters: logits of about +-10, attention far from uniform."""
    model = GLM(replace(TINY, **changes))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.state_dict().items():
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name:
            weight.copy_(1 + 0.2 * noise)
        elif name.endswith("bias") or name.startswith("embed_tokens"):
            weight.copy_(noise)
        else:
            gain = 3.0 if name.startswith("lm_head") or "qkv_proj" in name else 1.0
            weight.copy_(noise * gain / weight.shape[-1] ** 0.5)
    return model.to(dtype).requires_grad_(False).eval()


TINY_TOWER = EVAConfig(
    image_size=56, patch_size=14, hidden_size=32, ffn_size=48, n_layers=2, n_heads=4, norm_eps=1e-6, scaling_factor=2.0,
    out_size=TINY.hidden_size, out_ffn_size=TINY.ffn_size,
)  # fmt: skip


def random_seeing_model(
    boi_token_id: int, eoi_token_id: int, seed: int = 0, tower: EVAConfig = TINY_TOWER, **changes: Any
) -> GLM4V:
    """`random_model` with a tower; a picture becomes 4 patches and two marks, which move the logits by several."""
    text = random_model(seed, **changes)
    decoder = {field.name: getattr(text.config, field.name) for field in fields(GLMConfig)}
    model = GLM4V(GLM4VConfig(**decoder, vision=tower, boi_token_id=boi_token_id, eoi_token_id=eoi_token_id))
    weights, generator = text.state_dict(), torch.Generator().manual_seed(seed + 1)
    for name, weight in model.state_dict().items():
        noise = torch.randn(weight.shape, generator=generator)
        if name in weights:
            weight.copy_(weights[name])
        elif weight.ndim < 2:
            weight.copy_(("norm" in name and name.endswith("weight")) + 0.2 * noise)
        elif weight.ndim < 4 and weight.shape[0] == 1:
            weight.copy_(2 * noise)
        else:
            weight.copy_(2 * noise / weight[0].numel() ** 0.5)
    return model.requires_grad_(False).eval()


def random_ids(seed: int, *shape: int, vocab_size: int = TINY.vocab_size) -> Tensor:
    """Token ids of the given shape."""
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def random_checkpoint(
    folder: Path,
    layout: str = "thudm",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    generation_config: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write such a model as a checkpoint folder of either layout; returns the folder."""
    save_checkpoint(random_model(seed, dtype, **changes), folder, layout=layout, generation_config=generation_config)
    return folder


@torch.inference_mode()
def logits(model: GLM, ids: Tensor, positions: Tensor | None = None, **kwargs: Any) -> Tensor:
    """[B, T] -> [B, T, V], with no cache unless one is passed."""
    positions = torch.arange(ids.shape[1]).expand_as(ids) if positions is None else positions
    return model.logits(model(model.embed(ids), positions, **kwargs))


def reshard(folder: Path, n_shards: int, kind: str = "safetensors") -> None:
    """Rewrite a folder's model.safetensors as n shards with an index, the layers' tensors dealt out like cards.

    kind: "safetensors"; "bin", as torch.save writes it; "legacy bin", as it did before torch 1.6. One shard is a single
    file without an index.
    """
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem, suffix = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    names = [f"{stem}-{i + 1:05d}-of-{n_shards:05d}.{suffix}" for i in range(n_shards)]
    names = [f"{stem}.{suffix}"] if n_shards == 1 else names
    weight_map = {name: names[i % n_shards] for i, name in enumerate(tensors)}
    for shard in names:
        part = {name: tensor for name, tensor in tensors.items() if weight_map[name] == shard}
        if kind == "safetensors":
            save_file(part, folder / shard)
        else:
            torch.save(part, folder / shard, _use_new_zipfile_serialization=kind == "bin")
    if n_shards > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))


def load(folder: Path, dtype: torch.dtype = torch.float32) -> GLM:
    """The folder's model, without tokenizer and engine."""
    return load_model_weights(folder, read_architecture(folder), dtype=dtype, device=torch.device("cpu"))
