"""From bytes needed and bytes free to a table and a verdict. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .budget import DTYPES, Decoder, Picture, Weights, cache_bytes, contexts_of, needed_bytes, working_bytes
from .machine import Machine, Memory
from .report import Section

GIB, MIB = 2**30, 2**20
SHORTEST = 2048  # tokens: a context that a conversation should have at least


@dataclass(frozen=True)
class Place:
    """Where a model could be: `--device`'s name for it, in words, and the bytes free there."""

    device: str
    words: str
    free: int


def places_of(machine: Machine) -> list[Place]:
    """Where a model could be, the place that "auto" takes first. The CPU is the last."""
    found = [
        Place(device.name, f"{device.name} ({device.model})", (device.memory or Memory(0, 0)).free)
        for device in machine.devices
        if device.memory is not None
    ]
    if machine.memory is not None:
        found += [Place("mps", "Apple GPU", machine.memory.free) for device in machine.devices if device.name == "mps"]
        found.append(Place("cpu", "RAM", machine.memory.free))
    return found


def size(count: int) -> str:
    """Bytes in words: "17.5 GiB", "12.3 MiB"."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (1024, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def context_name(tokens: int) -> str:
    """131072 -> "128K"."""
    if tokens >= 2**20 and tokens % 2**20 == 0:
        return f"{tokens >> 20}M"
    return f"{tokens >> 10}K" if tokens >= 1024 and tokens % 1024 == 0 else str(tokens)


def memory_table(
    weights: Weights, decoder: Decoder, picture: Picture | None, places: list[Place]
) -> tuple[Section, dict[str, Any]]:
    """The table of memory by dtype and context, and the same as data (bytes)."""
    contexts = contexts_of(decoder)
    largest = max((place.free for place in places if place.device != "cpu"), default=0)
    ram = max((place.free for place in places if place.device == "cpu"), default=0)
    unit, name = (GIB, "GiB") if weights.bytes("bfloat16") >= GIB // 4 else (MIB, "MiB")
    lines = ["  " + f"{'':<12}" + "".join(f"{head:>10}" for head in ("weights", *map(context_name, contexts)))]
    data: dict[str, Any] = {}
    marks: set[str] = set()
    for dtype in DTYPES if not weights.packed else DTYPES[:2]:
        cells = [weights.bytes(dtype)] + [needed_bytes(weights, decoder, n, dtype) for n in contexts]
        shown = []
        for cell in cells:
            mark = " " if cell <= largest else "c" if cell <= ram and largest else " " if cell <= ram else "x"
            marks.add(mark)
            shown.append(f"{cell / unit:>9,.1f}{mark if places else ' '}")
        label = dtype if dtype != "bfloat16" else "bf16, fp16"
        lines.append(f"  {label:<12}{''.join(shown)}".rstrip())
        data[dtype] = {
            "weights": cells[0],
            "contexts": {
                str(n): {
                    "cache": cache_bytes(decoder, n, dtype),
                    "working": working_bytes(decoder, n, dtype),
                    "total": cell,
                }
                for n, cell in zip(contexts, cells[1:], strict=True)
            },
        }
    section = Section(f"Memory it needs ({name}), by dtype and context in tokens", lines=lines)
    if places:
        free = ", ".join(f"{size(place.free)} {_in(place)}" for place in places)
        section.lines.append(f"  Free here: {free}.")
    said = {"x": "x: more than is free.", "c": "c: fits in RAM (device cpu), not on the GPU."}
    section.lines += [f"  {said[mark]}" for mark in "cx" if mark in marks and places]
    section.lines.append("  With a context: weights, the cache of one conversation, working space (estimated).")
    if picture is not None:
        section.lines.append(
            f"  A picture takes {picture.tokens:,} of the tokens, and {size(picture.working)} more to look at it."
        )
        data["picture"] = {"tokens": picture.tokens, "working": picture.working}
    if not weights.packed:
        section.lines.append("  int8, int4: load_model(..., quantize=8 or 4), the rest in 16 bits.")
    return section, data


def _in(place: Place) -> str:
    return "in RAM" if place.device == "cpu" else f"on {place.words}"


def device_problem(machine: Machine, device: str) -> tuple[str, str] | None:
    """What to say where there is no such device; None where there is."""
    names = ["cpu", *(found.name for found in machine.devices)]
    if device == "auto" or any(name == device or name.startswith(f"{device}:") for name in names):
        return None
    return f"there is no device {device!r} that torch can use", f"here there are: {', '.join(names)}"


def memory_problem(
    weights: Weights, decoder: Decoder, places: list[Place], dtype: str, device: str
) -> tuple[str, str] | None:
    """What to say where the model does not fit in `dtype` on `device` ("auto": the first place); None where it does."""
    named = [place for place in places if device in ("auto", place.device)]
    chosen = named or [place for place in places if place.device.startswith(f"{device}:")]
    if not chosen:
        return None
    place = chosen[0]
    context = min(SHORTEST, decoder.max_positions)
    needed = needed_bytes(weights, decoder, context, dtype)
    if needed <= place.free:
        return None
    what = (
        f"it does not fit: in {dtype} with a context of {context_name(context)} it needs {size(needed)}, of "
        f"{size(place.free)} free {_in(place)}"
    )
    return what, "; ".join(_ways_to_fit(weights, decoder, places, dtype, place, context))


def _ways_to_fit(
    weights: Weights, decoder: Decoder, places: list[Place], dtype: str, place: Place, context: int
) -> list[str]:
    ways = []
    if dtype == "float32" and needed_bytes(weights, decoder, context, "bfloat16") <= place.free:
        ways.append('dtype="bfloat16" fits')
    if not weights.packed:
        fitting = [bits for bits in (8, 4) if needed_bytes(weights, decoder, context, f"int{bits}") <= place.free]
        if fitting:
            ways.append(f"quantized to {' or '.join(map(str, fitting))} bits it fits (quantize={fitting[0]})")
    needed = needed_bytes(weights, decoder, context, dtype)
    others = [other for other in places if other is not place]
    alone = next((other for other in others if needed <= other.free), None)
    if alone is not None:
        ways.append(f'device="{alone.device}" fits, {size(alone.free)} are free there')
    elif sum(other.free for other in places) >= needed * 1.1:
        ways.append('device_map="auto" spreads it over what there is')
    return ways or ['take a machine with more memory; or device_map="auto" keeps the rest on the disk, slowly']
