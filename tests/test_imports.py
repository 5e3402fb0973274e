"""Which way imports go, what code must not contain, and that `import glm4` is light. Read off the syntax trees."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import glm4

PACKAGE = Path(glm4.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Every folder and module directly in glm4/, and what of glm4 it may import ("": the package itself, glm4/__init__.py).
# A new one gets its line here together with its line in the design.
ALLOWED: dict[str, set[str]] = {
    "": {"hub", "errors", "messages", "outputs", "sampling", "chat", "llm", "loading"},
    "errors": set(),
    "memory": {"errors"},
    "jsonfile": {"errors"},
    "messages": {"errors"},
    "sampling": {"errors"},
    "hub": {"errors"},
    "outputs": {"errors", "messages", "sampling"},
    "tokenizers": set(),
    "models": set(),
    "chat": {"tokenizers", "messages", "errors", "jsonfile"},
    "quant": {"errors"},
    "placement": {"errors"},
    "checkpoints": {"models", "quant", "placement", "errors", "jsonfile"},
    "engine": {"models", "sampling", "errors"},
    "inputs": {"errors"},
    "video": {"errors", "messages"},
    "vision": {"errors", "images", "models"},
    "images": {"errors", "models"},
    "llm": {
        "chat", "engine", "errors", "inputs", "memory", "messages", "models", "outputs", "placement", "sampling",
        "tokenizers", "vision",
    },
    "loading": {
        "chat", "checkpoints", "errors", "hub", "jsonfile", "llm", "memory", "placement", "quant", "sampling",
    },
    "doctor": {"checkpoints", "errors", "hub", "loading"},
    "hf": {"", "chat", "checkpoints", "errors", "hub", "images", "jsonfile", "models", "tokenizers"},
    "cli": {"", "doctor", "errors", "hf", "hub", "llm", "loading", "messages", "outputs", "sampling"},
    "__main__": {"cli"},
}  # fmt: skip
WITHOUT_TORCH = [
    "", "errors", "jsonfile", "messages", "sampling", "outputs", "hub", "tokenizers", "chat", "doctor", "video", "cli",
]  # fmt: skip
NEEDS_TORCH = {"torch", "transformers", "numpy", "accelerate"}
STANDALONE = ["models", "tokenizers"]  # exported as files that lie side by side in one folder


def room_of(module: str) -> str:
    """ "glm4.chat.reply" -> "chat"; "glm4" -> ""."""
    return module.split(".")[1] if "." in module else ""


def module_of(file: Path) -> str:
    """Dotted name, a package's being its folder's."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.Module, module: str, is_package: bool, *, everywhere: bool) -> Iterator[tuple[int, str]]:
    """(line, absolute module) of every import; only those run at import time unless `everywhere`. For
    `from .. import x` that is x's module where there is one. What is under `if TYPE_CHECKING` never runs."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            todo += node.orelse
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = module.split(".")
                anchor = anchor[: len(anchor) - node.level + is_package]
                base = ".".join([*anchor, *([node.module] if node.module else [])])
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                path = PACKAGE.parent.joinpath(*deeper.split("."))
                is_module = base.startswith("glm4") and (path.with_suffix(".py").exists() or path.is_dir())
                yield node.lineno, deeper if is_module else base
        elif everywhere or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            todo += ast.iter_child_nodes(node)


def all_imports(everywhere: bool) -> Iterator[tuple[str, str, str]]:
    """(where, importing module, imported module) over the package."""
    for file in FILES:
        module = module_of(file)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for line, imported in imports(tree, module, file.name == "__init__.py", everywhere=everywhere):
            yield f"{file.relative_to(PACKAGE.parent)}:{line}", module, imported


def is_ours(module: str) -> bool:
    """Whether it is in this package."""
    return module.split(".")[0] == "glm4"


def test_every_room_has_its_rule() -> None:
    """A folder or module without one would be free to import anything."""
    rooms = {room_of(module_of(file)) for file in FILES}
    assert rooms == set(ALLOWED), "glm4/ and ALLOWED differ: add or remove a line, and tell the design card"


def test_imports_go_one_way() -> None:
    """Inside functions too: a cycle is a cycle."""
    wrong = [
        f"{where}: {room_of(module) or 'glm4'} may not import {room_of(imported) or 'glm4 itself'}"
        for where, module, imported in all_imports(everywhere=True)
        if is_ours(imported)
        and room_of(imported) != room_of(module)
        and room_of(imported) not in ALLOWED[room_of(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_rules_have_no_cycle() -> None:
    """Apart from the package itself, whose names are resolved when first used."""
    done: set[str] = {""}
    while left := [room for room in ALLOWED if room not in done]:
        ready = [room for room in left if ALLOWED[room] - {""} <= done]
        assert ready, f"{left} import each other"
        done.update(ready)


def test_no_torch_where_none_is_needed() -> None:
    """A server's front, a tokenizer's user and `glm4 --help` must not wait for it. cli and doctor may import it when
    they run."""
    wrong = [
        f"{where}: imports {imported}"
        for everywhere in (True, False)
        for where, module, imported in all_imports(everywhere)
        if room_of(module) in WITHOUT_TORCH
        and (not everywhere or room_of(module) not in ("cli", "doctor"))
        and (imported.split(".")[0] in NEEDS_TORCH or imported == "safetensors.torch")
    ]
    assert not wrong, "\n".join(wrong)


def test_standalone_folders_import_only_each_other_by_a_dot() -> None:
    """models/ and tokenizers/ are exported as Hugging Face remote code: flat, `from .x import y`, and few packages."""
    known = {"models": {"torch"}, "tokenizers": {"tiktoken", "sentencepiece"}}
    for where, module, imported in all_imports(everywhere=True):
        room = room_of(module)
        if room not in STANDALONE:
            continue
        assert module.count(".") <= 2, f"{where}: {room}/ is flat"
        if is_ours(imported):
            assert imported.startswith(f"glm4.{room}."), f"{where}: imports {imported}"
        else:
            top = imported.split(".")[0]
            assert top in known[room] or top in sys.stdlib_module_names, f"{where}: imports {imported}"
    for file in FILES:
        if room_of(module_of(file)) in STANDALONE:
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    assert not is_ours(node.module or ""), f"{file.name}:{node.lineno}: write it with a dot"
                assert not (isinstance(node, ast.ImportFrom) and node.level > 1), f"{file.name}: leaves its folder"


def test_standalone_folders_share_no_file_name() -> None:
    """An export lays both into one directory; beside them come Hugging Face's shells, the pictures and the errors."""
    names = [file.name for room in STANDALONE for file in (PACKAGE / room).glob("*.py") if file.name != "__init__.py"]
    shells = [file.name for file in (PACKAGE / "hf").glob("*.py") if file.name != "__init__.py"]
    shells += ["images.py", "errors.py"]
    assert len(set(names + shells)) == len(names + shells), sorted(names)


