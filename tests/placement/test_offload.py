"""Weights on the disk: what it costs in memory, and a disk that cannot take them."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from random_models import random_checkpoint

import glm4
from glm4.checkpoints import save_checkpoint
from glm4.errors import InputError
from glm4.models.glm import GLM, GLMConfig

pytest.importorskip("accelerate", reason="OFFLOADING NOT TESTED: accelerate is not installed")

MB = 1024 * 1024
LARGE = GLMConfig(
    vocab_size=8192, hidden_size=768, ffn_size=3072, n_layers=10, n_heads=6, n_kv_heads=2, head_dim=128,
    rotary_dim=64, rope_theta=1e4, norm_eps=1e-6, qkv_bias=True, sandwich_norms=False, max_positions=1024,
)  # fmt: skip
ALLOWANCE_MB = 64
CHILD = """
import sys, json, glm4

def status(key):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(key))

def load(folder, off):
    llm = glm4.load_model(folder, device_map={"": "disk"}, offload_folder=off)
    for _ in range(2):
        llm.logits([[1, 2, 3]])

load(sys.argv[1], sys.argv[3])  # imports and allocator pools
open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
before = status("VmRSS")
load(sys.argv[2], sys.argv[3])
print(json.dumps({"peak": status("VmHWM") - before}))
"""


def test_peak_memory_with_everything_on_the_disk(tmp_path: Path) -> None:
    """Loading and computing: a layer, and one tensor as it is stored; not the model. Fused weights are written anew."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("PEAK MEMORY NOT MEASURED: this system has no /proc/self/clear_refs")
    with torch.device("meta"):
        model = GLM(LARGE).bfloat16()
    layer = sum(p.numel() * 2 for p in model.layers[0].parameters()) / MB
    weights = sum(p.numel() * 2 for p in model.parameters()) / MB
    save_checkpoint(model.to_empty(device="cpu"), tmp_path / "large", layout="hf")
    small = random_checkpoint(tmp_path / "small", "hf")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(small), str(tmp_path / "large"), str(tmp_path / "off")],
        capture_output=True,
        text=True,
        timeout=160,
        env={**os.environ, "PYTHONPATH": str(Path(glm4.__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    peak = json.loads(done.stdout)["peak"]
    print(f"{weights:.0f} MB of weights, a layer {layer:.0f} MB, peak {peak:.0f} MB")
    assert peak <= 2 * layer + ALLOWANCE_MB < 0.6 * weights
    assert not list((tmp_path / "off").iterdir()), "the process left its files behind"


DISK = {"": "cpu", "layers": "disk"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint whose layers have to be written."""
    return random_checkpoint(tmp_path_factory.mktemp("checkpoint"), "hf")


def test_no_folder(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"[\d,]+ bytes of the weights are to go to the disk, .*; pass offload_folder="
    ):
        glm4.load_model(folder, device_map=DISK)


def test_a_folder_that_is_a_file(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "below"):
        with pytest.raises(InputError, match=r"offload_folder .*file.* cannot be written to \("):
            glm4.load_model(folder, device_map=DISK, offload_folder=path)


def test_a_folder_without_permission(folder: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("permissions mean nothing to root")
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"cannot be written to \(Permission denied\); pass another"):
        glm4.load_model(folder, device_map=DISK, offload_folder=tmp_path)


def test_a_disk_without_room(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen before anything is written."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1234))
    with pytest.raises(InputError, match=r"has 1,234 bytes free, and [\d,]+ are to be written; pass another"):
        glm4.load_model(folder, device_map=DISK, offload_folder=tmp_path)
    assert not list(tmp_path.iterdir())


@contextmanager
def no_file_larger_than(n_bytes: int) -> Iterator[None]:
    """What a disk that is full by now answers, EFBIG standing in for ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up(folder: Path, tmp_path: Path) -> None:
    """Nothing of what was written stays, and the next load works."""
    with (
        no_file_larger_than(1000),
        pytest.raises(InputError, match=r"cannot be written \(.*; free some space, or pass"),
    ):
        glm4.load_model(folder, device_map=DISK, offload_folder=tmp_path)
    assert not list(tmp_path.iterdir())
    again: Any = glm4.load_model(folder, device_map=DISK, offload_folder=tmp_path)
    assert torch.equal(again.logits([[1, 2]]), glm4.load_model(folder).logits([[1, 2]]))
