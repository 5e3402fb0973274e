"""What lies where, for people to read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn

from .parts import holders_of, own_tensors, parts_of

UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "KB"))


@dataclass(frozen=True)
class Row:
    """One part, or a tensor that belongs to none.

    Attributes:
        name: in the model.
        kept_on: the device its weights wait on, or "disk".
        computes_on: the device it computes on; another one than `kept_on` where it is offloaded.
        n_bytes: of weights. What is tied counts where it comes first.
    """

    name: str
    kept_on: str
    computes_on: str
    n_bytes: int


@dataclass(frozen=True)
class Placement:
    """Which part of a model lies where. Printed, it is a table, with layers that lie alike in one line."""

    rows: tuple[Row, ...]

    @property
    def bytes_on(self) -> dict[str, int]:
        """Bytes of weights on each device, and on the "disk"."""
        totals: dict[str, int] = {}
        for row in self.rows:
            totals[row.kept_on] = totals.get(row.kept_on, 0) + row.n_bytes
        return totals

    def __str__(self) -> str:
        lines = [("module", "kept on", "computes on", "size")]
        lines += [(row.name, row.kept_on, row.computes_on, _size(row.n_bytes)) for row in _folded(self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        shown = ["  ".join((*map(str.ljust, line[:3], widths), line[3].rjust(widths[3]))) for line in lines]
        return "\n".join(
            [*shown, "in all: " + ", ".join(f"{_size(n)} on {where}" for where, n in self.bytes_on.items())]
        )


def placement_of(model: nn.Module) -> Placement:
    """The placement of a loaded model."""
    return Placement(tuple(_rows(model)))


def _rows(model: nn.Module) -> Iterator[Row]:
    counted: set[int] = set()
    for name, holder in holders_of(model).items():
        for tensor_name in sorted(own_tensors(holder)):
            tensor = getattr(holder, tensor_name)
            device = str(tensor.device)
            yield Row(f"{name}.{tensor_name}" if name else tensor_name, device, device, _bytes([tensor], counted))
    for name, part in parts_of(model).items():
        tensors = [*part.module.parameters(), *part.module.buffers()]
        spot = getattr(getattr(part.module, "_hf_hook", None), "spot", None)
        kept_on, computes_on = (spot.kept, spot.runs_on) if spot is not None else (tensors[0].device,) * 2
        yield Row(name, str(kept_on), str(computes_on), _bytes(tensors, counted))


def _bytes(tensors: list[Tensor], counted: set[int]) -> int:
    new = [tensor for tensor in tensors if id(tensor) not in counted]
    counted.update(map(id, new))
    return sum(tensor.numel() * tensor.element_size() for tensor in new)


def _folded(rows: tuple[Row, ...]) -> list[Row]:
    """Consecutive layers of one list that lie alike, as one row: "layers.3-17"."""
    folded: list[Row] = []
    for row in rows:
        last = folded[-1] if folded else None
        here, before = _numbered(row.name), _numbered(last.name) if last is not None else None
        alike = last is not None and (last.kept_on, last.computes_on) == (row.kept_on, row.computes_on)
        if last is not None and alike and here and before and (before[0], before[2] + 1) == (here[0], here[1]):
            name = f"{here[0]}{before[1]}-{here[2]}"
            folded[-1] = replace(last, name=name, n_bytes=last.n_bytes + row.n_bytes)
        else:
            folded.append(row)
    return folded


def _numbered(name: str) -> tuple[str, int, int] | None:
    """("layers.", 3, 17) of "layers.3-17", ("layers.", 3, 3) of "layers.3"; None of any other name."""
    found = re.fullmatch(r"(.*\.)(\d+)(?:-(\d+))?", name)
    return (found[1], int(found[2]), int(found[3] or found[2])) if found else None


def _size(n_bytes: int) -> str:
    unit, name = next((pair for pair in UNITS if n_bytes >= pair[0]), (1, "B"))
    return f"{n_bytes / unit:.3g} {name}" if n_bytes < 1000 * unit else f"{n_bytes / unit:,.0f} {name}"
