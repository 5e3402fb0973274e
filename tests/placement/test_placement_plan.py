"""From a device map to a device for each part: what goes where, and what is refused with words."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from logical_devices import LogicalDevices
from random_models import random_checkpoint, random_model, random_seeing_model

import glm4
from glm4.errors import InputError
from glm4.placement import DeviceMap, Plan, everything_on, placement_of, plan_placement
from glm4.placement.parts import holders_of, parts_of

pytest.importorskip("accelerate", reason="DEVICE MAPS NOT TESTED: accelerate is not installed")

CPU, GPU0, GPU1 = torch.device("cpu"), torch.device("cuda", 0), torch.device("cuda", 1)
TEXT = random_model(1, n_layers=4)
SEEING = random_seeing_model(7, 8, n_layers=2)
LAYER = sum(p.numel() for p in TEXT.layers[0].parameters()) * 4
TABLE = TEXT.embed_tokens.weight.numel() * 4


@pytest.fixture
def two_gpus() -> Iterator[None]:
    """ "cuda:0" and "cuda:1"."""
    if torch.cuda.is_available():
        pytest.skip("logical devices would be taken for the real ones here")
    with LogicalDevices():
        yield


def planned(device_map: Any, model: Any = TEXT, max_memory: Any = None) -> Plan:
    """For float32 weights."""
    return plan_placement(model, DeviceMap(device_map, max_memory), dtype=torch.float32)


def test_parts() -> None:
    """Layers, and what is beside them; a tower is taken apart like the model; its loose tensors are no parts."""
    assert list(parts_of(TEXT)) == ["embed_tokens", *(f"layers.{i}" for i in range(4)), "norm", "lm_head"]
    n_layers = len(SEEING.vision.layers)
    tower = ["patch_embedding", *(f"layers.{i}" for i in range(n_layers)), "conv", "adapter"]
    assert list(parts_of(SEEING))[-len(tower) :] == [f"vision.{name}" for name in tower]
    assert list(holders_of(SEEING)) == ["", "vision"]
    everything = everything_on(SEEING, CPU)
    assert {everything.kept(name) for name in SEEING.state_dict()} == {CPU}


def test_the_longest_name_counts(two_gpus: None) -> None:
    plan = planned({"": 0, "layers": "cuda:1", "layers.2": "disk"})
    kept = {name: str(spot.kept) for name, spot in plan.spots.items()}
    assert kept == {
        "embed_tokens": "cuda:0", "layers.0": "cuda:1", "layers.1": "cuda:1", "layers.2": "disk", "layers.3": "cuda:1",
        "norm": "cuda:0", "lm_head": "cuda:0",
    }  # fmt: skip
    assert plan.kept("layers.2.mlp.down_proj.weight") == "disk"
    assert plan.main == plan.spots["layers.2"].runs_on == GPU0


def test_where_the_offloaded_computes(two_gpus: None) -> None:
    """On the first GPU; but a table is looked up where it is."""
    plan = planned({"": "cpu", "layers.1": "cuda:1", "layers.2": "disk", "layers.3": "cuda:0"})
    assert plan.main == GPU1
    assert {name: str(spot.runs_on) for name, spot in plan.spots.items()} == {
        "embed_tokens": "cpu", "layers.0": "cuda:1", "layers.1": "cuda:1", "layers.2": "cuda:1", "layers.3": "cuda:0",
        "norm": "cuda:1", "lm_head": "cuda:1",
    }  # fmt: skip
    assert [name for name, spot in plan.spots.items() if spot.is_offloaded] == [
        "layers.0", "layers.2", "norm", "lm_head",
    ]  # fmt: skip


def test_a_towers_own_tensors_go_with_its_first_part(two_gpus: None) -> None:
    plan = planned({"": "cuda:0", "vision": "cuda:1", "vision.conv": "cpu"}, SEEING)
    assert plan.holders == {"": GPU0, "vision": GPU1}
    assert plan.kept("vision.boi") == GPU1
    assert planned({"": "cuda:0", "vision": "disk"}, SEEING).kept("vision.eoi") == GPU0  # small, and always needed


def test_sequential_fills_one_after_the_other() -> None:
    """The disk's share computes on the CPU, which keeps room for its largest part."""
    memory = {"cpu": TABLE + 2 * LAYER + max(LAYER, TABLE), "disk": 10**9}
    plan = planned("sequential", max_memory=memory)
    assert {name: str(spot.kept) for name, spot in plan.spots.items()} == {
        "embed_tokens": "cpu", "layers.0": "cpu", "layers.1": "cpu", "layers.2": "disk", "layers.3": "disk",
        "norm": "disk", "lm_head": "disk",
    }  # fmt: skip
    assert not planned("auto").is_spread  # it fits here as it is


