"""This library's classes as files that lie side by side in a checkpoint's folder, for `trust_remote_code=True`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent
_ENTRIES = ("configuration_chatglm", "modeling_chatglm", "tokenization_chatglm")
_ROOMS = ("models", "tokenizers")
_RELATIVE = re.compile(rf"^( *)from \.+(?:(?:{'|'.join(_ROOMS)})\.)?(\w+) import", re.MULTILINE)

AUTO_MAP = {
    "AutoConfig": "configuration_chatglm.ChatGLMConfig",
    "AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration",
    "AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration",
    "AutoModelForSeq2SeqLM": "modeling_chatglm.ChatGLMForConditionalGeneration",
    "AutoModelForSequenceClassification": "modeling_chatglm.ChatGLMForSequenceClassification",
}
TOKENIZER_AUTO_MAP = {"AutoTokenizer": ["tokenization_chatglm.ChatGLM4Tokenizer", None]}

_HEADER = "# Written by `glm4 export` (glm4 {version}, Apache-2.0). Change it there, not here.\n\n"
_NAMED = '''

def _files_that_transformers_copies() -> None:
    """Never called. From a local folder, transformers 4 copies the files that this one imports, and not those that
    they import in turn; so all are named here."""
{imports}
'''


def write_code(folder: Path, version: str) -> None:
    """Write the three files that transformers asks for, and all those they need."""
    sources: dict[str, str] = {}
    for entry in _ENTRIES:
        needed = _needed(entry, sources)
        direct = set(_imported(sources[entry]))
        indirect = sorted(needed - direct)
        if indirect:
            lines = [f"    from .{name} import {_a_name(sources[name])}  # noqa: F401" for name in indirect]
            sources[entry] += _NAMED.format(imports="\n".join(lines))
    for name, text in sources.items():
        (folder / f"{name}.py").write_text(_HEADER.format(version=version) + text, encoding="utf-8")


def _needed(entry: str, sources: dict[str, str]) -> set[str]:
    """The modules that `entry` imports, directly or not; their flattened sources are put into `sources`."""
    found: set[str] = set()
    todo = [entry]
    while todo:
        name = todo.pop()
        if name not in sources:
            sources[name] = _flat(_file_of(name).read_text(encoding="utf-8"))
        for imported in _imported(sources[name]):
            if imported not in found:
                found.add(imported)
                todo.append(imported)
    return found - {entry}


def _flat(source: str) -> str:
    """A source whose relative imports are of files beside it, and only of those that it needs to run.

    What is imported for annotations alone is left out: it may import back, and transformers 4 follows imports in a
    circle for ever.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.parse(source).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    return _RELATIVE.sub(r"\1from .\2 import", "".join(lines))


def _file_of(name: str) -> Path:
    """Where a flat module's file is. No two rooms have one of the same name: a test holds that."""
    for room in (Path(__file__).parent, *(_PACKAGE / room for room in _ROOMS), _PACKAGE):
        if (room / f"{name}.py").is_file():
            return room / f"{name}.py"
    raise FileNotFoundError(f"{name}.py is imported by an exported file, and is nowhere in {_PACKAGE}")


def _imported(source: str) -> list[str]:
    """The flat modules that a flattened source imports, anywhere in it."""
    nodes = ast.walk(ast.parse(source))
    return [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level and node.module]


def _a_name(source: str) -> str:
    """Something that a module defines, to have a thing to import from it."""
    names = (n.name for n in ast.parse(source).body if isinstance(n, (ast.ClassDef, ast.FunctionDef)))
    return next(name for name in names if not name.startswith("_"))
