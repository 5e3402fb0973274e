"""Small InternVL-Chat-V1-1 checkpoints with random weights, in the original's layout, and a tokenizer for them.
Nothing here is a test."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import Tensor

from glm4.checkpoints import internvl, read_architecture
from glm4.models.internvl import InternVL, InternVLConfig

TOWER: dict[str, Any] = {
    "model_type": "intern_vit_6b", "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 6,
    "intermediate_size": 48, "image_size": 56, "patch_size": 14, "qk_normalization": True, "qkv_bias": False,
    "norm_type": "rms_norm", "hidden_act": "gelu", "layer_norm_eps": 1e-6,
}  # fmt: skip
DECODER: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 48,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 400,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
}  # fmt: skip
PER_PICTURE = 4
ADDED = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>")


def raw_config(**changes: Any) -> dict[str, Any]:
    """A config.json. `vision_config` and `llm_config` in `changes` change single keys; None removes one."""
    raw: dict[str, Any] = {
        "model_type": "internvl_chat", "architectures": ["InternVLChatModel"], "downsample_ratio": 0.5,
        "force_image_size": 56, "select_layer": -4, "template": "internvl_zh", "ps_version": "v1",
        "pad2square": False, "torch_dtype": "float32", "vision_config": dict(TOWER), "llm_config": dict(DECODER),
    }  # fmt: skip
    for key, value in changes.items():
        if key in ("vision_config", "llm_config") and isinstance(value, dict):
            inner = {**raw[key], **value}
            raw[key] = {k: v for k, v in inner.items() if v is not None}
        else:
            raw[key] = value
    return {key: value for key, value in raw.items() if value is not None}


def randomised(model: torch.nn.Module, seed: int) -> Any:
    """Every weight matters: layers change what goes through them, and attention is far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.state_dict().items():
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name or name.endswith(("ls1", "ls2", "mlp1.0.weight")):
            weight.copy_(1 + 0.2 * noise)
        elif weight.ndim < 2 or ("embed" in name and "patch" not in name):
            weight.copy_(noise)
        else:
            gain = 3.0 if "qkv" in name or "patch" in name or name.startswith("lm_head") else 1.0
            weight.copy_(noise * gain / weight[0].numel() ** 0.5)
    return model.requires_grad_(False).eval()


def random_internvl(seed: int = 0, folder: Path | None = None, **changes: Any) -> InternVL:
    """A model of `raw_config(**changes)`, through a config.json in `folder` (a temporary one by default)."""
    config = read(folder, **changes)
    model: InternVL = randomised(InternVL(config), seed)
    return model


def read(folder: Path | None = None, **changes: Any) -> InternVLConfig:
    """`raw_config(**changes)` as the model's configuration."""
    facts = internvl.Facts(Path("config.json") if folder is None else folder / "config.json", raw_config(**changes))
    return internvl.read(facts)


def tensors(model: InternVL) -> dict[str, Tensor]:
    """The weights under the original's names."""
    ours = model.state_dict()
    found = {}
    for place in internvl.places(model.config):
        tensor = ours[place.ours]
        found[place.theirs] = (tensor if place.rows is None else tensor[place.rows]).clone()
    return found


def write_checkpoint(folder: Path, seed: int = 0, tokenizer: bool = True, **changes: Any) -> InternVL:
    """A folder as the original's: config.json, pytorch_model.bin, and the tokenizer's files; returns its model."""
    raw = raw_config(**changes)
    (folder / "config.json").write_text(json.dumps(raw))
    model: InternVL = randomised(InternVL(read_architecture(folder).config), seed)
    torch.save(tensors(model), folder / "pytorch_model.bin")
    if tokenizer:
        write_tokenizer(folder)
    return model


@functools.cache
def tiny_sentencepiece() -> bytes:
    """A model of LLaMA-2's kind: byte-pair encoding with bytes to fall back on, no normalisation, a space in front."""
    text = (
        "<human>: what is in the picture? <bot>: a cat and a dog are in the picture.\n"
        "the first image shows a red square, the second one a blue circle. Frame1: Image-1: 你好 世界\n"
    )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.splitlines() * 20), model_writer=model, model_type="bpe", vocab_size=360,
        byte_fallback=True, character_coverage=1.0, normalization_rule_name="identity", num_threads=1,
        remove_extra_whitespaces=False, add_dummy_prefix=True, minloglevel=2, hard_vocab_limit=False,
        split_digits=True, allow_whitespace_only_pieces=True,
    )  # fmt: skip
    return model.getvalue()


def write_tokenizer(folder: Path, added: tuple[str, ...] = ADDED, **config: Any) -> int:
    """tokenizer.model, added_tokens.json and tokenizer_config.json; returns the number of pieces, whence `added` are
    numbered."""
    data = tiny_sentencepiece()
    n_pieces = int(sentencepiece.SentencePieceProcessor(model_proto=data).vocab_size())
    (folder / "tokenizer.model").write_bytes(data)
    (folder / "added_tokens.json").write_text(json.dumps({name: n_pieces + i for i, name in enumerate(added)}))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return n_pieces
