"""What this machine is and has: versions, free memory, GPUs, processor. What cannot be learnt is left out."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

LOWEST_PYTHON = (3, 10)
# What the library cannot do without, and from which version; as in pyproject.toml, which is not always installed.
NEEDED = {
    "torch": "2.10",
    "safetensors": "0.4.3",
    "tiktoken": "0.7",
    "sentencepiece": "0.2.3",
    "huggingface-hub": "0.34",
    "jinja2": "3.1.6",
    "tqdm": "4.66",
    "numpy": "1.26",
    "pillow": "11.0",
}


@dataclass(frozen=True)
class Memory:
    """Bytes of one kind of memory: in all, and free to take now. `limit` says what bounds it, if not its size."""

    total: int
    free: int
    limit: str = ""


@dataclass(frozen=True)
class Device:
    """An accelerator, as torch names it ("cuda:0"), and its memory; None where it shares the machine's."""

    name: str
    model: str
    memory: Memory | None


@dataclass
class Machine:
    """Everything that could be learnt. `torch_fault`: why torch cannot be used, "" if it can."""

    python: str
    system: str
    packages: dict[str, str | None]
    memory: Memory | None
    cores: int
    processor: str
    features: list[str] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    torch_fault: str = ""
    faults: list[tuple[str, str]] = field(default_factory=list)  # what stands in the way of any model, and its remedy
    notes: list[str] = field(default_factory=list)


def look_at_machine(*, with_torch: bool = True) -> Machine:
    """Never raises. `with_torch=False` leaves out what only torch knows, and its import of a second or more."""
    machine = Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        packages={name: installed(name) for name in ("glm4", *NEEDED, "transformers", "accelerate")},
        memory=free_memory(),
        cores=_cores(),
        processor=_processor(),
    )
    if sys.version_info[:2] < LOWEST_PYTHON:
        lowest = ".".join(map(str, LOWEST_PYTHON))
        machine.faults.append((f"Python {machine.python} is too old", f"install {lowest} or later"))
    if with_torch:
        _ask_torch(machine)
    machine.faults += _package_faults(machine.packages)
    if machine.torch_fault and machine.packages["torch"] is not None:
        machine.faults.append((f"torch is installed but cannot be used: {machine.torch_fault}", "install it again"))
    return machine


def installed(package: str) -> str | None:
    """The version of an installed package, without importing it; None if there is none."""
    try:
        return metadata.version(package)
    except Exception:  # metadata of a broken installation raises anything
        return None


def version_tuple(version: str) -> tuple[int, ...]:
    """ "2.13.0+cpu" -> (2, 13, 0): the leading numbers."""
    numbers = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits[:9]))
        if digits != part:
            break
    return tuple(numbers)


def _package_faults(packages: dict[str, str | None]) -> Iterator[tuple[str, str]]:
    for name, lowest in NEEDED.items():
        version = packages[name]
        if version is None:
            yield f"the package {name} is not installed", f"run `pip install {name}`"
        elif version_tuple(version) < version_tuple(lowest):
            yield f"{name} {version} is too old", f"run `pip install '{name}>={lowest}'`"


def transformers_notes(version: str | None) -> list[str]:
    """What the installed transformers does to the original checkpoints' own code. glm4 does not run that code."""
    if version is None:
        return []
    number = version_tuple(version)
    if number >= (5,):
        what = "cannot load the original GLM-4 checkpoints with their own code, and decodes special tokens wrongly"
    elif number >= (4, 49):
        what = "loads the original GLM-4 checkpoints with their own code, but cannot generate"
    elif number >= (4, 45):
        what = "fails in the tokenizers of GLM-4-9B and GLM-4-9B-Chat-1M (padding_side)"
    elif number >= (4, 44):
        return []
    else:
        what = "is too old for the GLM-4 checkpoints' code of August 2024 and later"
    return [f"transformers {version} {what}. That does not concern glm4, which does without both."]


