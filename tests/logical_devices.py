"""GPUs that are none: tensors that say they are on "cuda:0" or "cuda:1", hold their numbers in the CPU's memory, and
refuse to be computed with across devices, as real ones do. Nothing here is a test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")
BETWEEN_DEVICES = (Tensor.to, Tensor.copy_, Tensor.cpu, Tensor.__setitem__)
DEVICES = {torch.device("cuda", 0), torch.device("cuda", 1)}


class OnLogical(Tensor):
    """A tensor of a logical device."""

    logical: torch.device

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where it claims to be."""
        return self.logical

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            return _run(func, args, kwargs or {})


class LogicalGenerator(torch.Generator):
    """The CPU's, on whatever device it is asked for."""

    def __new__(cls, device: Any = "cpu") -> LogicalGenerator:
        return super().__new__(cls, "cpu")


class LogicalDevices(TorchFunctionMode):
    """Within it, tensors can be made on and moved to the logical devices."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute on the CPU what is asked of a logical device, if all that takes part is there."""
    given = [*_tensors(args), *_tensors(kwargs.values())]
    places = {value.device for value in given if value.ndim}  # a number goes along with anything
    if len(places) > 1 and func not in BETWEEN_DEVICES:
        raise RuntimeError(f"{func} of tensors on {', '.join(sorted(map(str, places)))}")
    place = given[0].device if given else CPU
    if func is Tensor.cpu:
        place = CPU
    elif func is Tensor.to and len(args) > 1 and isinstance(args[1], Tensor):
        place = args[1].device
    elif func is Tensor.to:
        args, place = _asked_to(args, place)
    elif kwargs.get("device") is not None:
        place = _device(kwargs["device"])
        kwargs = {**kwargs, "device": CPU if place in DEVICES else place}
    out = func(*args, **kwargs)
    if given and out is given[0]:  # changed in place, or moved from the CPU's memory to the CPU's memory
        return out if place == out.device else _claimed(out.clone(), place)
    if isinstance(out, Tensor):
        return _claimed(out, place)
    if isinstance(out, (tuple, list)) and any(isinstance(value, Tensor) for value in out):
        return tuple(_claimed(value, place) for value in out)
    return out


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _asked_to(args: Any, place: torch.device) -> tuple[Any, torch.device]:
    """Tensor.to's arguments for a CPU, and the device they name."""
    named = [value for value in args[1:] if isinstance(value, (str, int, torch.device)) and not isinstance(value, bool)]
    if not named:
        return args, place
    place = _device(named[0])
    return tuple((CPU if place in DEVICES else place) if value is named[0] else value for value in args), place


def _device(named: Any) -> torch.device:
    device = torch.device("cuda", named) if isinstance(named, int) else torch.device(named)
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
        if device not in DEVICES:
            raise RuntimeError(f"{device} is not there")
    return device


def _claimed(tensor: Tensor, place: torch.device) -> Tensor:
    if place not in DEVICES:
        return tensor.as_subclass(Tensor)
    claimed: OnLogical = tensor.as_subclass(OnLogical)
    claimed.logical = place
    return claimed
