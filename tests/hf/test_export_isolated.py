"""An exported folder in a process that has no glm4, run as its users do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from exported import HOLDER, load, load_tokenizer

SCRIPT = """
import importlib.abc, json, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "glm4":
            raise ModuleNotFoundError("No module named 'glm4'", name="glm4")

sys.meta_path.insert(0, Blocker())
try:
    import glm4
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("glm4 is here")

import torch, transformers
transformers.logging.set_verbosity_error()
text, seeing, saved = sys.argv[1:]
result = {}
for folder in (text, seeing):
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, torch_dtype=torch.float32
    ).eval()
    message = {"role": "user", "content": "hello"}
    if folder == seeing:
        from PIL import Image

        message["image"] = Image.new("RGB", (30, 20), (200, 100, 50))
    inputs = tokenizer.apply_chat_template(
        [message], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    made = model.generate(**inputs, max_new_tokens=8, do_sample=False, eos_token_id=None)
    result[folder] = made[0].tolist()
    result[folder + " text"] = tokenizer.decode(made[0])
    model.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    again = transformers.AutoModelForCausalLM.from_pretrained(
        saved, trust_remote_code=True, torch_dtype=torch.float32
    ).eval()
    assert torch.equal(again.generate(**inputs, max_new_tokens=8, do_sample=False, eos_token_id=None), made)
assert not any(name.split(".")[0] == "glm4" for name in sys.modules)
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def report(
    text_folder: Path, seeing_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[int] | str]:
    """What the process made."""
    folder = tmp_path_factory.mktemp("elsewhere")
    environment = {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "OMP_NUM_THREADS", "TMPDIR")
    }
    environment |= {"HF_MODULES_CACHE": str(folder / "modules"), "HF_HUB_OFFLINE": "1"}
    arguments = [str(text_folder), str(seeing_folder), str(folder / "saved")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    made: dict[str, list[int] | str] = json.loads(done.stdout.splitlines()[-1])
    return made


@pytest.mark.slow
@pytest.mark.parametrize("which", ["text_folder", "seeing_folder"])
def test_it_makes_the_same_tokens(
    which: str, report: dict[str, list[int] | str], request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(which)
    ids = report[str(folder)]
    assert len(ids) > 12
    assert report[f"{folder} text"] == load_tokenizer(folder).decode(ids)
    if which == "text_folder":
        made = load(folder).generate(
            torch.tensor([ids[:-8]]), max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=HOLDER
        )
        assert made[0].tolist() == ids


def test_the_files_name_all_they_need(text_folder: Path) -> None:
    """transformers 4 copies from a local folder what the entry file itself names, and never returns from imports that
    go in a circle."""
    named = {
        path.stem: set(re.findall(r"^\s*from\s+\.(\S+)\s+import", path.read_text(encoding="utf-8"), re.MULTILINE))
        for path in text_folder.glob("*.py")
    }
    for entry in ("configuration_chatglm", "modeling_chatglm", "tokenization_chatglm"):
        needed, todo = set(), [entry]
        while todo:
            for name in named[todo.pop()] - needed:
                needed.add(name)
                todo.append(name)
        assert needed == named[entry]
        assert entry not in needed
    done: set[str] = set()
    while left := [name for name in named if name not in done]:
        ready = [name for name in left if named[name] <= done]
        assert ready, f"{left} import each other"
        done.update(ready)
    for path in text_folder.glob("*.py"):
        code = path.read_text(encoding="utf-8")
        assert "import glm4" not in code
        assert not re.search(r"^\s*from \.\.", code, re.MULTILINE)
        compile(code, path, "exec")
