"""From what a caller asked for to a device for every part of a model."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from .devices import one_device
from .parts import Part, holders_of, own_tensors, parts_of

STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
DISK = "disk"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Spot:
    """Where a part's weights wait, and where it computes. The two differ for what is offloaded."""

    kept: torch.device | str
    """A device, or "disk"."""
    runs_on: torch.device

    @property
    def is_offloaded(self) -> bool:
        """Whether the weights are brought to the device for each use."""
        return self.kept != self.runs_on


@dataclass(frozen=True)
class Plan:
    """A spot for every part of a model.

    Attributes:
        main: where ids go in and logits come out, and where offloaded parts compute.
        spots: by the part's name.
        holders: where each module with a list of layers computes what it computes itself, by its name.
    """

    main: torch.device
    spots: Mapping[str, Spot]
    holders: Mapping[str, torch.device]

    def kept(self, tensor: str) -> torch.device | str:
        """Where a tensor of the model is kept, by its name in the state dict."""
        name = tensor
        while name:
            name = name.rpartition(".")[0]
            if name in self.spots:
                return self.spots[name].kept
            if name in self.holders:
                return self.holders[name]
        return self.main

    @property
    def is_spread(self) -> bool:
        """Whether anything has to be moved while the model computes."""
        return any(spot.is_offloaded or spot.runs_on != self.main for spot in self.spots.values())


@dataclass(frozen=True)
class DeviceMap:
    """How a caller wants a model spread over devices.

    Attributes:
        wanted: "auto", "balanced", "balanced_low_0" or "sequential", as accelerate understands them; or a device for
            each part by name, where a name stands for everything inside it and "" for all the rest.
        max_memory: bytes, or text such as "20GB", for each device that may be used; by default what is there.
        offload_folder: where weights go that are to be on the disk, and are not there already as they are needed.

    Raises:
        InputError: none of the above, two that exclude each other, or accelerate is not installed. Whether names and
            devices exist is seen by `plan_placement`.
    """

    wanted: Any
    max_memory: Any = None
    offload_folder: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.wanted, Mapping) and self.wanted not in STRATEGIES:
            known = ", ".join(f'"{name}"' for name in STRATEGIES)
            raise InputError(
                f"device_map is {self.wanted!r}; pass {known}, or a device for each module by name, such as "
                '{"": "cuda:0"}'
            )
        if isinstance(self.wanted, Mapping) and self.max_memory is not None:
            raise InputError(
                "max_memory is given beside a device_map that says where everything goes; pass one of them"
            )
        if self.offload_folder is not None and not isinstance(self.offload_folder, (str, os.PathLike)):
            raise InputError(f"offload_folder is {self.offload_folder!r}; pass the path of a folder")
        if find_spec("accelerate") is None:
            raise InputError('device_map needs the package accelerate; run: pip install "accelerate>=1.0"')


def everything_on(model: nn.Module, device: torch.device) -> Plan:
    """The whole model on one device."""
    spots = {name: Spot(device, device) for name in parts_of(model)}
    return Plan(device, spots, dict.fromkeys(holders_of(model), device))


def plan_placement(model: nn.Module, device_map: DeviceMap, *, dtype: torch.dtype) -> Plan:
    """Decide where the parts of a model go.

    Args:
        model: may be without memory (on torch's meta device).
        dtype: the floating-point weights' when they are loaded.

    Raises:
        InputError: names that the model does not have or that are inside a part, parts without a device, devices that
            this machine does not have, amounts of memory that are none.
    """
    parts = parts_of(model)
    chosen = device_map.wanted
    if not isinstance(chosen, Mapping):
        chosen = _computed(model, parts, chosen, device_map.max_memory, dtype)
    wanted = _by_part(parts, _checked(parts, chosen))
    main = _main_device(list(wanted.values()))
    spots = {name: _spot(part, wanted[name], main) for name, part in parts.items()}
    return Plan(main, spots, {name: _holder_device(name, parts, spots, main) for name in holders_of(model)})


