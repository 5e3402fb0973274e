"""One model, every way of storing it: both layouts, one file or several, safetensors or .bin."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from random_models import load, logits, random_checkpoint, random_ids, random_model, reshard
from safetensors.torch import load_file, save_file

from glm4.checkpoints import read_architecture, save_checkpoint
from glm4.models.glm import GLM, GLMConfig

LAYOUTS = ["thudm", "hf"]
FAMILY = {
    "base": {"rope_theta": 1e4, "n_kv_heads": 2},
    "chat": {"rope_theta": 5e6, "n_heads": 8, "n_kv_heads": 2, "n_layers": 3},
    "chat-1m": {"rope_theta": 1e8, "n_heads": 8, "n_kv_heads": 4},
    "without bias, ungrouped": {"qkv_bias": False, "n_heads": 4, "n_kv_heads": 4},
}


def assert_same(model: GLM, other: GLM) -> None:
    """Same configuration, same weights, bit for bit."""
    assert model.config == other.config
    mine, theirs = model.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("variant", FAMILY)
def test_there_and_back_is_the_identity(variant: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """THUDM -> ours -> hf -> ours -> THUDM: the files' tensors and configurations too."""
    start = random_checkpoint(tmp_path / "0", seed=1, dtype=dtype, **FAMILY[variant])
    model = load(start, dtype)
    assert_same(model, random_model(1, dtype, **FAMILY[variant]))
    for n, layout in enumerate(("hf", "thudm", "thudm", "hf", "thudm"), start=1):
        save_checkpoint(model, tmp_path / str(n), layout=layout)
        model = load(tmp_path / str(n), dtype)
        assert_same(model, random_model(1, dtype, **FAMILY[variant]))
    before, after = load_file(tmp_path / "0/model.safetensors"), load_file(tmp_path / "5/model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (tmp_path / "0/config.json").read_text() == (tmp_path / "5/config.json").read_text()


def test_layouts_give_identical_logits(tmp_path: Path) -> None:
    """Not close: equal, as the weights are the same bits in the same places."""
    ids = random_ids(2, 2, 17)
    thudm, hf = (load(random_checkpoint(tmp_path / layout, layout, seed=3)) for layout in LAYOUTS)
    assert torch.equal(logits(thudm, ids), logits(hf, ids))


def test_golden_checkpoints_survive_the_hf_layout(golden: Path, tmp_path: Path) -> None:
    """A published THUDM folder to hf and back: its own tensors again, but for the unused rotary frequencies."""
    model = load(golden)
    save_checkpoint(model, tmp_path / "hf", layout="hf")
    save_checkpoint(load(tmp_path / "hf"), tmp_path / "thudm", layout="thudm")
    original: dict[str, torch.Tensor] = {}
    for file in golden.glob("model*.safetensors"):
        original |= load_file(file)
    again = load_file(tmp_path / "thudm/model.safetensors")
    assert set(original) - set(again) <= {"transformer.rotary_pos_emb.inv_freq"}
    assert all(torch.equal(tensor, original[name]) for name, tensor in again.items())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["safetensors", "bin", "legacy bin"])
@pytest.mark.parametrize("n_shards", [1, 2, 5])
def test_shards_and_bin_equal_one_safetensors_file(n_shards: int, kind: str, layout: str, tmp_path: Path) -> None:
    """q, k and v of one layer lie in different shards here, and fill one tensor of ours."""
    random_checkpoint(tmp_path, layout, seed=4)
    reshard(tmp_path, n_shards, kind)
    assert_same(load(tmp_path), random_model(4))


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_weights_are_converted_to_the_dtype_asked_for(kind: str, tmp_path: Path) -> None:
    """A bfloat16 file in float32 is exact; a float32 file in bfloat16 is rounded once."""
    random_checkpoint(tmp_path, seed=5, dtype=torch.bfloat16)
    reshard(tmp_path, 2, kind)
    assert_same(load(tmp_path, torch.float32), random_model(5, torch.bfloat16).float())
    random_checkpoint(tmp_path / "wide", seed=5)
    reshard(tmp_path / "wide", 1, kind)
    assert_same(load(tmp_path / "wide", torch.bfloat16), random_model(5, torch.bfloat16))


def test_safetensors_are_preferred_and_a_bin_beside_them_is_not_opened(tmp_path: Path) -> None:
    """Folders that hold both are common."""
    random_checkpoint(tmp_path, seed=6)
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    assert_same(load(tmp_path), random_model(6))
    reshard(tmp_path, 2)
    assert_same(load(tmp_path), random_model(6))


def test_rotary_frequencies_in_the_file_are_left_alone_silently(tmp_path: Path) -> None:
    """The original saves them; whatever they hold, they follow from the configuration."""
    random_checkpoint(tmp_path, seed=7)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tensors | {"transformer.rotary_pos_emb.inv_freq": torch.full((4,), 1e9)}, tmp_path / "model.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(load(tmp_path), random_model(7))


def test_a_loaded_model_takes_no_gradients_and_shares_no_memory(tmp_path: Path) -> None:
    """Two loads of one folder must not write into each other, nor into the file behind a memory map."""
    random_checkpoint(tmp_path, seed=8)
    stored = (tmp_path / "model.safetensors").read_bytes()
    first, second = load(tmp_path), load(tmp_path)
    assert not any(p.requires_grad for p in first.parameters())
    assert not first.training
    for parameter in first.parameters():
        parameter.zero_()
    assert_same(second, random_model(8))
    assert (tmp_path / "model.safetensors").read_bytes() == stored


def real(rope_theta: float, n_kv_heads: int, max_positions: int) -> GLMConfig:
    """What the three published checkpoints share, and what they differ in."""
    return GLMConfig(
        vocab_size=151552, hidden_size=4096, ffn_size=13696, n_layers=40, n_heads=32, n_kv_heads=n_kv_heads,
        head_dim=128, rotary_dim=64, rope_theta=rope_theta, norm_eps=1.5625e-07, qkv_bias=True, sandwich_norms=False,
        max_positions=max_positions,
    )  # fmt: skip


REAL = {
    "glm-4-9b": (real(1e4, 2, 8192), 18_799_902_784),
    "glm-4-9b-chat": (real(5e6, 2, 131072), 18_799_902_784),
    "glm-4-9b-chat-1m": (real(1e8, 4, 1048576), 18_967_715_904),
}


@pytest.mark.parametrize("name", REAL)
def test_the_published_configurations(name: str, shared: Path) -> None:
    """Every fact of the real checkpoints, the names of all 284 tensors, and their size to the byte."""
    expected, n_bytes = REAL[name]
    folder = shared / "configs" / name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        architecture = read_architecture(folder)
    assert architecture.config == expected
    assert (architecture.layout, architecture.dtype) == ("thudm", "bfloat16")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    ours = {place.theirs for place in architecture.family.places(expected)}
    assert set(index["weight_map"]) - ours == {"transformer.rotary_pos_emb.inv_freq"}
    assert ours <= set(index["weight_map"])
    with torch.device("meta"):
        model = GLM(expected)
    inv_freq = 32
    assert 2 * (sum(p.numel() for p in model.parameters()) + inv_freq) == n_bytes == index["metadata"]["total_size"]
