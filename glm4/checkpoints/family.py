"""How one family's weights lie on disk in one layout: what every file in this folder about a family provides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from .facts import Facts

Layout: TypeAlias = Literal["thudm", "hf", "chatglm-6b", "internvl"]


@dataclass(frozen=True)
class Place:
    """One tensor of a checkpoint and the rows of ours that it fills."""

    theirs: str
    ours: str
    rows: slice | None = None  # None: all of it
    alternatives: tuple[str, ...] = ()  # other names that the same tensor may have, looked for in this order
    through: torch.dtype | None = None  # rounded to it on the way, where the original's module holds nothing finer


@dataclass(frozen=True)
class Family:
    """One family in one layout. The configuration `C` it speaks of is a frozen dataclass of models/."""

    layout: Layout
    read: Callable[[Facts], Any]
    """config.json -> C. Raises ConfigError."""
    build: Callable[[Any], nn.Module]
    """C -> the model; called where no tensor takes memory."""
    places: Callable[[Any], Iterator[Place]]
    """C -> every tensor that the folder must hold, each once."""
    harmless: Callable[[Any, str], bool]
    """(C, name) -> whether the folder may hold this tensor although the model has no use for it."""
    write: Callable[[Any], dict[str, Any]] | None = None
    """C -> config.json; None where this library writes no such folder."""
    fit: Callable[[Any, Mapping[str, tuple[int, ...]]], Any] | None = None
    """(C, shapes of the stored tensors by name) -> C with what only the tensors say; None where they say nothing."""
    name_ids: Callable[[Any, Mapping[str, int]], Any] | None = None
    """(C, control token -> id) -> C with what only the tokenizer says; None where it says nothing."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """What a generation_config.json would say, for a family that was published without one."""
