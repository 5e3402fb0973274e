"""GLM-4V's folders: written and read back exactly, and each mistake in their config.json named with its value."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from random_models import TINY_TOWER, load, random_seeing_model, reshard
from safetensors.torch import load_file, save_file

from glm4.checkpoints import read_architecture, save_checkpoint
from glm4.errors import CheckpointError, ConfigError
from glm4.models.glm4v import GLM4V

REMOVED = object()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good one."""
    save_checkpoint(random_seeing_model(300, 301), tmp_path, layout="thudm")
    return tmp_path


def change(folder: Path, inside: bool, key: str, value: Any) -> None:
    """One key of config.json, or of its vision_config."""
    config = json.loads((folder / "config.json").read_text())
    where = config["vision_config"] if inside else config
    where[key] = value
    if value is REMOVED:
        del where[key]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("kind", ["one file", "shards", "bin"])
def test_written_and_read_back(kind: str, tmp_path: Path) -> None:
    """Bit for bit, and every number of the tower, without a warning."""
    tower = replace(TINY_TOWER, image_size=75, n_heads=2, n_layers=3, norm_eps=0.01, scaling_factor=3.0, ffn_size=20)
    model = random_seeing_model(300, 301, tower=tower, n_layers=1, qkv_bias=False)
    save_checkpoint(model, tmp_path, layout="thudm")
    if kind != "one file":
        reshard(tmp_path, 3, "bin" if kind == "bin" else "safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = load(tmp_path)
    assert isinstance(back, GLM4V)
    assert back.config == model.config
    ours, theirs = model.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    pixels = torch.randn(1, 3, 75, 75)
    assert torch.equal(back.see(pixels), model.see(pixels))


def test_the_published_configuration(shared: Path) -> None:
    """All of it is understood: 63 layers, 6401 places, 1600 patches."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = read_architecture(shared / "configs" / "glm-4v-9b").config
    assert (config.vision.n_layers, config.vision.grid, config.vision.n_patches) == (63, 80, 1600)
    assert (config.boi_token_id, config.eoi_token_id, config.n_kv_heads) == (151339, 151340, 2)
    with torch.device("meta"):
        model = GLM4V(config)
    n_parameters = [sum(p.numel() for p in part.parameters()) for part in (model, model.vision)]
    assert n_parameters == [9_399_951_360 + 4_506_369_536, 4_506_369_536]  # GLM-4-9B's file, and counted by hand


BAD_INTEGERS = [REMOVED, None, "14", 0, -1, 2.5, True, [], 2**40, float("nan")]
NUMBERS = {
    "image_size": BAD_INTEGERS, "patch_size": BAD_INTEGERS, "hidden_size": BAD_INTEGERS, "num_positions": BAD_INTEGERS,
    "intermediate_size": BAD_INTEGERS, "num_hidden_layers": [*BAD_INTEGERS, 1001], "num_heads": BAD_INTEGERS,
    "in_channels": [*BAD_INTEGERS, 1, 4], "layer_norm_eps": [REMOVED, None, "1", 0, -1.0, float("inf"), 10**400],
    "scaling_factor": [REMOVED, None, "8", 0, -8, float("nan")], "hidden_act": [REMOVED, None, "relu", "gelu_new", 3],
}  # fmt: skip


@pytest.mark.parametrize("key", NUMBERS)
def test_a_fact_of_the_tower_that_is_wrong(key: str, folder: Path) -> None:
    """Each value of the wrong kind or size: the key is named."""
    good = json.loads((folder / "config.json").read_text())["vision_config"][key]
    for value in NUMBERS[key]:
        change(folder, True, key, value)
        with pytest.raises(ConfigError, match=rf"config\.json: .*{key}"):
            load(folder)
        change(folder, True, key, good)
    load(folder)


@pytest.mark.parametrize(
    ("inside", "key", "value", "message"),
    [
        (True, "num_heads", 5, "hidden_size 32 is not a multiple of num_heads 5"),
        (True, "num_positions", 6401, "num_positions is 6401; only 17"),
        (True, "image_size", 70, "num_positions is 17; only 26"),
        (True, "image_size", 4097, "image_size is 4097 pixels, more than the 4096"),
        (True, "patch_size", 30, "image_size 56 holds fewer than 2 x 2 patches of patch_size 30"),
        (False, "boi_token_id", REMOVED, "'boi_token_id' is missing"),
        (False, "eoi_token_id", "301", "eoi_token_id is '301'"),
        (False, "eoi_token_id", 300, "boi_token_id 300 and eoi_token_id 300 must be two"),
        (False, "boi_token_id", 320, "boi_token_id 320 and eoi_token_id 301 must be two of 320 ids"),
        (False, "vision_config", [], "vision_config is .*expected an object"),
        (False, "vision_config", "eva", "vision_config is .*expected an object"),
        (False, "hidden_size", REMOVED, "'hidden_size' is missing"),
    ],
)
def test_facts_that_do_not_fit_each_other(inside: bool, key: str, value: Any, message: str, folder: Path) -> None:
    """Both numbers are named, before any weight is read."""
    change(folder, inside, key, value)
    with pytest.raises(ConfigError, match=message):
        load(folder)


def test_a_tower_too_large_to_exist(folder: Path) -> None:
    """An error, not an attempt."""
    change(folder, True, "image_size", 4096)
    change(folder, True, "patch_size", 1)
    with pytest.raises(ConfigError, match="num_positions"):
        load(folder)
    change(folder, True, "intermediate_size", 2**31 - 1)
    change(folder, True, "hidden_size", 2**31 - 4)
    with pytest.raises((ConfigError, CheckpointError)):
        load(folder)


def test_an_unknown_key_of_the_tower_is_named(folder: Path) -> None:
    """It may mean something; dropout does not."""
    change(folder, True, "dropout_prob", 0.1)
    change(folder, True, "post_norm", False)
    with pytest.warns(UserWarning, match=r"ignored keys of vision_config: post_norm$"):
        load(folder)


@pytest.mark.parametrize(
    "name", ["boi", "conv.bias", "transformer.layers.1.mlp.fc2.bias", "linear_proj.gate_proj.weight"]
)
def test_a_tensor_of_the_tower_that_is_missing_or_misshapen(name: str, folder: Path) -> None:
    """By its name in the folder."""
    name = f"transformer.vision.{name}"
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: tensors[name][..., :3].contiguous()}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"{name} has shape"):
        load(folder)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"lacks 1 of .*{name}"):
        load(folder)


def test_there_is_no_other_layout(tmp_path: Path) -> None:
    """transformers has no class for it."""
    with pytest.raises(ConfigError, match=r"GLM4VConfig.*'hf'"):
        save_checkpoint(random_seeing_model(300, 301), tmp_path, layout="hf")
