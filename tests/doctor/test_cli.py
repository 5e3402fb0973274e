"""The command: what it prints, and how it ends."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from machines import machine
from random_models import random_checkpoint

from glm4.cli import main
from glm4.doctor import examine_text
from glm4.doctor.report import Report, Section


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glm4.doctor.examination.look_at_machine", machine)


def test_exit_status_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 and 1, and one JSON object."""
    folder = random_checkpoint(tmp_path / "model")
    assert main(["doctor", str(folder)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("It will load here.")
    assert main(["doctor", str(folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["will_load"] is True
    assert report["good"] is True
    assert report["memory"]["float32"]["weights"] > report["memory"]["bfloat16"]["weights"] > 0
    (folder / "model.safetensors").unlink()
    assert main(["doctor", str(folder), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["will_load"] is False
    assert report["problems"][0]["remedy"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole log through a pipe, however long, in any encoding."""
    log = b"\xff\xfe junk\n" * 300_000 + b"TypeError: 'DynamicCache' object is not subscriptable\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(log), encoding="utf-8"))
    assert main(["doctor", "-"]) == 0
    assert "'DynamicCache' object is not subscriptable" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["doctor", "-", "--json"]) == 1
    assert "the text is empty" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", None)
    assert main(["doctor", "-"]) == 1


def test_an_unquoted_message(capsys: pytest.CaptureFixture[str]) -> None:
    """The shell takes it apart and eats its quotes."""
    assert main(["doctor", *"ChatGLMConfig object has no attribute max_length".split()]) == 0
    out = capsys.readouterr().out
    assert "cause" in out
    assert "remedy" in out
    assert "glm4 export" in out


def test_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dtype that is none is refused by the parser."""
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--dtype", "int3"])
    assert stopped.value.code == 2
    capsys.readouterr()
    assert main(["doctor", str(random_checkpoint(tmp_path / "model")), "--dtype", "float32", "--device", "cpu"]) == 0


@pytest.mark.parametrize("width", [20, 60, 100])
def test_lines_keep_the_width(width: int) -> None:
    """Also of Chinese, whose letters are twice as wide, and of words longer than a line."""
    report = Report("标题", verdict="不好", notes=["运行脚本一直报错，请问怎么解决？" * 5, "x" * 300])
    report.sections.append(Section("It", [("label", "words of a sentence " * 20), ("", "字" * 100)]))
    report.problems.append(("what is wrong " * 10, "what helps " * 20))
    text = report.as_text(width)
    columns = max(sum(2 if ord(letter) > 0x2E80 else 1 for letter in line) for line in text.splitlines())
    assert columns <= max(width, 40) + 8
    assert "Remedy: what helps" in text


def test_a_message_is_told_in_order() -> None:
    """Cause, remedy, and what this library offers."""
    text = examine_text("RuntimeError: operator torchvision::nms does not exist").as_text()
    assert text.index("cause") < text.index("remedy") < text.index("with glm4")
