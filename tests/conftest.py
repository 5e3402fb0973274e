"""Fixtures that several folders of tests share. Being here also puts this folder on the import path (pytest)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"

# Tensors here are tiny: on a busy machine two threads take a hundred times as long as one, waiting for each other.
# Subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples each time: a failure in someone else's checkout can be looked into.
settings.register_profile("glm4", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("glm4")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded outputs and real configuration files beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"NOT COMPARED WITH THE ORIGINAL: {SHARED.name}/ is not beside the repository ({SHARED.parent})")
    return SHARED


@pytest.fixture(params=["glm-4-9b", "glm-4-9b-chat", "glm-4-9b-chat-1m"])
def golden(request: pytest.FixtureRequest, shared: Path) -> Path:
    """One small checkpoint in the original's layout, with what the original code returned for it."""
    folder: Path = shared / "golden" / request.param
    return folder
