"""Where the weights may be, and that they come back: device maps, shards, dtypes, save_pretrained, deepcopy, LoRA."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from exported import HOLDER, V, checkpoint, load, load_tokenizer
from packaging.version import Version
from random_models import random_ids
from safetensors import safe_open

import glm4
from glm4.hf import export

IDS = random_ids(7, 2, 9, vocab_size=256)
ENDLESS = {"eos_token_id": None, "pad_token_id": HOLDER, "do_sample": False, "max_new_tokens": 6}
NAMES = {
    "transformer.embedding.word_embeddings.weight",
    "transformer.encoder.final_layernorm.weight",
    "transformer.output_layer.weight",
    *(
        f"transformer.encoder.layers.{layer}.{name}"
        for layer in range(2)
        for name in (
            "input_layernorm.weight",
            "self_attention.query_key_value.weight",
            "self_attention.query_key_value.bias",
            "self_attention.dense.weight",
            "post_attention_layernorm.weight",
            "mlp.dense_h_to_4h.weight",
            "mlp.dense_4h_to_h.weight",
        )
    ),
}


@torch.no_grad()
def same(model: Any, other: Any, **kwargs: Any) -> None:
    """Both compute the same, and generate the same."""
    torch.testing.assert_close(model(IDS, **kwargs).logits, other(IDS, **kwargs).logits, rtol=0, atol=1e-6)
    assert torch.equal(model.generate(IDS, **ENDLESS), other.generate(IDS, **ENDLESS))


def test_modules_have_the_originals_names(text_model: Any) -> None:
    assert {name for name, _ in text_model.named_parameters()} == NAMES == set(text_model.state_dict())
    assert {type(m).__name__ for m in text_model.transformer.encoder.layers} == {"GLMBlock"}


@pytest.mark.parametrize("shard", ["5GB", "20KB"])
def test_saved_and_loaded_again(shard: str, text_model: Any, text_folder: Path, tmp_path: Path) -> None:
    """The saved folder is complete: its code came along, and transformers and this library read it."""
    text_model.save_pretrained(tmp_path, max_shard_size=shard)
    load_tokenizer(text_folder).save_pretrained(tmp_path)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert (len(files) > 1) == (shard == "20KB")
    stored = set()
    for file in files:
        with safe_open(file, "pt") as opened:
            stored |= set(opened.keys())
    assert stored == NAMES
    again = load(tmp_path)
    same(again, text_model)
    assert again.generation_config.eos_token_id == text_model.generation_config.eos_token_id
    own = glm4.load_model(tmp_path, dtype="float32", device="cpu")
    torch.testing.assert_close(own.logits(IDS), text_model(IDS).logits, rtol=0, atol=1e-5)
    messages = [{"role": "user", "content": "hello"}]
    prompt = load_tokenizer(tmp_path).apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert own.tokenizer.render(messages) == prompt
    again.save_pretrained(tmp_path / "once more")
    same(load(tmp_path / "once more"), text_model)


def test_what_changed_is_what_is_saved(text_model: Any, tmp_path: Path) -> None:
    model = copy.deepcopy(text_model)
    with torch.no_grad():
        model.transformer.encoder.layers[1].mlp.dense_4h_to_h.weight.mul_(-1)
        model.transformer.encoder.layers[0].self_attention.query_key_value.bias.add_(1)
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    same(again, model)
    with torch.no_grad():
        assert (again(IDS).logits - text_model(IDS).logits).abs().max() > 0.1


def test_deep_copies_share_nothing(text_model: Any) -> None:
    other = copy.deepcopy(text_model)
    same(other, text_model)
    with torch.no_grad():
        before = text_model(IDS).logits
        other.transformer.encoder.layers[0].self_attention.dense.weight.zero_()
        other.transformer.embed_tokens.weight.mul_(2)
        assert torch.equal(text_model(IDS).logits, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype, text_folder: Path, text_model: Any) -> None:
    model = load(text_folder, torch_dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    with torch.no_grad():
        out = model(IDS).logits
        assert 0 < (out - text_model(IDS).logits).abs().mean() < 0.1
    assert out.dtype == torch.float32
    assert torch.equal(out, glm4.load_model(text_folder, dtype=dtype, device="cpu").logits(IDS))


def test_no_key_is_missing_or_left_over(text_folder: Path, tmp_path: Path) -> None:
    """Not even the frequencies that the original stores."""
    for how in ({}, {"low_cpu_mem_usage": True}):
        _, info = transformers.AutoModelForCausalLM.from_pretrained(
            text_folder, trust_remote_code=True, output_loading_info=True, **how
        )
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    model = load(text_folder)
    weights = {**model.state_dict(), "transformer.rotary_pos_emb.inv_freq": torch.ones(4)}
    model.save_pretrained(tmp_path, state_dict=weights)
    _, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, trust_remote_code=True, output_loading_info=True
    )
    assert not info["unexpected_keys"], info


@pytest.mark.parametrize("where", [{"": "cpu"}, "auto", "halves"], ids=str)
def test_device_maps(where: Any, text_folder: Path, text_model: Any, tmp_path: Path) -> None:
    """The names of parts are the original's; a block is never split."""
    device_map = where
    if where == "halves":
        device_map = {
            "transformer.embedding": "cpu",
            "transformer.encoder.layers.0": "cpu",
            "transformer.encoder.layers.1": "disk",
            "transformer.encoder.final_layernorm": "disk",
            "transformer.output_layer": "cpu",
        }
    model = load(text_folder, device_map=device_map, offload_folder=str(tmp_path / "offload"))
    if where == "halves":
        assert model.transformer.encoder.layers[1].mlp.dense_4h_to_h.weight.is_meta
    same(model, text_model)


