"""What is said of a machine: limits of containers, versions, missing packages, broken drivers."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from machines import GIB, machine, problems
from random_models import random_checkpoint

from glm4.doctor import machine as module
from glm4.doctor.machine import Memory, look_at_machine, transformers_notes, version_tuple


def test_this_machine() -> None:
    """Whatever it is, it has some memory, cores and packages."""
    there = look_at_machine()
    assert there.memory is not None
    assert 0 < there.memory.free <= there.memory.total
    assert there.cores > 0
    assert there.packages["torch"]
    assert not there.torch_fault
    assert not there.faults


def write(folder: Path, files: dict[str, str]) -> None:
    """Files of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_containers_of_version_2(tmp_path: Path) -> None:
    """The tightest group around the process counts; pages of files can be given up."""
    write(tmp_path / "cg", {"cgroup": ""})
    (tmp_path / "own").write_text("0::/outer/inner\n")
    stat = f"anon 5\ninactive_file {GIB}\n"
    write(
        tmp_path / "cg/outer",
        {"memory.max": str(8 * GIB), "memory.current": str(3 * GIB), "memory.stat": stat},
    )
    write(tmp_path / "cg/outer/inner", {"memory.max": "max", "memory.current": "5", "memory.stat": stat})
    assert list(module._cgroup_limits(tmp_path / "cg", tmp_path / "own")) == [
        Memory(8 * GIB, 6 * GIB, "the container's limit")
    ]


def test_containers_of_version_1(tmp_path: Path) -> None:
    """Seen from inside, where the group's own path does not exist and its files lie at the root."""
    (tmp_path / "own").write_text("12:cpu:/\n5:memory:/docker/abc\n0::/x\n")
    files = {
        "memory.limit_in_bytes": str(4 * GIB),
        "memory.usage_in_bytes": str(GIB),
        "memory.stat": "total_inactive_file 0\n",
    }
    write(tmp_path / "cg/memory", files)
    assert list(module._cgroup_limits(tmp_path / "cg", tmp_path / "own")) == [
        Memory(4 * GIB, 3 * GIB, "the container's limit")
    ]
    write(tmp_path / "cg/memory", {**files, "memory.limit_in_bytes": "9223372036854771712"})
    assert not list(module._cgroup_limits(tmp_path / "cg", tmp_path / "own"))


def test_the_tightest_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container smaller than its host."""
    monkeypatch.setattr(module, "_system_memory", lambda: Memory(64 * GIB, 50 * GIB))
    monkeypatch.setattr(module, "_cgroup_limits", lambda: iter([Memory(8 * GIB, 6 * GIB, "the container's limit")]))
    monkeypatch.setattr(module, "_process_limit", lambda: None)
    assert module.free_memory() == Memory(8 * GIB, 6 * GIB, "the container's limit")
    monkeypatch.setattr(module, "_system_memory", lambda: None)
    monkeypatch.setattr(module, "_cgroup_limits", lambda: iter([]))
    assert module.free_memory() is None


def test_broken_drivers_are_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a driver does ends the visit."""

    def fail(*_: object) -> Any:
        raise RuntimeError("CUDA driver version is insufficient\nmore lines")

    there = machine()
    kind = SimpleNamespace(device_count=lambda: 2, get_device_name=lambda i: f"GPU {i}", mem_get_info=fail)
    module._accelerators(there, SimpleNamespace(cuda=kind), "cuda")
    assert [(device.name, device.memory) for device in there.devices] == [("cuda:0", None), ("cuda:1", None)]
    module._accelerators(there, SimpleNamespace(cuda=SimpleNamespace(device_count=fail)), "cuda")
    assert there.notes == ["asking for cuda devices failed: CUDA driver version is insufficient"]
    module._accelerators(there, SimpleNamespace(), "xpu")


def test_faults_of_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is missing, one that is too old."""
    versions = {"torch": "2.9.1+cu128", "tiktoken": None}
    monkeypatch.setattr(module, "installed", lambda name: versions.get(name, "99.0"))
    monkeypatch.setattr(module, "LOWEST_PYTHON", (4, 0))
    assert look_at_machine(with_torch=False).faults == [
        (f"Python {platform.python_version()} is too old", "install 4.0 or later"),
        ("torch 2.9.1+cu128 is too old", "run `pip install 'torch>=2.10'`"),
        ("the package tiktoken is not installed", "run `pip install tiktoken`"),
    ]


def test_needed_versions_are_the_projects() -> None:
    """pyproject.toml says the same."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for name, lowest in module.NEEDED.items():
        assert f'"{name}>={lowest}"' in text, name


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (None, None), ("4.37.2", "too old"), ("4.44.2", None), ("4.46.3", "padding_side"), ("4.48.3", "padding_side"),
        ("4.49.0", "cannot generate"), ("4.57.1", "cannot generate"), ("5.0.0rc1", "cannot load"),
        ("5.23.0", "cannot load"),
    ],
)  # fmt: skip
def test_transformers(version: str | None, words: str | None) -> None:
    """What each does to the original checkpoints' own code."""
    notes = transformers_notes(version)
    assert len(notes) == (words is not None)
    assert words is None or words in notes[0]


def test_version_numbers() -> None:
    """Compared as numbers."""
    assert version_tuple("2.13.0+cpu") == (2, 13, 0)
    assert version_tuple("5.0.0rc1") == (5, 0, 0)
    assert version_tuple("2.10") > version_tuple("2.9.1")
    assert version_tuple("unknown") == ()


def test_a_gpu_in_the_report(on: Any, tmp_path: Path) -> None:
    """Its name and memory."""
    report = on(machine(16, (12.5,)), random_checkpoint(tmp_path / "model"))
    assert "cuda:0        a GPU, 12.5 GiB free of 12.5 GiB" in report.as_text()
    assert report.data["machine"]["devices"][0]["free"] == int(12.5 * GIB)


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter."""
    root = str(Path(module.__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=150,
        env={**os.environ, "PYTHONPATH": root}, encoding="utf-8",
    )  # fmt: skip


def test_messages_need_no_torch() -> None:
    """Nor numpy: an answer about a message comes at once."""
    done = run(
        "import sys; from glm4.cli import main\n"
        "status = main(['doctor', \"_pad() got an unexpected keyword argument 'padding_side'\"])\n"
        "print(status, sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def test_without_torch(tmp_path: Path) -> None:
    """A folder is still told, its files checked and its memory counted, from headers; and what is missing is said."""
    folder = random_checkpoint(tmp_path / "model")
    done = run(
        "import sys; sys.modules['torch'] = None; from glm4.cli import main; sys.exit(main(sys.argv[1:]))",
        "doctor", str(folder), "--json",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert [problem["problem"] for problem in report["problems"]] == [
        "torch is installed but cannot be used: import of torch halted; None in sys.modules"
    ]
    whole = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert 0 < whole - report["memory"]["float32"]["weights"] < 4000, "the file but its header"
    assert report["model"]["name"] == "a model of GLM-4's architecture"


def test_headers_and_models_count_alike(on: Any, tmp_path: Path) -> None:
    """With torch and without, in every dtype."""
    folder = random_checkpoint(tmp_path / "model")
    with_torch = on(machine(), folder).data["memory"]
    without = on(machine(torch_fault="there is none", faults=[("torch is missing", "install it")]), folder)
    assert without.data["memory"] == with_torch
    assert "torch is missing -> install it" in problems(without)
