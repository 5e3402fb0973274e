"""What loading costs in memory: the weights once, and no more than a tensor beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from random_models import load, random_checkpoint, reshard
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import glm4
from glm4.checkpoints import save_checkpoint
from glm4.models.glm import GLM, GLMConfig

MB = 1024 * 1024
ALLOWANCE_MB = 64
LARGE = GLMConfig(
    vocab_size=32768, hidden_size=1024, ffn_size=4096, n_layers=6, n_heads=8, n_kv_heads=2, head_dim=128,
    rotary_dim=64, rope_theta=1e4, norm_eps=1e-6, qkv_bias=True, sandwich_norms=False, max_positions=1024,
)  # fmt: skip
CHILD = """
import sys, json, torch, warnings
from pathlib import Path
from glm4.checkpoints import load_model_weights, read_architecture

def status(key):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(key))

def load(folder):
    architecture = read_architecture(Path(folder))
    return load_model_weights(Path(folder), architecture, dtype=getattr(torch, sys.argv[3]), device=torch.device("cpu"))

load(sys.argv[1])  # imports and allocator pools
open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
before = status("VmRSS")
model = load(sys.argv[2])
print(json.dumps({"peak": status("VmHWM") - before, "after": status("RssAnon")}))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 300 MB of bfloat16 in three shards of the hf layout, a layer's tensors spread over all of them."""
    folder = tmp_path_factory.mktemp("large")
    with torch.device("meta"):
        model = GLM(LARGE).bfloat16()
    save_checkpoint(model.to_empty(device="cpu"), folder, layout="hf")
    reshard(folder, 3)
    return folder


def peak_mb(folder: Path, dtype: str, tmp_path: Path) -> float:
    """How far a fresh process's resident memory rises above where it stood before loading."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("PEAK MEMORY NOT MEASURED: this system has no /proc/self/clear_refs")
    small = random_checkpoint(tmp_path / "small", "hf")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(small), str(folder), dtype],
        capture_output=True,
        text=True,
        timeout=160,
        env={**os.environ, "PYTHONPATH": str(Path(glm4.__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, float] = json.loads(done.stdout)
    return result["peak"]


def size_mb(folder: Path) -> float:
    """All weight files together."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.suffix in {".safetensors", ".bin"}) / MB


LARGEST_MB = LARGE.vocab_size * LARGE.hidden_size * 2 / MB


@pytest.mark.parametrize(("dtype", "growth"), [("bfloat16", 1), pytest.param("float32", 2, marks=pytest.mark.slow)])
def test_peak_memory_of_loading(dtype: str, growth: int, large: Path, tmp_path: Path) -> None:
    """The weights as they end up, plus the largest tensor as it is stored. A state dict read whole would be twice."""
    weights = size_mb(large) * growth
    peak = peak_mb(large, dtype, tmp_path)
    print(f"{dtype}: {weights:.0f} MB of weights, largest tensor {LARGEST_MB:.0f} MB, peak {peak:.0f} MB")
    assert weights * 0.95 < peak, "the measurement itself is wrong"
    assert peak <= weights + LARGEST_MB + ALLOWANCE_MB


@pytest.mark.slow
def test_peak_memory_of_loading_a_bin(large: Path, tmp_path: Path) -> None:
    """As for safetensors: the file is mapped anew for each tensor."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for file in large.iterdir():
        (folder / file.name).hardlink_to(file)
    merged = {}
    for file in sorted(folder.glob("*.safetensors")):
        merged |= load_file(file)
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    torch.save(merged, folder / "pytorch_model.bin")
    weights = size_mb(folder)
    peak = peak_mb(folder, "bfloat16", tmp_path)
    print(f".bin in one file: {weights:.0f} MB of weights, peak {peak:.0f} MB")
    assert peak <= weights + LARGEST_MB + ALLOWANCE_MB


class Allocations(TorchDispatchMode):
    """Adds up the bytes of every tensor that is made from nothing on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0
        self.filled: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        from_nothing = not any(isinstance(arg, Tensor) for arg in args)
        if isinstance(out, Tensor) and out.device.type == "cpu" and from_nothing:
            self.n_bytes += out.numel() * out.element_size()
        if isinstance(out, Tensor) and out.device.type == "cpu" and ("normal_" in str(func) or "uniform_" in str(func)):
            self.filled.append(str(func))
        return out


@pytest.mark.parametrize("layout", ["thudm", "hf"])
def test_nothing_is_allocated_twice_and_nothing_initialised(layout: str, tmp_path: Path) -> None:
    """torch's own initial values would cost as much time as reading the file, and a second copy as much memory."""
    random_checkpoint(tmp_path, layout)
    reshard(tmp_path, 2)
    with Allocations() as seen:
        model = load(tmp_path)
    assert seen.n_bytes == sum(p.numel() * p.element_size() for p in model.parameters())
    assert not seen.filled
    assert not any(p.is_meta for p in model.parameters())
    assert not list(model.buffers())