RUNS_CODE = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "breakpoint"}
SETS_FOR_ALL = {"torch.manual_seed", "os.putenv", "os.environ.update", "os.environ.setdefault", "os.chdir"}


def violations(source: str) -> list[str]:
    """What this package's code must not do, as "line: what"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        what = None
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in RUNS_CODE or called.split(".")[0] in {"pickle", "marshal", "shelve", "dill", "subprocess"}:
                what = called
            elif called == "torch.load" and keywords.get("weights_only") != "True":
                what = "torch.load without weights_only=True"
            elif called in SETS_FOR_ALL or called.startswith("torch.set_"):
                what = f"global state by {called}"
            elif "trust_remote_code" in keywords:
                what = "trust_remote_code"
        elif isinstance(node, ast.Assert):
            test = ast.unparse(node.test)
            if node.msg is not None or not (test.endswith(" is not None") or test.startswith("isinstance(")):
                what = "assert that does more than narrow a type"
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.Delete)):
            targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
            if any(ast.unparse(target).startswith("os.environ[") for target in targets):
                what = "writes the environment"
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            what = "bare except"
        if what:
            found.append(f"{node.lineno}: {what}")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_nothing_is_executed_or_set_for_everybody(file: Path) -> None:
    """No code from files, no pickle, no assert that a user could meet, no global state."""
    assert violations(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')", "exec(x)", "__import__('os')", "pickle.loads(b)", "pickle.load(f)", "torch.load(f)",
        "torch.load(f, weights_only=False)", "torch.load(f, weights_only=flag)", "assert x > 0", "assert x, 'bad'",
        "assert x is not None, 'message for a user'", "torch.set_default_dtype(t)", "torch.manual_seed(0)",
        "os.environ['A'] = 'b'", "del os.environ['A']", "os.environ.setdefault('A', 'b')", "os.system('ls')",
        "AutoModel.from_pretrained(x, trust_remote_code=True)", "subprocess.run(x)", "try: x\nexcept: pass",
    ],
)  # fmt: skip
def test_the_check_itself_sees(source: str) -> None:
    """Each of these would be found."""
    assert len(violations(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()", "re.compile('x')", "torch.load(f, weights_only=True, mmap=True)", "assert x is not None",
        "assert isinstance(x, int)", "os.environ.get('A')", "try: x\nexcept pickle.UnpicklingError: pass",
    ],
)  # fmt: skip
def test_the_check_itself_lets_pass(source: str) -> None:
    """And none of these."""
    assert violations(source) == []


def python(code: str) -> str:
    """What a fresh interpreter prints for it."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light() -> None:
    """Under 0.15 s of processor time (wall time would blame a busy machine on us), and without torch."""
    code = (
        "import time, sys; start = time.process_time(); import glm4; seconds = time.process_time() - start\n"
        "print(seconds, sorted(set(sys.modules) & {'torch', 'numpy', 'transformers', 'huggingface_hub', 'jinja2'}))"
    )
    runs = [python(code).split(maxsplit=1) for _ in range(5)]
    assert {loaded.strip() for _, loaded in runs} == {"[]"}
    seconds = statistics.median(float(run[0]) for run in runs)
    print(f"import glm4: {seconds * 1000:.0f} ms of processor time")
    assert seconds < 0.15