def free_memory() -> Memory | None:
    """The machine's memory, or what a container or ulimit leaves of it; None if it cannot be learnt."""
    found = [memory for memory in (_system_memory(), *_cgroup_limits(), _process_limit()) if memory is not None]
    if not found:
        return None
    tightest = min(found, key=lambda memory: memory.free)
    total = min(memory.total for memory in found)
    return Memory(total, max(0, min(tightest.free, total)), tightest.limit)


def _system_memory() -> Memory | None:
    with suppress(OSError, ValueError, IndexError, KeyError):  # Linux
        lines = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace").splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.count(":") == 1}
        return Memory(kib["MemTotal"] * 1024, kib.get("MemAvailable", kib["MemFree"]) * 1024)
    with suppress(OSError, ValueError, AttributeError):  # macOS has no count of free pages: all of it, then
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        return Memory(pages * size, pages * size, "all there is; what other programs use is not known")
    with suppress(OSError, AttributeError):
        return _windows_memory()
    return None


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = [
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        *[(name, ctypes.c_ulonglong) for name in ("total", "free", "c", "d", "e", "f", "g")],
    ]


def _windows_memory() -> Memory:
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined, unused-ignore]
    return Memory(int(status.total), int(status.free))


def _cgroup_limits(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[Memory]:
    """What the control groups around this process allow, versions 1 and 2. A container sees its own as the root."""
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if controllers == "":
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            memory = _cgroup_memory(folder, *names)
            if memory is not None:
                yield memory
            if folder == base:
                break


def _cgroup_memory(folder: Path, limit: str, used: str, reclaimable: str) -> Memory | None:
    with suppress(OSError, ValueError, IndexError):
        total, taken = int((folder / limit).read_text()), int((folder / used).read_text())
        if total >= 2**60:  # version 1 writes "no limit" as a very large number, version 2 as "max" (ValueError)
            return None
        for line in (folder / "memory.stat").read_text().splitlines():
            if line.split()[0] == reclaimable:  # file pages, which are given up when memory is short
                taken -= int(line.split()[1])
        return Memory(total, max(0, total - taken), "the container's limit")
    return None


def _process_limit() -> Memory | None:
    with suppress(ImportError, OSError, ValueError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            return Memory(limit, limit, "ulimit -v")
    return None


def _cores() -> int:
    with suppress(AttributeError, OSError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _ask_torch(machine: Machine) -> None:
    try:
        import torch
    except Exception as error:  # missing, or a library that it needs is: ImportError, OSError, RuntimeError
        machine.torch_fault = _first_line(error)
        return
    machine.packages["torch"] = str(torch.__version__)
    with suppress(Exception):
        machine.features = _cpu_features(torch)
    for kind in ("cuda", "xpu"):
        _accelerators(machine, torch, kind)
    with suppress(Exception):
        if torch.backends.mps.is_available():
            machine.devices.append(Device("mps", "Apple GPU, shares the machine's memory", None))
    with suppress(Exception):
        if not machine.devices and torch.version.cuda is None and _has_nvidia_driver():
            machine.notes.append(
                "There is an NVIDIA driver, but this torch is built without CUDA; install the CUDA build as "
                "pytorch.org describes"
            )


def _cpu_features(torch: Any) -> list[str]:
    """What speeds up the CPU, as far as torch tells."""
    features = [str(torch.backends.cpu.get_cpu_capability())]
    for name, test in (
        ("AVX512-bfloat16", "_is_avx512_bf16_supported"),
        ("AMX", "_is_amx_tile_supported"),
    ):
        with suppress(Exception):
            if getattr(torch.cpu, test)():
                features.append(name)
    return features


def _accelerators(machine: Machine, torch: Any, kind: str) -> None:
    """Append the devices of one kind; a driver that fails is a note, not an end."""
    try:
        module = getattr(torch, kind)
        for index in range(module.device_count()):
            name, memory = f"{kind}:{index}", None
            with suppress(Exception):
                free, total = module.mem_get_info(index)
                memory = Memory(int(total), int(free))
            machine.devices.append(Device(name, str(module.get_device_name(index)), memory))
    except Exception as error:
        machine.notes.append(f"asking for {kind} devices failed: {_first_line(error)}")


def _has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
