"""Fill a model with a checkpoint's weights, tensor by tensor."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import CheckpointError, ConfigError
from .architecture import Architecture
from .family import Family, Place
from .files import StoredTensor, read_tensors, stored_tensors

BAR_AFTER_S = 1.0  # a load shorter than this shows no progress bar


@dataclass(frozen=True)
class WeightPlan:
    """What would be read and where it would go: all that can be known before the first weight is.

    Attributes:
        model: without memory (on torch's meta device).
        stored: the folder's tensors by name.
        wanted: those that the model takes, by the name under which they are stored.
        unused: the others' names, as far as they are not known to be harmless.
    """

    model: Any
    stored: dict[str, StoredTensor]
    wanted: dict[str, Place]
    unused: list[str]


def plan_weights(folder: Path, architecture: Architecture) -> WeightPlan:
    """Check the folder's weights against the model that config.json describes, from the files' headers alone.

    Raises:
        CheckpointError: a tensor is missing or of the wrong shape, or a file is missing or damaged.
        ConfigError: the model is too large to exist.
    """
    family, config = architecture.family, architecture.config
    stored = stored_tensors(folder)
    if family.fit is not None:
        config = family.fit(config, {name: tensor.shape for name, tensor in stored.items()})
    model = build_empty(folder, family, config)
    wanted = {_name_of(place, stored): place for place in family.places(config)}
    _check(folder, stored, wanted, model.state_dict())
    unused = [name for name in stored if name not in wanted and not family.harmless(config, name)]
    return WeightPlan(model, stored, wanted, unused)


def build_empty(folder: Path, family: Family, config: Any) -> nn.Module:
    """The model of a configuration, its tensors without memory (on torch's meta device).

    Raises:
        ConfigError: the products of its sizes overflow; `folder` is named as the one to blame.
    """
    try:
        with torch.device("meta"):
            return family.build(config)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"{folder / 'config.json'} asks for tensors too large to exist: {error}") from error


def load_model_weights(folder: Path, architecture: Architecture, *, dtype: torch.dtype, device: torch.device) -> Any:
    """Build the model and stream the folder's weights into it.

    The model is built without memory; each of its tensors is allocated once, in its final dtype and place, when its
    first piece arrives. Peak memory is the weights and one tensor of the checkpoint.

    Args:
        dtype: of the weights in memory; every tensor is converted on the way.

    Raises:
        CheckpointError: a tensor is missing or of the wrong shape, or a file is missing or damaged. Nothing is
            read before all headers have been checked.

    Warns:
        UserWarning: tensors that the model has no use for, by name.
    """
    plan = plan_weights(folder, architecture)
    model, wanted, targets = plan.model, plan.wanted, plan.model.state_dict()
    if plan.unused:
        warnings.warn(
            f"{folder}: {len(plan.unused)} tensors are of no use to this model: {_some(plan.unused)}", stacklevel=2
        )

    filled: dict[str, Tensor] = {}
    work = [tensor for name, tensor in plan.stored.items() if name in wanted]
    total = sum(_size(tensor) for tensor in work)
    with tqdm(
        total=total, unit="B", unit_scale=True, desc="Loading", delay=BAR_AFTER_S, disable=None, leave=False
    ) as bar:
        for source, tensor in read_tensors(work):
            place = wanted[source.name]
            target = targets[place.ours]
            if place.ours not in filled:
                kept = dtype if target.is_floating_point() else target.dtype  # packed weights stay as they are
                filled[place.ours] = torch.empty(target.shape, dtype=kept, device=device)
            _rows(filled[place.ours], place).copy_(tensor)
            bar.update(_size(source))
    model.load_state_dict(filled, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def _name_of(place: Place, stored: Mapping[str, StoredTensor]) -> str:
    """The name under which the folder holds the tensor; the usual one if it holds none."""
    names = (place.theirs, *place.alternatives)
    return next((name for name in names if name in stored), place.theirs)


def _rows(tensor: Tensor, place: Place) -> Tensor:
    return tensor if place.rows is None else tensor[place.rows]


def _size(tensor: StoredTensor) -> int:
    return int(torch.Size(tensor.shape).numel()) * tensor.dtype.itemsize


def _check(folder: Path, stored: dict[str, StoredTensor], wanted: dict[str, Place], targets: dict[str, Tensor]) -> None:
    missing = [name for name in wanted if name not in stored]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of {len(wanted)} tensors: {_some(missing)}. "
            "The download is incomplete, or config.json belongs to another checkpoint"
        )
    for name, place in wanted.items():
        expected = tuple(_rows(targets[place.ours], place).shape)
        if stored[name].shape != expected:
            raise CheckpointError(
                f"{stored[name].file}: {name} has shape {list(stored[name].shape)}, config.json asks for "
                f"{list(expected)}; the two belong to different checkpoints"
            )
        target = targets[place.ours]
        if not target.is_floating_point():
            if stored[name].dtype != target.dtype:
                raise CheckpointError(
                    f"{stored[name].file}: {name} is stored as {stored[name].dtype}, config.json asks for "
                    f"weights packed as {target.dtype}; the two belong to different checkpoints"
                )
        elif not stored[name].dtype.is_floating_point:
            raise CheckpointError(
                f"{stored[name].file}: {name} is stored as {stored[name].dtype}, floating point is expected; "
                "a quantized checkpoint says so in config.json"
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def parameter_bytes(model: nn.Module) -> int:
    """Memory the weights take, in bytes."""
    return sum(p.numel() * p.element_size() for p in model.parameters())