def _computed(
    model: nn.Module, parts: Mapping[str, Part], strategy: str, max_memory: object, dtype: torch.dtype
) -> dict[str, Any]:
    """accelerate's device map."""
    from accelerate import utils

    memory = None if max_memory is None else _amounts(max_memory, utils.convert_file_size_to_int)
    whole = sorted({type(part.module).__name__ for part in parts.values()})
    if strategy == "sequential":
        memory = utils.get_max_memory(memory)
    else:
        memory = utils.get_balanced_memory(model, memory, whole, dtype=dtype, low_zero=strategy == "balanced_low_0")
    found = utils.infer_auto_device_map(model, memory, whole, dtype=dtype, offload_buffers=True)
    loose = {f"{name}.{own}" if name else own for name, held in holders_of(model).items() for own in own_tensors(held)}
    return {name: device for name, device in found.items() if name not in loose}


def _amounts(max_memory: object, to_bytes: Callable[[str], int]) -> dict[int | str, int]:
    """`max_memory` as accelerate wants it: accelerators by number, and they must be there."""
    if not isinstance(max_memory, Mapping) or not max_memory:
        raise InputError(f'max_memory is {max_memory!r}; pass an amount for each device, such as {{0: "20GB"}}')
    amounts: dict[int | str, int] = {}
    for key, amount in max_memory.items():
        device = DISK if key == DISK else one_device(key)
        try:
            n_bytes = to_bytes(amount) if isinstance(amount, str) else amount
        except ValueError:
            n_bytes = None
        if not isinstance(n_bytes, int) or isinstance(n_bytes, bool) or n_bytes < 0:
            raise InputError(f'max_memory for {key!r} is {amount!r}; pass a number of bytes, or text such as "20GB"')
        if isinstance(device, torch.device):
            amounts[device.type if device.type in ("cpu", "mps") else device.index or 0] = n_bytes
        else:
            amounts[DISK] = n_bytes
    return amounts


def _checked(parts: Mapping[str, Part], device_map: Mapping[Any, Any]) -> dict[str, torch.device | str]:
    """The map with every name known and every device there."""
    known = {""} | {name[:end] for name in parts for end in range(1, len(name) + 1) if name[end : end + 1] in ("", ".")}
    checked: dict[str, torch.device | str] = {}
    for name, device in device_map.items():
        if name not in known:
            raise InputError(_unknown_name(name, parts, known))
        if device is None or device == "auto":
            raise InputError(f'device_map gives {name!r} the device {device!r}; name one, such as "cpu", 0 or "disk"')
        checked[name] = DISK if device == DISK else one_device(device)
    return checked


def _unknown_name(name: object, parts: Mapping[str, Part], known: set[str]) -> str:
    inside = next((part for part in parts if isinstance(name, str) and name.startswith(part + ".")), None)
    if inside is not None:
        return f"device_map names {name!r}; {inside!r} is placed as a whole, give that a device"
    near = difflib.get_close_matches(str(name), sorted(known - {""}), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {_some(sorted({part.split('.')[0] for part in parts}))}"
    return f"device_map names {name!r}, which this model does not have; {hint}"


def _by_part(parts: Mapping[str, Part], device_map: Mapping[str, torch.device | str]) -> dict[str, torch.device | str]:
    """For each part the device of the longest name that covers it."""
    found: dict[str, torch.device | str] = {}
    missing = []
    for part in parts:
        name = part
        while name and name not in device_map:
            name = name.rpartition(".")[0]
        if name in device_map:
            found[part] = device_map[name]
        else:
            missing.append(part)
    if missing:
        raise InputError(
            f'device_map has no device for {_some(missing)}; add them, or "" with the device of everything that is not '
            "named"
        )
    return found


def _main_device(wanted: list[torch.device | str]) -> torch.device:
    """The first part's, which takes the ids; where that is offloaded, the first accelerator's; the CPU without one."""
    return next((device for device in wanted if isinstance(device, torch.device) and device != CPU), CPU)


def _spot(part: Part, device: torch.device | str, main: torch.device) -> Spot:
    """An offloaded part computes on the main device. But an embedding is looked up where it is: a few rows cross
    instead of the whole table, and of a table on the disk only those rows are read."""
    if isinstance(device, torch.device) and device != CPU:
        return Spot(device, device)
    return Spot(device, CPU if isinstance(part.module, nn.Embedding) else main)


def _holder_device(name: str, parts: Mapping[str, Part], spots: Mapping[str, Spot], main: torch.device) -> torch.device:
    """Where a tower computes what it computes itself: with its first part."""
    return main if name == "" else next(spots[part.name].runs_on for part in parts.values() if part.parent == name)


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
