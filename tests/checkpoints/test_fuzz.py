"""Weight files of random damage: an error of ours or a load, never another exception, a crash or a giant allocation."""

from __future__ import annotations

import json
import resource
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from random_models import load, random_checkpoint, reshard

from glm4.errors import CheckpointError

SMALL = {"vocab_size": 8, "hidden_size": 4, "ffn_size": 4, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 4}
Q = "transformer.encoder.layers.0.self_attention.query_key_value.weight"
fuzz = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
pytestmark = pytest.mark.filterwarnings("ignore")  # of unused tensors, and torch's of odd pickles


def peak_mb() -> float:
    """This process's largest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture(autouse=True)
def no_giant_allocation(tmp_path: Path) -> Iterator[None]:
    """Files here are of a few kilobytes; whatever sizes they claim, reading them must not take much more."""
    load(random_checkpoint(tmp_path / "first", rotary_dim=2, **SMALL))
    before = peak_mb()
    yield
    assert peak_mb() - before < 100, "a damaged file made the reader allocate"


@pytest.fixture(params=["safetensors", "bin", "legacy bin"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A weight file in a folder that is otherwise good."""
    folder = random_checkpoint(tmp_path / "model", rotary_dim=2, **SMALL)
    reshard(folder, 1, request.param)
    return next(path for path in folder.iterdir() if path.suffix in {".safetensors", ".bin"})


def loads_or_refuses(file: Path, content: bytes) -> None:
    """The whole contract."""
    file.write_bytes(content)
    message = str(file.parent)
    try:
        load(file.parent)
    except CheckpointError as error:
        message = str(error)
    assert str(file.parent) in message


@fuzz
@given(content=st.binary(max_size=300))
def test_random_bytes(damaged: Path, content: bytes) -> None:
    """No structure at all."""
    loads_or_refuses(damaged, content)


@fuzz
@given(data=st.data())
def test_flipped_bytes(damaged: Path, data: st.DataObject) -> None:
    """A few bytes of a good file changed, inserted or cut, most often near its beginning, where the structure is."""
    original = damaged.parent / "original"
    if not original.exists():
        original.write_bytes(damaged.read_bytes())
    content = bytearray(original.read_bytes())
    for _ in range(data.draw(st.integers(1, 4), label="edits")):
        where = data.draw(st.integers(0, len(content)) | st.integers(0, 400), label="offset")
        kind = data.draw(st.sampled_from(["set", "insert", "cut"]), label="kind")
        new = data.draw(st.binary(min_size=1, max_size=4), label="bytes")
        content[where : where + (0 if kind == "insert" else len(new))] = b"" if kind == "cut" else new
    loads_or_refuses(damaged, bytes(content))


sizes = st.integers(-5, 2**70) | st.sampled_from([0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64])
entries: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "F8_E5M2", "I64", "f32", "", None, 4]),
        "shape": st.lists(sizes, max_size=3) | st.none() | st.text(max_size=2),
        "data_offsets": st.lists(sizes, max_size=3) | st.none(),
        "extra": st.none(),
    },
)


@fuzz
@given(
    header=st.dictionaries(
        st.sampled_from([Q, "a", "__metadata__", ""]), entries | st.none() | st.integers(), max_size=4
    ),
    length=st.none() | sizes.filter(lambda n: 0 <= n < 2**64),
    tail=st.integers(0, 64),
)
@example(header={Q: {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 2**64 - 1]}}, length=None, tail=0)
@example(header={Q: {"dtype": "F32", "shape": [2**61, 2], "data_offsets": [0, 0]}}, length=None, tail=0)
@example(header={}, length=2**63, tail=8)
@example(header={}, length=100_000_000, tail=8)
def test_safetensors_headers(header: dict[str, Any], length: int | None, tail: int, tmp_path: Path) -> None:
    """Well-formed JSON that says impossible things: negative sizes, products that overflow, a header of exabytes."""
    folder = tmp_path / "header"
    if not folder.exists():
        random_checkpoint(folder, rotary_dim=2, **SMALL)
    text = json.dumps(header).encode()
    loads_or_refuses(
        folder / "model.safetensors", struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * tail
    )


@pytest.mark.parametrize("shift", ["overlap", "gap", "swapped", "beyond the end"])
def test_data_offsets_that_do_not_tile_the_file(shift: str, tmp_path: Path) -> None:
    """Overlapping tensors are how one file is read in two ways."""
    folder = random_checkpoint(tmp_path / "model", rotary_dim=2, **SMALL)
    content = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    first, second = sorted((k for k in header if k != "__metadata__"), key=lambda k: header[k]["data_offsets"])[:2]
    begin, end = header[second]["data_offsets"]
    size = end - begin
    header[second]["data_offsets"] = {
        "overlap": [begin - 4, end - 4],
        "gap": [begin + 4, end + 4],
        "swapped": [end, begin],
        "beyond the end": [len(content), len(content) + size],
    }[shift]
    assert header[first]["data_offsets"][0] == 0
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(CheckpointError, match=r"model\.safetensors .* is truncated or damaged"):
        load(folder)


def test_a_tensor_that_claims_terabytes_by_strides(tmp_path: Path) -> None:
    """A .bin may hold one number expanded to any shape; that is refused before anything is copied."""
    folder = random_checkpoint(tmp_path / "model", rotary_dim=2, **SMALL)
    reshard(folder, 1, "bin")
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    for name in (Q, "unused"):
        torch.save(tensors | {name: torch.zeros(1).expand(2**20, 2**20)}, folder / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match="does not hold a dictionary of dense tensors"):
            load(folder)
