"""The doctor's visit: what was asked about, one look at everything, one report. Never raises."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from .advice import device_problem, memory_problem, memory_table, places_of, size
from .budget import ITEM_BYTES, Weights, decoder_of, picture_of
from .files import LARGEST, Listing, first_bytes, list_folder, read_object
from .identity import Identity, identify, no_model
from .loadable import Trial, try_loading
from .machine import Machine, installed, look_at_machine, transformers_notes
from .matching import LONGEST_TEXT, find_known_errors
from .report import Report, Section
from .weights import WeightFiles, find_weights, unfinished_downloads

_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
TEMPLATES = "additional_chat_templates"  # a folder whose *.jinja are read
MOST_TEMPLATES = 100
_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")


def examine(target: str | None = None, *, device: str = "auto", dtype: str = "auto") -> Report:
    """Look at what `target` names, and report.

    Args:
        target: a folder, a file in it, a hub id, or the text of an error message; None for this machine and the
            default model in the package.
        device, dtype: as `load_model` takes them: where, and in what, it would be loaded.
    """
    try:
        return _examine(target, device, dtype)
    except Exception as error:  # a fault of the doctor's own must not hide behind a traceback
        report = Report(str(target)[:200], verdict="The doctor itself failed; please report this.")
        report.problems.append((f"{type(error).__name__}: {error}"[:500], ""))
        return report


def examine_text(text: str, title: str = "an error message") -> Report:
    """Which known error messages a text holds. Imports no torch."""
    report = Report(title, data={"kind": "text"})
    matches = find_known_errors(text)
    for match in matches:
        rows = [("cause", match.error.cause), ("remedy", match.error.remedy)]
        if match.error.glm4:
            rows.append(("with glm4", match.error.glm4))
        report.sections.append(Section(match.message, rows))
    report.data["matches"] = [
        {"name": m.error.name, "message": m.message, "cause": m.error.cause, "remedy": m.error.remedy,
         "glm4": m.error.glm4}
        for m in matches
    ]  # fmt: skip
    versions = {name: installed(name) for name in ("glm4", "torch", "transformers")}
    report.data["versions"] = versions
    report.good = bool(matches)
    if not matches:
        report.verdict = "That is no message the doctor knows."
        report.problems.append(
            (
                "no known error message was found in the text" if text.strip() else "the text is empty",
                "paste the whole traceback, its last line above all: `glm4 doctor -` reads it from standard input. "
                "If it is about a model's folder, `glm4 doctor FOLDER` looks at that",
            )
        )
        return report
    here = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    report.verdict = f"Known. Installed here: {here}."
    return report


def _examine(target: str | None, device: str, dtype: str) -> Report:
    if target is None:
        from ..hub import DEFAULT_MODEL

        return _folder(DEFAULT_MODEL, "this machine, and the default model", device, dtype, whole_machine=True)
    path = _existing(target)
    if path is not None and os.path.isdir(path):
        return _folder(path, str(path), device, dtype)
    if path is not None:
        return _file(path, device, dtype)
    name = target.strip()
    if name in ("default", "default-vision"):
        from ..hub import resolve_folder

        return _folder(resolve_folder(name), name, device, dtype)
    if find_known_errors(target):
        return examine_text(target)
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return _hub(name, device, dtype)
    if _looks_like_path(name):
        report = Report(name, verdict="There is nothing to look at.", data={"kind": "nothing"})
        report.problems.append((f"there is no file or folder {name}", "check the spelling"))
        return report
    return examine_text(target)


def _existing(target: str) -> Path | None:
    """The file or folder of that name, if there is one."""
    try:
        path = os.path.expanduser(target)
        return Path(path) if os.path.lexists(path) else None
    except (OSError, ValueError):  # too long, or not a name at all
        return None


def _looks_like_path(name: str) -> bool:
    return (
        len(name) < 300
        and not re.search(r"\s", name)
        and bool(re.match(r"[./~\\]|[A-Za-z]:[\\/]", name) or "/" in name)
    )


def _file(path: Path, device: str, dtype: str) -> Report:
    """A file was named: the folder of a model's file, or a log with a message in it."""
    name = path.name.lower()
    if name.endswith(_WEIGHTS) or name.endswith(".json"):
        report = _folder(path.parent, str(path.parent), device, dtype)
        report.notes.insert(0, f"{path.name} is a file; this is about its folder.")
        return report
    start = first_bytes(path, LONGEST_TEXT)
    end = b""
    if len(start) == LONGEST_TEXT:
        with path.open("rb") as file:
            file.seek(-LONGEST_TEXT // 2, os.SEEK_END)
            end = file.read()
    return examine_text((start + end).decode("utf-8", errors="replace"), f"the text in {path}")


def _hub(name: str, device: str, dtype: str) -> Report:
    """A model on the hub: its small files are fetched, or taken from the cache; its weights never."""
    from ..errors import Glm4Error
    from ..hub import resolve_folder

    try:
        folder = resolve_folder(name, weights=False)
    except Glm4Error as error:
        report = Report(name, verdict="The model cannot be looked at.", data={"kind": "hub"})
        report.problems.append((str(error), ""))
        return report
    return _folder(folder, name, device, dtype, is_remote=True)


def _folder(
    folder: Path, title: str, device: str, dtype: str, *, whole_machine: bool = False, is_remote: bool = False
) -> Report:
    report = Report(title, data={"kind": "folder", "folder": str(folder)})
    listing = list_folder(folder)
    config, fault = read_object(listing, "config.json")
    if listing.fault:
        report.problems.append((listing.fault, "check the path and its permissions"))
    machine = look_at_machine()
    if config is None:
        _without_config(report, listing, fault)
        _machine_section(report, machine, whole_machine)
        return _conclude(report)
    files = find_weights(listing)
    if is_remote and files.absent and not files.size:
        files.problems = []
        report.notes.append("Its weights are not on this disk yet; loading downloads them.")
    elif is_remote and files.absent:
        files.problems = [pair for pair in files.problems if files.absent not in pair[0]]
        report.notes.append(f"{files.absent} are not on this disk yet; loading downloads them.")
    _odd_entries(report, listing, files)
    report.problems += files.problems
    report.notes += unfinished_downloads(listing)
    trial = _trial(report, machine, folder, files)
    identity = identify(config)
    _model_section(report, identity, config, listing, files, trial)
    missing_device = device_problem(machine, device)
    report.problems += [missing_device] if missing_device else []
    _machine_section(report, machine, whole_machine)
    _memory_section(report, config, files, trial, machine, device, dtype)
    _notes(report, identity, listing, trial)
    return _conclude(report)


def _without_config(report: Report, listing: Listing, fault: str) -> None:
    if fault:
        report.problems.append((fault, "download config.json again"))
        return
    if listing.fault:
        return
    adapter, _ = read_object(listing, "adapter_config.json")
    what = no_model(listing, adapter or {})
    report.sections.append(Section("What it is", [("folder", what.what)]))
    report.data["what"] = what.what
    report.problems.append((f"this is {what.what}", what.remedy))


def _odd_entries(report: Report, listing: Listing, files: WeightFiles) -> None:
    """Entries under names that loading reads, and that are not what such a file is."""
    for name, what in listing.odd.items():
        if name not in files.names and name.endswith((".json", ".model", ".jinja")):
            report.problems.append((f"{name} is {what}", "remove it, or put the checkpoint's own file there"))
    templates = list_folder(listing.folder / TEMPLATES)
    large = [name for name, count in templates.files.items() if count > LARGEST["chat_template.jinja"]]
    if templates.odd or large or len(templates.files) > MOST_TEMPLATES:
        what = "holds something else than a few chat templates"
        report.problems.append((f"{TEMPLATES} {what}", "remove it, or put the checkpoint's own there"))


def _trial(report: Report, machine: Machine, folder: Path, files: WeightFiles) -> Trial:
    """The library's own checks, where nothing found so far makes them pointless or unsafe."""
    is_safe = all(pair in files.problems for pair in report.problems)
    return try_loading(folder, files) if is_safe and not machine.faults else Trial()


def _model_section(
    report: Report, identity: Identity, config: dict[str, Any], listing: Listing, files: WeightFiles, trial: Trial
) -> None:
    decoder = decoder_of(config)
    count = trial.weights.count if trial.weights and not trial.weights.packed else files.parameters
    rows = [("model", ", ".join(filter(None, (identity.name, identity.layout))))]
    rows += [("", trait) for trait in identity.traits]
    stored = config.get("torch_dtype", config.get("dtype"))
    rows.append(
        ("size", ", ".join(filter(None, (
            _parameters(count), stored if isinstance(stored, str) else "",
            f"context {decoder.max_positions:,} tokens" if decoder else "",
        ))))
    )  # fmt: skip
    if files.names:
        rows.append(
            ("weights", f"{len(files.names)} file{'s' * (len(files.names) > 1)}, {files.kind}, {size(files.size)}")
        )
    else:
        rows.append(("weights", "none"))
    rows.append(("tokenizer", _tokenizer(listing, trial)))
    code = listing.ending(".py")
    if code:
        rows.append(("code", f"{len(code)} Python file{'s' * (len(code) > 1)}, which glm4 never runs"))
    report.sections.append(Section("What it is", [row for row in rows if row[1]]))
    report.data["model"] = {
        "name": identity.name, "layout": identity.layout, "traits": identity.traits, "parameters": count or None,
        "dtype": stored if isinstance(stored, str) else None, "context": decoder.max_positions if decoder else None,
        "weight_files": files.names, "weight_bytes": files.size, "tokenizer": _tokenizer(listing, trial),
    }  # fmt: skip


def _parameters(count: int) -> str:
    if not count:
        return ""
    return f"{count / 1e9:.1f} B parameters" if count >= 1e9 else f"{count / 1e6:.1f} M parameters"


def _tokenizer(listing: Listing, trial: Trial) -> str:
    if trial.no_tokenizer:
        return f"none, so that only token ids go in and out ({trial.no_tokenizer})"
    names = [name for name in ("ice_text.model", "tokenizer.model", "tokenizer.json") if name in listing.files]
    if not names:
        return "none, so that only token ids go in and out"
    return f"{names[0]}, {trial.tokenizer}" if trial.tokenizer else names[0]


def _machine_section(report: Report, machine: Machine, whole: bool) -> None:
    versions = machine.packages
    shown = [f"{name} {versions[name]}" for name in ("glm4", "torch", "transformers", "accelerate") if versions[name]]
    memory = machine.memory
    rows = [
        ("software", f"Python {machine.python}, {', '.join(shown)}"),
        ("processor", f"{machine.processor}, {machine.cores} core{'s' * (machine.cores > 1)}"
         + (f", {', '.join(machine.features)}" if machine.features else "")),
        ("memory", "unknown" if memory is None else f"{size(memory.free)} free of {size(memory.total)}"
         + (f" ({memory.limit})" if memory.limit else "")),
    ]  # fmt: skip
    rows += [
        (device.name, device.model
         + (f", {size(device.memory.free)} free of {size(device.memory.total)}" if device.memory else ""))
        for device in machine.devices
    ]  # fmt: skip
    if not machine.devices:
        rows.append(("GPU", "torch cannot be asked" if machine.torch_fault else "none that torch can use"))
    report.sections.append(Section("This machine", rows))
    report.problems += machine.faults
    report.notes += machine.notes
    if whole or report.data.get("model", {}).get("layout", "").startswith("original"):
        report.notes += transformers_notes(versions["transformers"])
    report.data["machine"] = {
        "python": machine.python, "system": machine.system, "packages": versions, "cores": machine.cores,
        "processor": machine.processor, "features": machine.features,
        "memory": None if memory is None else {"free": memory.free, "total": memory.total, "limit": memory.limit},
        "devices": [
            {"name": d.name, "model": d.model, "free": d.memory.free if d.memory else None,
             "total": d.memory.total if d.memory else None}
            for d in machine.devices
        ],
    }  # fmt: skip
    if whole and machine.system:
        rows.insert(0, ("system", machine.system))


def _memory_section(
    report: Report,
    config: dict[str, Any],
    files: WeightFiles,
    trial: Trial,
    machine: Machine,
    device: str,
    dtype: str,
) -> None:
    decoder = decoder_of(config)
    weights = trial.weights or _from_headers(files)
    if decoder is None or weights is None:
        return
    places = places_of(machine)
    table, report.data["memory"] = memory_table(weights, decoder, picture_of(config), places)
    report.sections.append(table)
    problem = memory_problem(weights, decoder, places, _dtype(config) if dtype == "auto" else dtype, device)
    if problem is not None:
        report.problems.append(problem)
        report.data["fits"] = False
    elif places:
        report.data["fits"] = True


def _dtype(config: dict[str, Any]) -> str:
    """What load_model takes by itself: the checkpoint's own, or bfloat16."""
    stored = config.get("torch_dtype", config.get("dtype"))
    return stored if isinstance(stored, str) and stored in ITEM_BYTES else "bfloat16"


def _from_headers(files: WeightFiles) -> Weights | None:
    """Numbers of weights as the files' headers have them: all that is known without torch. Two-dimensional weights of
    layers are taken for linear ones."""
    if not files.parameters or any(dtype in ("I8", "U8", "I32") for dtype, _ in files.tensors.values()):
        return None
    linear = [
        shape
        for name, (_, shape) in files.tensors.items()
        if len(shape) == 2 and ".layers." in name and "vis" not in name
    ]
    count = sum(rows * columns for rows, columns in linear)
    return Weights(count, sum(shape[0] for shape in linear), files.parameters - count)


def _notes(report: Report, identity: Identity, listing: Listing, trial: Trial) -> None:
    report.problems += trial.problems
    report.notes += trial.notes
    if trial.is_base or (trial.is_base is None and identity.is_base):
        report.notes.append("A base model continues text and was not trained to chat; the -chat versions were.")
    if "adapter_config.json" in listing.files:
        report.notes.append("There is a LoRA adapter beside the model, which loading leaves alone.")
    if listing.truncated:
        report.notes.append("The folder has so many entries that not all were looked at.")


def _conclude(report: Report) -> Report:
    report.good = not report.problems
    report.verdict = "It will load here." if report.good else "It will not load here:"
    report.data["will_load"] = report.good
    return report
