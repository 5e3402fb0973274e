"""Exported folders of random models. Every test here runs on each supported transformers (tools/hf_matrix.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exported import checkpoint, load

from glm4.hf import export


@pytest.fixture(scope="session")
def text_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text model in the original layout."""
    return checkpoint(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="session")
def seeing_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that sees."""
    return checkpoint(tmp_path_factory.mktemp("seeing"), sees=True)


@pytest.fixture(scope="session")
def text_folder(text_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text model, exported."""
    return export(text_checkpoint, tmp_path_factory.mktemp("exported") / "text")


@pytest.fixture(scope="session")
def seeing_folder(seeing_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seeing model, exported."""
    return export(seeing_checkpoint, tmp_path_factory.mktemp("exported") / "seeing")


@pytest.fixture(scope="session")
def text_model(text_folder: Path) -> Any:
    """Shared: no test may change it for good."""
    return load(text_folder)


@pytest.fixture(scope="session")
def seeing_model(seeing_folder: Path) -> Any:
    """Shared: no test may change it for good."""
    return load(seeing_folder)
