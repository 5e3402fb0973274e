"""ChatGLM-6B's folders: every way the table lies in them, packed weights, quantizing on load, and what is refused."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chatglm6b_models import (
    CONFIG,
    GMASK,
    SOP,
    load,
    logits,
    packed_tensors,
    random_folder,
    random_tensors,
    write_folder,
)
from random_models import load as load_glm
from random_models import random_checkpoint
from torch import Tensor

import glm4
from glm4.checkpoints import read_architecture
from glm4.errors import CheckpointError, ConfigError, InputError
from glm4.quant import PackedLinear, quantize

IDS = [5, 17, 301, 42, 9, GMASK, SOP, 77, 12]
TABLE, HEAD = "transformer.word_embeddings.weight", "lm_head.weight"


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
@pytest.mark.parametrize("names", [(TABLE,), (HEAD,), (TABLE, HEAD)], ids=["embedding", "head", "both"])
def test_the_one_table_under_either_name(names: tuple[str, ...], kind: str, tmp_path: Path) -> None:
    config, tensors = random_tensors()
    expected = logits(load(write_folder(tmp_path / "usual", config, tensors, kind)), IDS)
    table = tensors.pop(TABLE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load(write_folder(tmp_path / "other", config, tensors | {name: table.clone() for name in names}, kind))
    assert torch.equal(logits(found, IDS), expected)
    assert sum(parameter.shape == table.shape for parameter in found.parameters()) == 1


def test_where_both_differ_the_embedding_counts(tmp_path: Path) -> None:
    """As in the original, which ties the head to it after loading."""
    config, tensors = random_tensors()
    expected = logits(load(write_folder(tmp_path / "a", config, tensors)), IDS)
    other = load(write_folder(tmp_path / "b", config, tensors | {HEAD: torch.zeros_like(tensors[TABLE])}))
    assert torch.equal(logits(other, IDS), expected)


def test_finer_numbers_are_rounded_as_the_original_rounds_them(tmp_path: Path) -> None:
    """Its linear layers and its table are float16 whatever the file holds; its norms are not."""
    config, tensors = random_tensors()
    finer = {name: tensor * (1 + 2**-15) for name, tensor in tensors.items()}
    state = load(write_folder(tmp_path, config, finer)).state_dict()
    assert torch.equal(state["embed_tokens.weight"], finer[TABLE].half().float())
    assert torch.equal(
        state["layers.1.self_attn.qkv_proj.bias"], finer["transformer.layers.1.attention.query_key_value.bias"].half()
    )
    norm = finer["transformer.layers.1.input_layernorm.weight"]
    assert torch.equal(state["layers.1.input_layernorm.weight"], norm)
    assert not torch.equal(norm, norm.half().float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["bin", "safetensors"])
@pytest.mark.parametrize("bits", [4, 8])
def test_packed_on_disk_packed_on_load_and_packed_in_memory_are_one(
    bits: int, kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    config, tensors = random_tensors(seed=1)
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    plain = write_folder(tmp_path / "plain", config, halves, kind)
    stored = load(random_folder(tmp_path / "packed", 1, bits, kind), dtype)
    on_load = load(plain, dtype, quantize=bits)
    in_memory = load(plain, torch.float16)
    quantize(in_memory, bits)
    expected = stored.state_dict()
    assert sum(isinstance(module, PackedLinear) for module in stored.modules()) == 4 * CONFIG["num_layers"]
    for name, tensor in on_load.state_dict().items():
        wanted = torch.int8 if name.endswith("proj.weight") else torch.float16 if name.endswith("scale") else dtype
        assert tensor.dtype == expected[name].dtype == wanted, name
        assert torch.equal(tensor, expected[name]), name
    for name, tensor in in_memory.state_dict().items():
        assert torch.equal(tensor.to(expected[name].dtype), expected[name]), name
    out, exact = logits(stored, IDS), logits(load(plain), IDS)
    assert (out - exact).abs().max() < {4: 15.0, 8: 3.0}[bits]
    assert torch.equal(logits(on_load, IDS), out)


@pytest.mark.parametrize("layout", ["thudm", "hf"])
@pytest.mark.parametrize("bits", [4, 8])
def test_any_family_can_be_quantized_on_load(layout: str, bits: int, tmp_path: Path) -> None:
    """The -hf layout's q, k and v arrive apart and are packed apart: a row's scale is its own."""
    folder = random_checkpoint(tmp_path, layout)
    reference = load_glm(folder)
    quantize(reference, bits)
    found = glm4.load_model(folder, quantize=bits).model
    assert {n for n, m in found.named_modules() if isinstance(m, PackedLinear)} == {
        f"layers.{i}.{name}" for i in (0, 1) for name in
        ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
    }  # fmt: skip
    for name, tensor in reference.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
@pytest.mark.parametrize(
    "device_map",
    [{"": "disk"}, {"embed_tokens": "disk", "layers.0": "cpu", "layers.1": "disk", "layers.2": "cpu", "norm": "disk"}],
    ids=["disk", "mixed"],
)
def test_packed_layers_may_lie_on_the_disk(device_map: dict[str, str], kind: str, tmp_path: Path) -> None:
    """Packed as they came, or packed on the way to it."""
    pytest.importorskip("accelerate")
    for folder, bits in (
        (random_folder(tmp_path / "a", kind=kind), 4),
        (random_folder(tmp_path / "b", 0, 8, kind), None),
    ):
        expected = glm4.load_model(folder, device="cpu", quantize=bits).logits(IDS)
        spread = glm4.load_model(folder, device_map=device_map, offload_folder=tmp_path / "away", quantize=bits)
        assert torch.equal(spread.logits(IDS), expected)


@pytest.mark.parametrize("bits", [4, 8])
def test_quantizing_what_is_quantized(bits: int, tmp_path: Path) -> None:
    folder = random_folder(tmp_path, bits=8)
    with pytest.raises(ConfigError, match="already quantized to 8 bits"):
        glm4.load_model(folder, quantize=bits)
    assert glm4.load_model(folder).logits(IDS).isfinite().all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("which", ["attention.dense", "mlp.dense_h_to_4h"])
def test_a_packed_weight_without_its_scale(bits: int, which: str, tmp_path: Path) -> None:
    config, tensors = random_tensors()
    tensors = packed_tensors(tensors, bits)
    name = f"transformer.layers.1.{which}.weight_scale"
    scale = tensors.pop(name)
    folder = write_folder(tmp_path, config | {"quantization_bit": bits}, tensors)
    with pytest.raises(CheckpointError, match=f"lacks 1 of .* tensors: {name}"):
        glm4.load_model(folder)
    write_folder(tmp_path, config | {"quantization_bit": bits}, tensors | {name: scale})
    assert glm4.load_model(folder).logits(IDS).isfinite().all()


def _drop_bits(config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    del config["quantization_bit"]


def _other_bits(config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    config["quantization_bit"] = 12 - config["quantization_bit"]


def _float_weight(config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["transformer.layers.0.attention.dense.weight"] = torch.zeros(32, 32 * config["quantization_bit"] // 8)


def _long_scale(config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["transformer.layers.0.attention.dense.weight_scale"] = torch.zeros(33).half()


def _integer_scale(config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["transformer.layers.0.attention.dense.weight_scale"] = torch.zeros(32, dtype=torch.int32)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_drop_bits, r"has shape \[.*config.json asks for|floating point is expected; a quantized checkpoint says so"),
        (_other_bits, r"has shape \[.*config.json asks for"),
        (_float_weight, r"attention.dense.weight is stored as torch.float32, config.json asks for weights packed as"),
        (_long_scale, r"attention.dense.weight_scale has shape \[33\]"),
        (_integer_scale, r"attention.dense.weight_scale is stored as torch.int32, floating point is expected"),
    ],
)
def test_packed_tensors_that_do_not_fit(
    bits: int, spoil: Callable[[dict[str, Any], dict[str, Tensor]], None], says: str, tmp_path: Path
) -> None:
    config, tensors = random_tensors()
    config, tensors = config | {"quantization_bit": bits}, packed_tensors(tensors, bits)
    spoil(config, tensors)
    with pytest.raises(CheckpointError, match=says):
        load(write_folder(tmp_path, config, tensors))


def test_a_weight_that_cannot_be_packed_is_named(tmp_path: Path) -> None:
    config, tensors = random_tensors()
    tensors["transformer.layers.2.mlp.dense_4h_to_h.weight"][3, 4] = float("nan")
    folder = write_folder(tmp_path, config, tensors)
    with pytest.raises(CheckpointError, match=r"layers\.2\.mlp\.dense_4h_to_h\.weight: .*not finite"):
        load(folder, quantize=4)
    for bits in (2, 16):
        with pytest.raises(InputError, match="4"):
            glm4.load_model(folder, quantize=bits)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pre_seq_len": 128}, "pre_seq_len is 128; only a checkpoint without it"),
        ({"prefix_projection": True}, "prefix_projection is True"),
        ({"quantization_bit": 4, "quantization_embeddings": True}, "quantization_embeddings is True"),
        ({"quantization_bit": 3}, "quantization_bit is 3; only 4, 8, and 0"),
        ({"quantization_bit": True}, "quantization_bit is True; only 4, 8, and 0"),
        ({"quantization_bit": "4"}, "quantization_bit is '4'; only 4, 8, and 0"),
        ({"position_encoding_2d": False}, "position_encoding_2d is False; only True"),
        ({"num_attention_heads": 5}, "hidden_size is 32, which does not part into 5 heads"),
        ({"num_attention_heads": 16}, "does not part into 16 heads"),
        ({"gmask_token_id": 320}, "gmask_token_id is 320; ids are from 0 to 319"),
        ({"bos_token_id": -1}, "bos_token_id is -1"),
        ({"num_layers": 10**9}, "num_layers is 1000000000, more than"),
        ({"inner_hidden_size": None}, "inner_hidden_size is None|'inner_hidden_size' is missing"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
    ],
)
def test_a_config_that_is_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = random_folder(tmp_path)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(ConfigError, match=says):
        read_architecture(folder)


def test_harmless_settings_say_nothing(tmp_path: Path) -> None:
    folder = random_folder(tmp_path)
    changes = {"quantization_bit": 0, "quantization_embeddings": False, "pre_seq_len": None, "prefix_projection": False}
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_architecture(folder).config.weight_bits == 0


@pytest.mark.parametrize("key", ["mask_token_id", "gmask_token_id", "bos_token_id"])
def test_ids_that_only_the_first_release_left_out(key: str, tmp_path: Path) -> None:
    folder = random_folder(tmp_path)
    without = {name: value for name, value in CONFIG.items() if name != key}
    (folder / "config.json").write_text(json.dumps(without))
    with pytest.raises(ConfigError, match=f"the key '{key}' is missing"):
        read_architecture(folder)
    (folder / "config.json").write_text(json.dumps(without | {"vocab_size": 150528}))
    config = read_architecture(folder).config
    found = {"mask_token_id": config.mask_id, "gmask_token_id": config.gmask_id, "bos_token_id": config.begin_id}
    assert found[key] == {"mask_token_id": 150000, "gmask_token_id": 150001, "bos_token_id": 150004}[key]


def test_the_published_config_and_index(shared: Path, tmp_path: Path) -> None:
    """Every name that the real shards hold is wanted or known to be harmless, and nothing else is wanted."""
    published = shared / "configs" / "chatglm-6b"
    architecture = read_architecture(published)
    assert (architecture.config.n_layers, architecture.config.head_dim, architecture.config.vocab_size) == (
        28,
        128,
        130528,
    )
    names = set(json.loads((published / "pytorch_model.bin.index.json").read_text())["weight_map"])
    wanted = {place.theirs for place in architecture.family.places(architecture.config)}
    assert wanted <= names
    assert all(architecture.family.harmless(architecture.config, name) for name in names - wanted)
