"""No line of the library works on NVIDIA's GPUs only: Apple's, Intel's and the CPU take the same path. Read off the
syntax trees, since no machine has them all."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import glm4

PACKAGE = Path(glm4.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
KINDS = ("cuda", "mps", "xpu")


def is_guard(test: ast.expr) -> bool:
    """Whether a condition asks for the kind of device: `x.device.type == "cuda"`, `torch.cuda.is_available()`."""
    source = ast.unparse(test)
    return any(f"{kind}.is_available()" in source or f"== '{kind}'" in source for kind in KINDS)


def unguarded(source: str) -> list[str]:
    """Calls that need one kind of device and are not behind a question for it, as "line: call"."""
    return [f"{node.lineno}: {ast.unparse(node)[:80]}" for node in _calls(ast.parse(source), False)]


def _calls(node: ast.AST, guarded: bool) -> Iterator[ast.Call]:
    if isinstance(node, ast.Call) and not guarded and _needs_one_kind(node):
        yield node
    for name, value in ast.iter_fields(node):
        inside = guarded or (isinstance(node, (ast.If, ast.IfExp)) and name == "body" and is_guard(node.test))
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            inside = inside or is_guard(node.values[0])
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _calls(child, inside)


def _needs_one_kind(call: ast.Call) -> bool:
    called = ast.unparse(call.func)
    if any(called.startswith(f"torch.{kind}.") for kind in KINDS):
        return not called.endswith((".is_available", ".device_count"))
    if isinstance(call.func, ast.Attribute) and call.func.attr in KINDS:
        return True  # tensor.cuda()
    devices = [keyword.value for keyword in call.keywords if keyword.arg in ("device", "device_type")]
    devices += call.args if called.endswith((".to", "torch.device", "torch.Generator", "autocast")) else []
    names = [str(value.value).split(":")[0] for value in devices if isinstance(value, ast.Constant)]
    return any(name in KINDS for name in names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_call_needs_one_kind_of_device(file: Path) -> None:
    assert unguarded(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "x.cuda()", "x.to('cuda')", "x.to('cuda:1')", "torch.cuda.synchronize()", "torch.zeros(2, device='cuda')",
        "torch.device('cuda', 0)", "torch.cuda.Event()", "torch.autocast('cuda')", "torch.Generator('cuda')",
        "torch.mps.empty_cache()", "if fast: torch.cuda.empty_cache()", "x if fast else x.cuda()",
        "if x.device.type == 'cuda': pass\nelse: torch.cuda.synchronize()", "torch.cuda.graph(g)", "m.xpu()",
    ],
)  # fmt: skip
def test_the_check_itself_sees(source: str) -> None:
    """Each of these would be found."""
    assert len(unguarded(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "x.to(device)", "torch.cuda.is_available()", "if torch.cuda.is_available(): torch.cuda.synchronize()",
        "if x.device.type == 'cuda': torch.cuda.empty_cache()", "y = x.cuda() if x.device.type == 'cuda' else x",
        "device == 'cuda'", "torch.accelerator.synchronize()", "torch.cuda.device_count()", "x.to('cpu')",
        "x.device.type == 'cuda' and torch.cuda.synchronize()", "except_ = torch.cuda.OutOfMemoryError",
    ],
)  # fmt: skip
def test_the_check_itself_lets_pass(source: str) -> None:
    """And none of these."""
    assert unguarded(source) == []


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is a real one")
def test_mps_where_there_is_none() -> None:
    """It is understood, and refused with the reason."""
    with pytest.raises(glm4.InputError, match=r"device 'mps' cannot be used \("):
        glm4.load_model(device="mps")
    with pytest.raises(glm4.InputError, match=r"device 'mps' cannot be used \("):
        glm4.load_model(device_map={"": "mps"})


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="MPS NOT TESTED: this is no Mac with Apple silicon")
def test_mps() -> None:
    """Where there is one: the default model's greedy reply, in float32, as on the CPU."""
    prompt = [{"role": "user", "content": "Hello!"}]
    replies = {
        glm4.load_model(device=device, dtype="float32").chat(prompt, temperature=0, max_tokens=20).content
        for device in ("cpu", "mps")
    }
    assert len(replies) == 1