def test_modules_without_torch_really_load_without_it() -> None:
    """All of them in one interpreter, as nothing but running shows what an import pulls in."""
    modules = [module_of(f) for f in FILES if room_of(module_of(f)) in WITHOUT_TORCH and f.stem != "__main__"]
    loaded = python(
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    assert loaded.split() == ["False", "False"], modules


def test_every_public_name_resolves() -> None:
    """They are looked up by strings, which a rename would miss."""
    assert len(glm4.__all__) == len(set(glm4.__all__))
    for name in glm4.__all__:
        assert getattr(glm4, name) is not None
        assert name in dir(glm4)
    with pytest.raises(AttributeError, match="has no attribute 'load_modle'"):
        glm4.load_modle  # noqa: B018


def test_public_names_are_typed_where_they_are_resolved() -> None:
    """Each lazy name has its line for type checkers, and the other way round."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    typed = {alias.name for n in block.body if isinstance(n, ast.ImportFrom) for alias in n.names}
    assert typed == set(glm4.__all__) - {"__version__", "load_tokenizer"}


def test_rooms_are_there_after_importing_the_package_alone() -> None:
    """As README and docs write it: glm4.hf.register(), glm4.doctor.examine(folder), glm4.video.video_message(path)."""
    code = "import glm4; print(*map(callable, (glm4.hf.register, glm4.doctor.examine, glm4.video.video_message)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * 3
