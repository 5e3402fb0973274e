"""What of a model is placed as a whole.

Only lists of layers are taken apart, and the modules that hold such a list: the model, and a vision tower. Each layer,
and everything else beside a list (an embedding, a norm, an adapter), is one part, whatever is inside it. A tensor that
a module with a list holds itself, such as a class token, is no part: it is small, and stays where that module computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Part:
    """A module that is placed as a whole.

    Attributes:
        name: in the model, dotted.
        parent: name of the module with a list that it belongs to; "" is the model.
        passes_on: what it gives back goes on to the next layer of its list, and not to the parent.
    """

    name: str
    module: nn.Module
    parent: str
    passes_on: bool


def parts_of(model: nn.Module) -> dict[str, Part]:
    """Every part by name, in the order in which the model defines them."""
    return {part.name: part for part in _parts(model, "")}


def holders_of(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that hold a list of layers, "" (the model itself) first."""
    return {name: module for name, module in model.named_modules() if name == "" or _is_holder(module)}


def own_tensors(module: nn.Module) -> set[str]:
    """Names of the tensors that a module holds itself."""
    return {name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))}


def _is_holder(module: nn.Module) -> bool:
    """Whether there is a list of layers in it, and it is none itself; lists inside a layer do not count."""
    if isinstance(module, nn.ModuleList):
        return False
    return any(isinstance(child, nn.ModuleList) or _is_holder(child) for child in module.children())


def _parts(holder: nn.Module, name: str) -> Iterator[Part]:
    for child_name, child in holder.named_children():
        full = f"{name}.{child_name}" if name else child_name
        if isinstance(child, nn.ModuleList):
            for index, layer in enumerate(child):
                yield Part(f"{full}.{index}", layer, name, passes_on=index + 1 < len(child))
        elif _is_holder(child):
            yield from _parts(child, full)
        elif any(True for _ in child.parameters()) or any(True for _ in child.buffers()):
            yield Part(full, child, name, passes_on=False)