def test_blocks_are_not_split(text_folder: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    config = transformers.AutoConfig.from_pretrained(text_folder, trust_remote_code=True)
    with accelerate.init_empty_weights():
        model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    per_block = sum(p.numel() * 4 for p in model.transformer.encoder.layers[0].parameters())
    table = model.transformer.embed_tokens.weight.numel() * 4
    budget = {"cpu": table + int(2.5 * per_block), "disk": 10**9}  # room for one more is kept free
    placed = accelerate.infer_auto_device_map(model, budget, no_split_module_classes=model._no_split_modules)
    assert placed["transformer.encoder.layers.0"] == "cpu"
    assert placed["transformer.encoder.layers.1"] == "disk"


# LoRA -----------------------------------------------------------------------------------------------------------------


def test_lora_on_the_originals_module_name(text_model: Any, text_folder: Path, tmp_path: Path) -> None:
    """As the original's fine-tuning configurations have it: target_modules ["query_key_value"]."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=4, lora_alpha=16, lora_dropout=0.0, task_type="CAUSAL_LM", target_modules=["query_key_value"]
    )
    model = peft.get_peft_model(copy.deepcopy(text_model), config)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 4
    assert all("self_attention.query_key_value.lora_" in name for name in trained)
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(5):
        loss = model.train()(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    model.eval()
    with torch.no_grad():
        tuned = model(input_ids=IDS).logits
        model.save_pretrained(tmp_path)
        again = peft.PeftModel.from_pretrained(load(text_folder), tmp_path).eval()
        torch.testing.assert_close(again(input_ids=IDS).logits, tuned)
        assert again.generate(input_ids=IDS, **ENDLESS).shape == (2, 15)
        merged = again.merge_and_unload()
        torch.testing.assert_close(merged(input_ids=IDS).logits, tuned, atol=1e-4, rtol=0)
        assert {name for name, _ in merged.named_parameters()} == NAMES


@pytest.mark.slow
def test_prefix_tuning(text_model: Any) -> None:
    """P-tuning v2, whose prefix comes as a cache."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=3, num_attention_heads=2, num_layers=2, token_dim=32
    )
    model = peft.get_peft_model(copy.deepcopy(text_model), config)
    mask = torch.ones_like(IDS)
    loss = model(input_ids=IDS, attention_mask=mask, labels=IDS).loss
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)


# Quantized on load ----------------------------------------------------------------------------------------------------


LINEAR = ("self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
def test_bitsandbytes(bits: int, tmp_path: Path) -> None:
    """The linear layers are packed, and neither the embedding nor the head."""
    bnb = pytest.importorskip("bitsandbytes", reason="NOT TESTED WITH BITSANDBYTES: it is not installed")
    if Version(transformers.__version__) < Version("4.57"):
        pytest.skip(f"NOT TESTED WITH BITSANDBYTES: transformers {transformers.__version__} wants a GPU for it")
    folder = export(checkpoint(tmp_path / "source", hidden_size=64, ffn_size=128), tmp_path / "exported")
    if bits == 8:
        config = transformers.BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    exact = load(folder)
    model = load(folder, quantization_config=config, device_map={"": "cpu"})
    packed = bnb.nn.Linear8bitLt if bits == 8 else bnb.nn.Linear4bit
    assert all(isinstance(model.transformer.encoder.layers[1].get_submodule(name), packed) for name in LINEAR)
    assert type(model.transformer.output_layer) is torch.nn.Linear
    with torch.no_grad():
        away = (model(IDS).logits - exact(IDS).logits).abs().mean()
    assert 0 < away < (0.3 if bits == 8 else 2.5), away
    assert model.generate(IDS, **ENDLESS).shape == (2, 15)


def test_a_config_of_another_model_type_is_left_alone(text_folder: Path) -> None:
    raw = json.loads((text_folder / "config.json").read_text())
    assert raw["auto_map"]["AutoModelForCausalLM"] == "modeling_chatglm.ChatGLMForConditionalGeneration"
    assert raw["vocab_size"] == V if "vocab_size" in raw else raw["padded_vocab_size"] == V
