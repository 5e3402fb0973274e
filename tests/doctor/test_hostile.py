"""Folders made to break their reader: every one gets a report, in bounded time and memory."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import machine, problems
from random_models import random_checkpoint, reshard

from glm4.doctor import examination
from glm4.doctor.examination import TEMPLATES
from glm4.doctor.files import LARGEST

TERABYTE = 2**40


def sparse(path: Path, size: int, start: bytes = b"") -> None:
    """A file that claims a size and takes no space."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


def header(path: Path, content: bytes, length: int | None = None) -> None:
    """A safetensors file with such a header."""
    path.write_bytes(struct.pack("<Q", len(content) if length is None else length) + content)


def index(folder: Path, weight_map: Any) -> None:
    """An index in place of the single file."""
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def loop(folder: Path, name: str) -> None:
    """A link to itself."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / name)


def fifo(folder: Path, name: str) -> None:
    """A pipe that nobody writes to: opening it would wait for ever."""
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)


def listen(folder: Path, name: str) -> None:
    """A socket."""
    (folder / name).unlink(missing_ok=True)
    here = os.getcwd()
    os.chdir(folder)  # names of sockets must be short
    try:
        socket.socket(socket.AF_UNIX).bind(name)
    finally:
        os.chdir(here)


def replace(name: str, content: bytes) -> Callable[[Path], None]:
    """A file with other content."""

    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


DEEP = b"[" * 200_000
HOSTILE: dict[str, Callable[[Path], Any]] = {
    "config of a terabyte": lambda f: sparse(f / "config.json", TERABYTE, b"{"),
    "config in brackets": replace("config.json", b'{"a": ' + DEEP),
    "config with a long number": replace("config.json", b'{"num_layers": ' + b"9" * 100_000 + b"}"),
    "config empty": replace("config.json", b""),
    "config a list": replace("config.json", b"[]"),
    "config in UTF-16": replace("config.json", '{"model_type": "chatglm"}'.encode("utf-16")),
    "config with half characters": replace("config.json", b'{"model_type": "\\ud800\\u0007\\u001b]0;x"}'),
    "config a pointer": replace("config.json", b"version https://git-lfs.github.com/spec/v1\nsize 1"),
    "config a pipe": lambda f: fifo(f, "config.json"),
    "config a loop": lambda f: loop(f, "config.json"),
    "config a folder": lambda f: ((f / "config.json").unlink(), (f / "config.json").mkdir()),
    "config a socket": lambda f: listen(f, "config.json"),
    "config a device": lambda f: ((f / "config.json").unlink(), (f / "config.json").symlink_to("/dev/zero")),
    "generation config a pipe": lambda f: fifo(f, "generation_config.json"),
    "generation config of a terabyte": lambda f: sparse(f / "generation_config.json", TERABYTE),
    "tokenizer a pipe": lambda f: fifo(f, "tokenizer.model"),
    "tokenizer of a terabyte": lambda f: sparse(f / "tokenizer.model", TERABYTE),
    "tokenizer config in brackets": replace("tokenizer_config.json", DEEP),
    "template a pipe": lambda f: fifo(f, "chat_template.jinja"),
    "templates a pipe": lambda f: ((f / TEMPLATES).mkdir(), os.mkfifo(f / TEMPLATES / "x.jinja")),
    "templates of a terabyte": lambda f: ((f / TEMPLATES).mkdir(), sparse(f / TEMPLATES / "x.jinja", TERABYTE)),
    "weights a pipe": lambda f: fifo(f, "model.safetensors"),
    "weights a loop": lambda f: loop(f, "model.safetensors"),
    "weights a device": lambda f: (
        (f / "model.safetensors").unlink(), (f / "model.safetensors").symlink_to("/dev/zero")
    ),
    "weights of zeros": lambda f: sparse(f / "model.safetensors", TERABYTE),
    "weights empty": replace("model.safetensors", b""),
    "header longer than the file": lambda f: header(f / "model.safetensors", b"{}", 2**63),
    "header of a gigabyte": lambda f: sparse(f / "model.safetensors", TERABYTE, struct.pack("<Q", 2**30) + b"{"),
    "header in brackets": lambda f: header(f / "model.safetensors", DEEP),
    "header of other types": lambda f: header(f / "model.safetensors", b'{"x": {"dtype": 3, "shape": "a"}, "y": []}'),
    "header a list": lambda f: header(f / "model.safetensors", b"[1, 2]"),
    "header with negative sizes": lambda f: header(
        f / "model.safetensors", b'{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [9, 3]}}'
    ),
    "header with endless sizes": lambda f: header(
        f / "model.safetensors", b'{"x": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 1e400]}}'
    ),
    "index outside the folder": lambda f: index(f, {"x": "../../../../etc/passwd"}),
    "index of a device": lambda f: index(f, {"x": "/dev/zero"}),
    "index of other types": lambda f: index(f, {"x": 3}),
    "index of many files": lambda f: index(f, {str(i): f"{i}.safetensors" for i in range(5000)}),
    "index a list": lambda f: index(f, []),
    "index with odd names": lambda f: index(f, {"x": "a\x00b", "y": "\x1b[2J", "z": "..", "": ""}),
    "index a pipe": lambda f: ((f / "model.safetensors").unlink(), fifo(f, "model.safetensors.index.json")),
    "a bin of zeros": lambda f: ((f / "model.safetensors").unlink(), sparse(f / "pytorch_model.bin", TERABYTE)),
    "an old bin of a terabyte": lambda f: (
        (f / "model.safetensors").unlink(), sparse(f / "pytorch_model.bin", TERABYTE, b"\x80\x02")
    ),
    "a zip of a terabyte": lambda f: (
        (f / "model.safetensors").unlink(), sparse(f / "pytorch_model.bin", TERABYTE, b"PK\x03\x04")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_folders(on: Any, tmp_path: Path, name: str) -> None:
    """A report with a problem in it, at once, in little memory, and plain text only."""
    folder = random_checkpoint(tmp_path / "model")
    HOSTILE[name](folder)
    on(machine(), tmp_path)  # imports are not this folder's fault
    tracemalloc.start()
    start = time.process_time()
    try:
        report = on(machine(), folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    seconds = time.process_time() - start
    print(f"{seconds:.2f} s, {peak / 2**20:.1f} MiB\n{report.as_text()}")
    assert not report.good or name == "an old bin of a terabyte"
    assert report.problems or name == "an old bin of a terabyte"
    assert "The doctor itself failed" not in report.verdict
    assert seconds < 10
    assert peak < 100 * 2**20
    assert all(line.isprintable() for line in report.as_text().split("\n"))


def test_a_crowded_folder(on: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more entries than are looked at, the ones that count are found all the same."""
    folder = random_checkpoint(tmp_path / "model")
    reshard(folder, 2)
    for i in range(60):
        (folder / f"{i}.txt").touch()
    monkeypatch.setattr("glm4.doctor.files.MOST_ENTRIES", 0)
    report = on(machine(), folder)
    assert report.good, problems(report)
    assert any("so many entries" in note for note in report.notes)


