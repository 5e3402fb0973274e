"""Fill a model with a checkpoint's weights, tensor by tensor."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import CheckpointError, ConfigError, InputError
from ..placement import DISK, DeviceMap, everything_on, plan_placement
from ..quant import pack, pack_linears
from .architecture import Architecture
from .family import Family, Place
from .files import StoredTensor, read_tensors, stored_tensors
from .offload import DiskWeights

BAR_AFTER_S = 1.0  # a load shorter than this shows no progress bar


@dataclass(frozen=True)
class WeightPlan:
    """What would be read and where it would go: all that can be known before the first weight is.

    Attributes:
        model: without memory (on torch's meta device).
        stored: the folder's tensors by name.
        wanted: those that the model takes, by the name under which they are stored.
        unused: the others' names, as far as they are not known to be harmless.
        packing: the model's weights that are to be packed when they arrive, and into how many bits.
    """

    model: Any
    stored: dict[str, StoredTensor]
    wanted: dict[str, Place]
    unused: list[str]
    packing: dict[str, int] = field(default_factory=dict)


def plan_weights(folder: Path, architecture: Architecture, quantize: int | None = None) -> WeightPlan:
    """Check the folder's weights against the model that config.json describes, from the files' headers alone.

    Args:
        quantize: bits to pack the linear layers of the model's blocks into, 4 or 8; None leaves them as they are.

    Raises:
        CheckpointError: a tensor is missing or of the wrong shape, or a file is missing or damaged.
        ConfigError: the model is too large to exist; it is to be quantized, and the checkpoint is so already.
        InputError: bits other than 4 and 8, or that do not suit the weights' sizes.
    """
    family, config = architecture.family, architecture.config
    stored = stored_tensors(folder)
    if family.fit is not None:
        config = family.fit(config, {name: tensor.shape for name, tensor in stored.items()})
    model = build_empty(folder, family, config)
    wanted = {_name_of(place, stored): place for place in family.places(config)}
    _check(folder, stored, wanted, model.state_dict())
    unused = [name for name in stored if name not in wanted and not family.harmless(config, name)]
    packed = {} if quantize is None else pack_linears(model, quantize)
    return WeightPlan(model, stored, wanted, unused, {f"{name}.weight": layer.bits for name, layer in packed.items()})


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


def load_model_weights(
    folder: Path,
    architecture: Architecture,
    *,
    dtype: torch.dtype,
    device: torch.device | DeviceMap,
    quantize: int | None = None,
) -> Any:
    """Build the model and stream the folder's weights into it.

    The model is built without memory; each of its tensors is allocated once, in its final dtype and place, when its
    first piece arrives. Peak memory is the weights and one tensor of the checkpoint; on the disk's behalf, one tensor
    of the model.

    Args:
        dtype: of the weights in memory; every tensor is converted on the way.
        device: where they go, all of them or each part of the model.
        quantize: bits to pack the linear layers of the model's blocks into, 4 or 8, each as soon as it is read; None
            leaves them as they are.

    Raises:
        CheckpointError: a tensor is missing or of the wrong shape, or a file is missing or damaged. Nothing is
            read before all headers have been checked.
        ConfigError: the model is to be quantized, and the checkpoint is so already.
        InputError: a device map that does not suit the model; no room on the disk for what it puts there; bits other
            than 4 and 8.

    Warns:
        UserWarning: tensors that the model has no use for, by name.
    """
    plan = plan_weights(folder, architecture, quantize)
    model, wanted, targets = plan.model, plan.wanted, plan.model.state_dict()
    if plan.unused:
        warnings.warn(
            f"{folder}: {len(plan.unused)} tensors are of no use to this model: {_some(plan.unused)}", stacklevel=2
        )

    if isinstance(device, DeviceMap):
        placement, disk = plan_placement(model, device, dtype=dtype), DiskWeights(device.offload_folder)
    else:
        placement, disk = everything_on(model, device), DiskWeights(None)
    kept = {name: placement.kept(name) for name in targets}
    work = [tensor for name, tensor in plan.stored.items() if name in wanted]
    in_memory = [tensor for tensor in work if kept[wanted[tensor.name].ours] != DISK]
    on_disk: dict[str, list[StoredTensor]] = {}  # the pieces of each target
    for tensor in work:
        if kept[wanted[tensor.name].ours] == DISK:
            on_disk.setdefault(wanted[tensor.name].ours, []).append(tensor)
    total = sum(_size(tensor) for tensor in work)
    bar = tqdm(total=total, unit="B", unit_scale=True, desc="Loading", delay=BAR_AFTER_S, disable=None, leave=False)
    with bar, disk:
        fill = _Filler(wanted, targets, plan.packing, dtype, bar)
        fill.keep_on_disk(on_disk, disk)
        filled = fill(in_memory, kept)
    for name in (made for target in on_disk for made in fill.names(target)):
        filled[name] = torch.empty(targets[name].shape, dtype=fill.dtype_of(name), device="meta")
    model.load_state_dict(filled, strict=True, assign=True)
    model.requires_grad_(False).eval()
    if placement.is_spread:
        from ..placement.hooks import attach  # needs accelerate

        attach(model, placement, disk)
    return model


@dataclass
class _Filler:
    """Makes the model's tensors out of the stored ones."""

    wanted: Mapping[str, Place]
    targets: Mapping[str, Tensor]
    packing: Mapping[str, int]
    dtype: torch.dtype
    bar: Any

    def dtype_of(self, name: str) -> torch.dtype:
        """What a tensor of the model is held in: what was built in anything but float32, such as packed weights and
        their scales, stays as it is."""
        return self.dtype if self.targets[name].dtype == torch.float32 else self.targets[name].dtype

    def names(self, name: str) -> tuple[str, ...]:
        """What is made of the stored tensors for one of the model: itself, and if it is packed its scales."""
        return (name, f"{name}_scale") if name in self.packing else (name,)

    def __call__(self, pieces: list[StoredTensor], where: Mapping[str, torch.device | str]) -> dict[str, Tensor]:
        """The tensors that the pieces make up, by name in the model, each allocated where it is to be."""
        filled: dict[str, Tensor] = {}
        for source, tensor in read_tensors(pieces):
            place = self.wanted[source.name]
            for name, part in zip(self.names(place.ours), self._parts(source, tensor, place, where), strict=True):
                if name not in filled:
                    shape = self.targets[name].shape
                    filled[name] = torch.empty(shape, dtype=self.dtype_of(name), device=where[name])
                _rows(filled[name], place).copy_(part)
            self.bar.update(_size(source))
        return filled

    def _parts(
        self, source: StoredTensor, tensor: Tensor, place: Place, where: Mapping[str, torch.device | str]
    ) -> tuple[Tensor, ...]:
        """A stored tensor as what `names` says."""
        if place.through is not None and tensor.is_floating_point():
            tensor = tensor.to(place.through)
        if place.ours not in self.packing:
            return (tensor,)
        try:
            return pack(tensor.to(where[place.ours]), self.packing[place.ours])
        except InputError as error:
            raise CheckpointError(f"{source.file}: {source.name}: {error}") from error

    def keep_on_disk(self, on_disk: Mapping[str, list[StoredTensor]], disk: DiskWeights) -> None:
        """Write each target of the disk as soon as it is whole, unless the checkpoint's own file will do."""
        other = {name: pieces for name, pieces in on_disk.items() if not self._is_as_stored(name, pieces)}
        if other:
            written = [made for name in other for made in self.names(name)]
            disk.make_room(sum(self.targets[name].numel() * self.dtype_of(name).itemsize for name in written))
        for name, pieces in on_disk.items():
            if name in other:
                for made, tensor in self(pieces, dict.fromkeys(self.names(name), "cpu")).items():
                    disk.write(made, tensor)
            else:
                disk.refer(name, pieces[0])
                self.bar.update(_size(pieces[0]))

    def _is_as_stored(self, name: str, pieces: list[StoredTensor]) -> bool:
        place, stored = self.wanted[pieces[0].name], pieces[0]
        whole = len(pieces) == 1 and place.rows is None and place.through in (None, stored.dtype)
        return whole and stored.dtype == self.dtype_of(name) and stored.file.suffix == ".safetensors"


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
    return sum(t.numel() * t.element_size() for t in model.state_dict().values())
