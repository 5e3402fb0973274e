"""Machines and reports to test with. Nothing here is a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glm4.doctor import Report, examine
from glm4.doctor.machine import NEEDED, Device, Machine, Memory

GIB = 2**30


def machine(ram_gib: float = 64, gpus: tuple[float, ...] = (), **changes: Any) -> Machine:
    """A machine with so much free memory, and GPUs with so much each."""
    made = Machine(
        python="3.12.3",
        system="Linux x86_64",
        packages={**NEEDED, "glm4": "0.1.0", "torch": "2.13.0", "transformers": None, "accelerate": None},
        memory=Memory(int(2 * ram_gib * GIB), int(ram_gib * GIB)),
        cores=8,
        processor="a processor",
        devices=[Device(f"cuda:{i}", "a GPU", Memory(int(free * GIB), int(free * GIB))) for i, free in enumerate(gpus)],
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`on(machine, folder)`: the report of an examination there, which must be printable in both forms."""

    def report(there: Machine, target: str | Path | None, **wishes: str) -> Report:
        monkeypatch.setattr("glm4.doctor.examination.look_at_machine", lambda: there)
        made = examine(None if target is None else str(target), **wishes)
        assert made.as_text()
        assert made.as_json()
        return made

    return report


def problems(report: Report) -> str:
    """All of a report's problems and remedies."""
    return "\n".join(f"{what} -> {remedy}" for what, remedy in report.problems)