def test_names_of_every_kind(on: Any, tmp_path: Path) -> None:
    """A folder's name, and what is asked for, can be anything."""
    odd = tmp_path / "Модель 模型 \x1b[31m\n model"
    odd.mkdir()
    report = on(machine(), odd)
    assert "\x1b" not in report.as_text()
    os.makedirs(os.path.join(os.fsencode(tmp_path), b"\xff\xfe"))
    assert not on(machine(), os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff\xfe"))).good
    for name in ("\x00", "a\x00b/c", "/" + "x" * 5000, "x/" * 3000, "~nobody-of-that-name/x", "//", "."):
        assert on(machine(), name).verdict


def test_a_folder_that_may_not_be_read(on: Any, tmp_path: Path) -> None:
    """Said as such."""
    if os.geteuid() == 0:
        pytest.skip("permissions mean nothing to root")
    tmp_path.chmod(0)
    try:
        assert "cannot be read" in problems(on(machine(), tmp_path))
    finally:
        tmp_path.chmod(0o700)


def test_a_doctor_who_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should it happen."""

    def fail(*_: object) -> Any:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(examination, "_examine", fail)
    report = examination.examine("x")
    assert not report.good
    assert report.verdict == "The doctor itself failed; please report this."
    assert report.problems == [("ZeroDivisionError: a fault of ours", "")]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
KEYS = """model_type num_layers num_hidden_layers hidden_size num_attention_heads kv_channels head_dim padded_vocab_size
vocab_size seq_length max_position_embeddings max_sequence_length multi_query_attention multi_query_group_num rope_ratio
rope_theta rope_parameters vision_config llm_config quantization_config quantization quantization_bit pre_seq_len
inner_hidden_size ffn_hidden_size torch_dtype dtype architectures force_image_size""".split()
TYPES = st.sampled_from(["chatglm", "glm", "glm4", "internvl_chat"])


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=12), TYPES | VALUES, st.booleans())
def test_any_configuration(tmp_path_factory: Any, config: dict[str, Any], kind: Any, real: bool) -> None:
    """Values of any type under the keys that are read, alone or over a real configuration."""
    folder = tmp_path_factory.getbasetemp() / "any"
    if not folder.exists():
        random_checkpoint(folder)
        (folder / "config.json").rename(folder / "real")
    base = json.loads((folder / "real").read_text()) if real else {}
    (folder / "config.json").write_text(json.dumps({**base, **config, "model_type": kind}))
    there = machine()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glm4.doctor.examination.look_at_machine", lambda: there)
        report = examination.examine(str(folder))
    assert report.as_text()
    assert report.as_json()
    assert "The doctor itself failed" not in report.verdict, report.problems


def test_limits_are_far_above_real_files(shared: Path) -> None:
    """Several times the largest that was published."""
    for path in (*shared.glob("configs/*/*"), *shared.glob("tokenizers/*/*")):
        if path.name in LARGEST:
            assert path.stat().st_size * (5 if path.suffix == ".model" else 50) < LARGEST[path.name], path
