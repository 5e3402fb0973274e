"""What makes a model that is spread over devices compute: accelerate's hooks around its parts.

A part is called with tensors from anywhere: they are moved to it. What it gives back is moved to the module that called
it, except between the layers of one list, where it is passed on. So each module with a list does its own arithmetic on
one device, and no family's code knows that there are several.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import Tensor, nn

from .parts import holders_of, parts_of
from .plan import Plan, Spot

ALIGNMENT = 64  # bytes; what torch gives tensors of its own on the CPU


class Crossings:
    """Copies of what all layers are given, such as the rotary angles and the mask, so that they cross to a device once
    in a forward pass instead of once a layer."""

    def __init__(self) -> None:
        self._copies: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}
        self._in_forward = False

    def begin(self) -> None:
        """A forward pass of the whole model begins. What an interrupted one left is forgotten."""
        self._copies.clear()
        self._in_forward = True

    def end(self) -> None:
        """It is over."""
        self._copies.clear()
        self._in_forward = False

    def shared(self, tensor: Tensor, device: torch.device) -> Tensor:
        """The tensor on the device."""
        if tensor.device == device or not self._in_forward:
            return tensor.to(device)
        key = id(tensor), device
        if key not in self._copies:
            self._copies[key] = tensor, tensor.to(device)  # the tensor too: its id is its own as long as it lives
        return self._copies[key][1]


class PartHook(ModelHook):  # type: ignore[misc]  # accelerate has no types
    """Around one part, or around a tower.

    Args:
        spot: of the part.
        returns_to: where its result is wanted; None to leave it.
        weights: what the disk and the CPU keep, by name in the model; None where nothing is offloaded.
        name: the part's in the model.
    """

    def __init__(
        self,
        spot: Spot,
        returns_to: torch.device | None,
        crossings: Crossings,
        weights: Mapping[str, Tensor] | None = None,
        name: str = "",
    ) -> None:
        self.spot, self.returns_to, self._crossings = spot, returns_to, crossings
        self.execution_device = spot.runs_on  # accelerate's own name for it, which others look for
        self._weights, self._name = weights, name
        self._slots: list[tuple[dict[str, Any], str, str, Any]] = []

    def init_hook(self, module: nn.Module) -> nn.Module:
        """Note where the tensors belong, and what stands there (on the meta device) while they are away."""
        if self._weights is not None:
            for prefix, owner in module.named_modules(remove_duplicate=False):
                for held in (owner._parameters, owner._buffers):
                    names = {slot: ".".join(filter(None, (self._name, prefix, slot))) for slot in held}
                    self._slots += [(held, slot, names[slot], held[slot]) for slot in held if held[slot] is not None]
        return module

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Bring the weights and the arguments to where the part computes."""
        is_lookup = isinstance(module, nn.Embedding) and bool(args) and not args[0].is_floating_point()
        for held, slot, name, away in self._slots:
            assert self._weights is not None
            tensor = _usable(self._weights[name], self.spot.runs_on, is_lookup)
            held[slot] = nn.Parameter(tensor, requires_grad=False) if isinstance(away, nn.Parameter) else tensor
        first = tuple(_moved(arg, self.spot.runs_on, None) for arg in args[:1])  # the hidden states: new in each layer
        rest, kwargs = _moved((args[1:], kwargs), self.spot.runs_on, self._crossings)
        return first + rest, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        """Let go of the weights, and send the result to where it is wanted."""
        for held, slot, _, away in self._slots:
            held[slot] = away
        return output if self.returns_to is None else _moved(output, self.returns_to, None)


class ModelRootHook(ModelHook):  # type: ignore[misc]
    """Around the whole model: where its own arithmetic is done, and when a forward pass begins and ends."""

    def __init__(self, device: torch.device, crossings: Crossings) -> None:
        self.execution_device, self._crossings = device, crossings

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Bring the arguments to the main device."""
        self._crossings.begin()
        moved: tuple[Any, Any] = _moved((args, kwargs), self.execution_device, None)
        return moved

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        """The result is already there: the last part returned it."""
        self._crossings.end()
        return output


def attach(model: nn.Module, plan: Plan, on_disk: Mapping[str, Tensor]) -> None:
    """Put the hooks around a model whose tensors lie where the plan keeps them; those of the disk are on torch's meta
    device, and `on_disk` reads them by name."""
    crossings = Crossings()
    parts = parts_of(model)
    on_cpu: dict[str, Tensor] = {}
    for name, part in parts.items():
        spot = plan.spots[name]
        parent = plan.holders[part.parent]
        returns_to = None if part.passes_on else parent
        weights = None
        if spot.is_offloaded:
            on_cpu.update(_taken_out(part.module, name))
            weights = ChainMap(on_cpu, on_disk)  # type: ignore[arg-type]  # it is only read
        add_hook_to_module(part.module, PartHook(spot, returns_to, crossings, weights, name))
    for name, holder in holders_of(model).items():
        device = plan.holders[name]
        if name:
            parent = plan.holders[_holder_above(name, plan)]
            add_hook_to_module(holder, PartHook(Spot(device, device), parent, crossings))
        else:
            add_hook_to_module(holder, ModelRootHook(device, crossings))


def _holder_above(name: str, plan: Plan) -> str:
    name = name.rpartition(".")[0]
    while name not in plan.holders:
        name = name.rpartition(".")[0]
    return name


def _taken_out(module: nn.Module, name: str) -> dict[str, Tensor]:
    """A part's tensors that have memory, by name in the model; what stands in their place has none."""
    taken = {}
    for prefix, owner in module.named_modules(remove_duplicate=False):
        for held in (owner._parameters, owner._buffers):
            for slot, tensor in held.items():
                if tensor is not None and not tensor.is_meta:
                    taken[".".join(filter(None, (name, prefix, slot)))] = tensor.detach()
                    away = torch.empty_like(tensor, device="meta")
                    held[slot] = nn.Parameter(away, requires_grad=False) if isinstance(tensor, nn.Parameter) else away
    return taken


def _usable(tensor: Tensor, device: torch.device, is_lookup: bool) -> Tensor:
    """A stored tensor where it is computed with.

    On the CPU a mapped file's could be used where it is, but files align to 8 bytes, and a product's last bits depend
    on the alignment: it is copied, except for a lookup, which only reads the rows it needs.
    """
    if device.type != "cpu":
        return tensor.to(device)
    return tensor if is_lookup or tensor.data_ptr() % ALIGNMENT == 0 else tensor.clone()


def _moved(value: Any, device: torch.device, crossings: Crossings | None) -> Any:
    """Every tensor in nested tuples, lists and dictionaries on the device; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device) if crossings is None else crossings.shared(value, device)
    if isinstance(value, (tuple, list)):
        return type(value)(_moved(item, device, crossings) for item in value)
    if isinstance(value, dict):
        return {key: _moved(item, device, crossings) for key, item in value.items()}
    return value