def test_no_strategy_splits_a_part(monkeypatch: pytest.MonkeyPatch, two_gpus: None) -> None:
    """Whatever the room: what accelerate decides is about whole layers, towers' loose tensors apart."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    sizes = sum(p.numel() * 4 for p in SEEING.parameters())
    for strategy in ("auto", "balanced", "balanced_low_0", "sequential"):
        for share in (20, 5, 3, 2, 1):
            memory = {"cuda:0": sizes // share, 1: sizes // share, "cpu": f"{sizes // 4000}KB"}
            plan = planned(strategy, SEEING, memory if strategy != "balanced_low_0" else {**memory, 0: sizes})
            assert list(plan.spots) == list(parts_of(SEEING))
            assert set(plan.holders) == {"", "vision"}
    assert {str(spot.kept) for spot in planned("balanced", TEXT, {0: 10**9, 1: 10**9}).spots.values()} == {
        "cuda:0",
        "cuda:1",
    }


@pytest.mark.parametrize(
    ("device_map", "words"),
    [
        ({"": "cpu", "layer.2": "disk"}, r"names 'layer\.2', which this model does not have; did you mean 'layers\.2'"),
        ({"": "cpu", "transformer": "disk"}, r"does not have; it has embed_tokens, layers, lm_head, norm"),
        ({"": "cpu", "layers.4": "disk"}, r"names 'layers\.4'"),
        ({"": "cpu", 3: "disk"}, r"names 3, which"),
        ({"": "cpu", "layers.2.mlp": "disk"}, r"names 'layers\.2\.mlp'; 'layers\.2' is placed as a whole"),
        ({"layers": "cpu"}, r'no device for embed_tokens, norm, lm_head; add them, or ""'),
        ({"embed_tokens": "cpu"}, r"no device for layers\.0, layers\.1, layers\.2, layers\.3, norm and 1 more"),
        ({}, r"no device for embed_tokens"),
        ({"": "gpu"}, r"device 'gpu' cannot be used"),
        ({"": "cuda:99"}, r"device 'cuda:99' cannot be used"),
        ({"": 99}, r"device 99 cannot be used"),
        ({"": -1}, r"device -1 cannot be used"),
        ({"": "meta"}, r"device 'meta' cannot be used \(it holds no data\)"),
        ({"": True}, r"device True cannot be used"),
        ({"": None}, r"gives '' the device None"),
        ({"": "auto"}, r"gives '' the device 'auto'"),
        ("atuo", r'device_map is \'atuo\'; pass "auto", "balanced", "balanced_low_0", "sequential", or a device'),
        ("cpu", r"device_map is 'cpu'; pass"),
        (["cpu"], r"device_map is \['cpu'\]; pass"),
    ],
)  # fmt: skip
def test_maps_that_do_not_suit(device_map: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        planned(device_map)


@pytest.mark.parametrize(
    ("max_memory", "words"),
    [
        ({"cpu": "much"}, r"max_memory for 'cpu' is 'much'"),
        ({"cpu": -1}, r"max_memory for 'cpu' is -1"),
        ({"cpu": 0.5}, r"max_memory for 'cpu' is 0\.5"),
        ({"cpu": None}, r"max_memory for 'cpu' is None"),
        ({"cpu": True}, r"max_memory for 'cpu' is True"),
        ({"tpu": "1GB"}, r"device 'tpu' cannot be used"),
        ({99: "1GB"}, r"device 99 cannot be used"),
        ({}, r"max_memory is \{\}"),
        ("1GB", r"max_memory is '1GB'"),
    ],
)
def test_memory_that_is_none(max_memory: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        planned("auto", max_memory=max_memory)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"device": "cpu", "device_map": "auto"}, "device is 'cpu' and device_map is given, too; pass one of them"),
        ({"max_memory": {"cpu": "1GB"}}, 'max_memory says how to spread a model: pass it with device_map, such as'),
        ({"offload_folder": "x"}, "offload_folder says how to spread a model"),
        ({"device_map": {"": "cpu"}, "max_memory": {"cpu": 1}}, "max_memory is given beside a device_map that says"),
        ({"device_map": "auto", "offload_folder": 3}, "offload_folder is 3; pass the path of a folder"),
        ({"device_map": {"": "cpu", "vision": "cpu"}}, "names 'vision', which this model does not have"),
    ],
)  # fmt: skip
def test_arguments_of_load_model(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        glm4.load_model(**arguments)


def test_without_accelerate(tmp_path: Path) -> None:
    """Said before anything is read or downloaded; what needs no map needs no accelerate."""
    code = (
        "import sys, importlib.abc\n"
        "class Gone(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] == 'accelerate': raise ModuleNotFoundError(name)\n"
        "import importlib.util; real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *_: None if name == 'accelerate' else real(name, *_)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "import glm4\n"
        f"print(glm4.load_model({str(random_checkpoint(tmp_path))!r}, device='cpu').placement)\n"
        "try: glm4.load_model('nobody/nothing', device_map='auto')\n"
        "except glm4.InputError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert 'device_map needs the package accelerate; run: pip install "accelerate>=1.0"' in done.stdout
    assert re.search(r"layers\.0-1 +cpu +cpu", done.stdout)


def test_the_table(two_gpus: None) -> None:
    """Layers that lie alike in one line; sizes add up; what is offloaded says where it computes."""
    model = random_seeing_model(7, 8, n_layers=4)
    shown = str(placement_of(model)).splitlines()
    assert [line.split()[0] for line in shown[:-1]] == [
        "module", "vision.boi", "vision.eoi", "embed_tokens", "layers.0-3", "norm", "lm_head",
        "vision.patch_embedding", f"vision.layers.0-{len(model.vision.layers) - 1}", "vision.conv", "vision.adapter",
    ]  # fmt: skip
    total = sum(p.numel() * 4 for p in model.parameters())
    assert placement_of(model).bytes_on == {"cpu": total}
    assert shown[-1] == f"in all: {total / 1000:.0f} KB on cpu"
    assert len({len(line) for line in shown[:-1]}) == 1
