"""Run tests/hf on every transformers that the exported classes are written for: 4.46, 4.57 and the newest.

Each version gets a small virtual environment under .venv-hf/, on top of the one this runs in: what a version pins is
installed anew, and torch, pytest and all the rest are found where they are.

    .venv/bin/python tools/hf_matrix.py            # all
    .venv/bin/python tools/hf_matrix.py 4.46 -x    # one; what follows it goes to pytest
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".venv-hf"
# What a version needs, and what it could also be tested with. peft 0.13 is the last that transformers 4.46 has all of.
VERSIONS: dict[str, tuple[list[str], list[str]]] = {
    "4.46": (["transformers==4.46.3", "peft==0.13.2", "accelerate>=1.0"], []),
    "4.57": (["transformers==4.57.6", "peft>=0.17", "accelerate>=1.0"], []),
    "newest": (["transformers>=5", "peft>=0.17", "accelerate>=1.0"], ["bitsandbytes>=0.49"]),
}


def main(arguments: list[str]) -> int:
    """Run them; returns the exit status, 1 if a version failed."""
    chosen = [argument for argument in arguments if argument in VERSIONS] or list(VERSIONS)
    options = [argument for argument in arguments if argument not in VERSIONS]
    results: list[tuple[str, int, float]] = []
    for name in chosen:
        start = time.monotonic()
        python = make_environment(name)
        print(f"\n=== transformers {name}", flush=True)
        # All tests, the slow ones too; the cache of this folder is the other environments'.
        command = [str(python), "-m", "pytest", "tests/hf", "-m", "", "-q", "-p", "no:cacheprovider", *options]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)  # noqa: S603
        results.append((name, done.returncode, time.monotonic() - start))
    print()
    for name, status, seconds in results:
        print(f"transformers {name}: {'passed' if status == 0 else f'FAILED ({status})'} in {seconds:.0f} s")
    return int(any(status for _, status, _ in results))


def make_environment(name: str) -> Path:
    """Its interpreter; the environment is made where there is none for these requirements."""
    needed, wanted = VERSIONS[name]
    folder = ENVIRONMENTS / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    marker = folder / "requirements.txt"
    contents = "\n".join([*needed, *wanted, sys.prefix, sys.version]) + "\n"
    if marker.is_file() and marker.read_text(encoding="utf-8") == contents:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(folder)
    below = [ROOT, *dict.fromkeys(Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib"))]
    own = next(folder.glob("lib/python*/site-packages"), folder / "Lib" / "site-packages")
    # Read after the environment's own packages, so that these win.
    (own / "zz_below.pth").write_text("".join(f"{path}\n" for path in below), encoding="utf-8")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*install, *needed], check=True)  # noqa: S603
    for requirement in wanted:
        if subprocess.run([*install, requirement], check=False).returncode:  # noqa: S603
            print(f"{requirement} cannot be installed here: its tests will say that they did not run", flush=True)
    marker.write_text(contents, encoding="utf-8")
    return python


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
