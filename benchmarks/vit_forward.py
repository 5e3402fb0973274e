"""How long GLM-4V-9B's tower takes for one picture of its real size: 1120 pixels, 63 layers, random weights, bfloat16.

    python benchmarks/vit_forward.py [--layers 63] [--repeat 3] [--threads N] [--device cpu] [--out benchmarks/results]

The weights take 9.0 GB at 63 layers, the forward pass about half a gigabyte more. What the weights are changes
nothing in the time, so one layer is drawn at random and the others are copies of it, each in its own memory. Writes
vit_forward.json and vit_forward.md into --out, replacing what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glm4.models.eva_clip import EVACLIP, EVAConfig

REAL = EVAConfig(  # as GLM-4V-9B's config.json has it
    image_size=1120, patch_size=14, hidden_size=1792, ffn_size=15360, n_layers=63, n_heads=16, norm_eps=1e-6,
    scaling_factor=8.0, out_size=4096, out_ffn_size=13696,
)  # fmt: skip


def build(n_layers: int, device: str) -> EVACLIP:
    """The tower in bfloat16, every weight with memory of its own."""
    with torch.device("meta"):
        tower = EVACLIP(replace(REAL, n_layers=n_layers)).to(torch.bfloat16)
    tower = tower.to_empty(device=device).requires_grad_(False).eval()
    generator = torch.Generator(device).manual_seed(0)
    drawn: dict[str, Tensor] = {}
    for name, weight in tower.state_dict().items():
        first_of_its_kind = ".".join("0" if part.isdigit() else part for part in name.split("."))
        if first_of_its_kind in drawn:
            weight.copy_(drawn[first_of_its_kind])
        elif "norm" in name:
            weight.fill_(float(name.endswith("weight")))
        else:
            weight.normal_(0, 0.02, generator=generator)
        drawn.setdefault(first_of_its_kind, weight)
    return tower


def tera_operations(config: EVAConfig) -> float:
    """Multiplications and additions of the products in one forward pass, in 10^12."""
    n, h = config.grid**2 + 1, config.hidden_size
    layer = 2 * n * h * (4 * h + 2 * config.ffn_size) + 4 * n * n * h
    patches = 2 * (n - 1) * 3 * config.patch_size**2 * h
    adapter = 2 * config.n_patches * config.out_size * (4 * h + config.out_size + 3 * config.out_ffn_size)
    return (config.n_layers * layer + patches + adapter) / 1e12


@torch.inference_mode()
def measure(tower: EVACLIP, device: str, repeat: int) -> list[float]:
    """Seconds of each forward pass of one picture. Raises SystemExit if what comes out is no number."""
    pixels = torch.randn(1, 3, REAL.image_size, REAL.image_size, device=device).to(torch.bfloat16)
    seconds = []
    for n in range(repeat):
        start = time.perf_counter()
        features = tower(pixels)
        if not torch.isfinite(features).all():  # also waits for a GPU
            raise SystemExit("the features are not finite")
        seconds.append(time.perf_counter() - start)
        print(f"pass {n + 1} of {repeat}: {seconds[-1]:.1f} s, features {list(features.shape)}", flush=True)
    return seconds


def machine(device: str) -> dict[str, Any]:
    """What the numbers depend on."""
    facts: dict[str, Any] = {"system": platform.system(), "python": platform.python_version()}
    facts["torch"] = torch.__version__
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    facts["cpu"] = names[0] if names else platform.processor()
    facts["cpu_bfloat16"] = sorted({"avx512_bf16", "amx_bf16"} & set(flags))
    facts["cores"], facts["threads"] = os.cpu_count(), torch.get_num_threads()
    if hasattr(os, "sysconf"):
        facts["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    if hasattr(os, "getloadavg"):
        facts["load_before"] = round(os.getloadavg()[0], 1)
    if device != "cpu":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def write(result: dict[str, Any], folder: Path) -> None:
    """As JSON, and as a table to read. A number from a busy machine says so."""
    facts = result["machine"]
    if facts.get("load_before", 0) > 0.5:
        shared = result["processor_s_a_pass"] / facts["threads"]
        result["note"] = (
            f"measured beside other work (load {facts['load_before']} on {facts['cores']} cores before the start), so "
            f"the seconds are an upper bound; the processor time spent is {shared:.0f} s on each of {facts['threads']} "
            "threads, about what a pass would take on idle cores"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vit_forward.json").write_text(json.dumps(result, indent=2) + "\n")
    rows = {key: value for key, value in result.items() if key not in ("benchmark", "machine", "note")} | facts
    table = "".join(f"| {key} | {value} |\n" for key, value in rows.items())
    note = f"\nNote: {result['note']}.\n" if "note" in result else ""
    (folder / "vit_forward.md").write_text(f"# {result['benchmark']}\n\n| | |\n|---|---|\n{table}{note}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=REAL.n_layers, help="fewer for a quick look")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    facts = machine(args.device)
    start = time.perf_counter()
    tower = build(args.layers, args.device)
    n_bytes = sum(p.numel() * p.element_size() for p in tower.parameters())
    print(f"{args.layers} layers, {n_bytes / 1e9:.1f} GB, built in {time.perf_counter() - start:.0f} s", flush=True)
    cpu_before = time.process_time()
    seconds = measure(tower, args.device, args.repeat)
    operations, median = tera_operations(tower.config), statistics.median(seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    result = {
        "benchmark": "GLM-4V-9B's tower, one picture of 1120 x 1120 pixels, random weights, bfloat16",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "layers": args.layers, "weights_gb": round(n_bytes / 1e9, 2), "peak_memory_gb": round(peak / 1e9, 2),
        "seconds": [round(s, 2) for s in seconds], "median_s": round(median, 2),
        "processor_s_a_pass": round((time.process_time() - cpu_before) / args.repeat, 1),
        "tera_operations": round(operations, 2), "tera_operations_per_s": round(operations / median, 3),
        "machine": facts,
    }  # fmt: skip
    write(result, args.out)
    print(f"median {median:.1f} s, {operations / median:.2f} x 10^12 operations/s")


if __name__ == "__main__":
    main()
