"""Weight files as they should not be: each is refused with its name and a remedy, and the next load works."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from random_models import load, random_checkpoint, random_model, reshard
from safetensors.torch import load_file, save_file
from torch import Tensor

from glm4.errors import CheckpointError

Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good folder of the hf layout, to be damaged."""
    return random_checkpoint(tmp_path / "model", "hf", seed=1)


@contextmanager
def refused(folder: Path, *parts: object) -> Iterator[None]:
    """Run the block, which damages the folder; loading it must fail with a message that holds all the parts.

    A good folder must load right after, as if nothing had happened.
    """
    yield
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    for part in parts:
        assert str(part) in str(caught.value), f"{part} is not named"
    good = random_checkpoint(folder.parent / "good", "hf", seed=2)
    assert torch.equal(load(good).norm.weight, random_model(2).norm.weight)


def edit(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """Rewrite model.safetensors with changed tensors."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def edit_index(folder: Path, change: Callable[[dict[str, Any]], Any], name: str = "model.safetensors") -> Path:
    """Rewrite the index."""
    index = folder / f"{name}.index.json"
    content = json.loads(index.read_text())
    change(content)
    index.write_text(json.dumps(content))
    return index


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 500, 0.5, -1], ids=str)
@pytest.mark.parametrize("n_shards", [1, 2])
@pytest.mark.parametrize("kind", ["safetensors", "bin", "legacy bin"])
def test_a_truncated_file(kind: str, n_shards: int, keep: float, folder: Path) -> None:
    """Cut anywhere: in the length, in the header, in the data, by one byte."""
    reshard(folder, n_shards, kind)
    file = max(folder.glob("*.safetensors" if kind == "safetensors" else "*.bin"))
    content = file.read_bytes()
    end = int(len(content) * keep) if isinstance(keep, float) else keep
    with refused(folder, file, "ownload it again"):
        file.write_bytes(content[:end])


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_git_lfs_pointer_instead_of_the_file(kind: str, folder: Path) -> None:
    """What `git clone` leaves without git-lfs; the most common damage of all."""
    reshard(folder, 2, kind)
    file = max(folder.glob("*.safetensors" if kind == "safetensors" else "*.bin"))
    with refused(folder, file, "ownload it again"):
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 1945161760\n")


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_missing_shard(kind: str, folder: Path) -> None:
    """How many tensors it holds, and which file names it."""
    reshard(folder, 3, kind)
    file = max(folder.glob("*.safetensors" if kind == "safetensors" else "*.bin"))
    with refused(folder, file, "is missing", ".index.json", "download it again"):
        file.unlink()


def test_no_weights_at_all(folder: Path) -> None:
    """All four names that were looked for."""
    names = [
        "model.safetensors,", "model.safetensors.index.json", "pytorch_model.bin ", "pytorch_model.bin.index.json",
    ]  # fmt: skip
    with refused(folder, folder, *names):
        (folder / "model.safetensors").unlink()


def test_a_shard_that_is_a_folder(folder: Path) -> None:
    """Not IsADirectoryError."""
    with refused(folder, folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors").mkdir()


@pytest.mark.parametrize(
    ("shape", "claimed"),
    [((64, 31), "[64, 31]"), ((32, 64), "[32, 64]"), ((65, 32), "[65, 32]"), ((2048,), "[2048]"), ((0, 32), "[0, 32]")],
)
def test_a_tensor_of_the_wrong_shape(shape: tuple[int, ...], claimed: str, folder: Path) -> None:
    """Broadcasting or flattening it into place would be silent nonsense."""
    file = folder / "model.safetensors"
    with refused(folder, file, Q, claimed, "[64, 32]", "config.json"):
        edit(folder, lambda tensors: tensors.update({Q: torch.zeros(shape)}))


def test_missing_tensors(folder: Path) -> None:
    """How many of how many, and the first names."""
    with refused(folder, folder, "lacks 1 of 25 tensors", Q, "config.json"):
        edit(folder, lambda tensors: tensors.pop(Q))


def test_weights_of_another_layout(folder: Path) -> None:
    """All names foreign: the error says that the two files do not belong together, and lists only some."""
    random_checkpoint(folder.parent / "thudm", "thudm")
    with refused(folder, "lacks 25 of 25 tensors", "model.embed_tokens.weight", "...", "another checkpoint"):
        (folder.parent / "thudm/model.safetensors").rename(folder / "model.safetensors")


def test_extra_tensors_are_warned_about_by_name(folder: Path) -> None:
    """A LoRA left in, a head of another task, a layer more than config.json says."""
    edit(folder, lambda tensors: tensors.update({"score.weight": torch.zeros(2, 32), "lora_A": torch.zeros(1)}))
    with pytest.warns(UserWarning, match=re.escape(str(folder)) + r".*2 tensors.*(score\.weight|lora_A)"):
        model = load(folder)
    assert torch.equal(model.norm.weight, random_model(1).norm.weight)


def test_a_layer_more_than_configured_is_warned_about(folder: Path) -> None:
    """The first names only, and the count."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.warns(UserWarning, match=r"11 tensors .*model\.layers\.1\..*\.\.\."):
        load(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.int32], ids=str)
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_integer_weights(kind: str, dtype: torch.dtype, folder: Path) -> None:
    """Quantized weights without their scales, copied into floats, would load and talk nonsense."""
    with refused(folder, Q, str(dtype), "quantized"):
        edit(folder, lambda tensors: tensors.update({Q: torch.ones(64, 32, dtype=dtype)}))
        reshard(folder, 1, kind)


def test_eight_bit_floats(folder: Path) -> None:
    """A stored type this library does not know is named."""
    with refused(folder, folder / "model.safetensors", "F8_E4M3"):
        edit(folder, lambda tensors: tensors.update({Q: torch.ones(64, 32).to(torch.float8_e4m3fn)}))


def test_float64_weights_are_rounded(folder: Path) -> None:
    """Unusual, and harmless."""
    edit(folder, lambda tensors: tensors.update({Q: tensors[Q].double()}))
    expected, loaded = random_model(1).state_dict(), load(folder).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in expected.items())


NASTY_NAMES = [
    "../outside.safetensors", "..", ".", "", "/etc/passwd", "sub/model.safetensors", "..\\outside.safetensors",
    "C:\\outside.safetensors", "./model-00001-of-00002.safetensors", "model\x00.safetensors", "a/../../x.safetensors",
]  # fmt: skip


@pytest.mark.parametrize("name", NASTY_NAMES)
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_shard_name_that_leaves_the_folder(kind: str, name: str, folder: Path, tmp_path: Path) -> None:
    """An index may come from anywhere; it must not choose files elsewhere on the disk."""
    reshard(folder, 2, kind)
    stem = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
    outside = next(folder.glob("*00002.*"))
    for target in (tmp_path / "outside.safetensors", folder / "sub/model.safetensors"):
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(outside.read_bytes())
    with refused(folder, repr(name), f"{stem}.index.json"):
        edit_index(folder, lambda index: index["weight_map"].update({Q: name}), stem)


@pytest.mark.parametrize(
    "content",
    [
        {}, {"metadata": {}}, {"weight_map": None}, {"weight_map": ["a"]}, {"weight_map": {Q: 1}},
        {"weight_map": {Q: None}}, {"weight_map": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_an_index_without_a_weight_map(content: dict[str, Any], folder: Path) -> None:
    """Or with one that maps to anything but file names."""
    reshard(folder, 2)
    with refused(folder, folder / "model.safetensors.index.json", "weight_map", "download it again"):
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def test_an_empty_weight_map(folder: Path) -> None:
    """Nothing is promised, so everything is missing."""
    reshard(folder, 2)
    with refused(folder, folder, "lacks 25 of 25 tensors"):
        edit_index(folder, lambda index: index.update(weight_map={}))


def test_an_index_that_promises_too_much(folder: Path) -> None:
    """A shard of an older upload beside a newer index."""
    reshard(folder, 2)
    shard = min(folder.glob("*.safetensors"))
    with refused(folder, "model.safetensors.index.json", "promises", f"nowhere.weight (in {shard.name})"):
        edit_index(folder, lambda index: index["weight_map"].update({"nowhere.weight": shard.name}))


class Payload:
    """Runs a shell command when unpickled by anything that trusts it."""

    def __init__(self, sentinel: Path) -> None:
        self.command = f"touch {sentinel}"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


class PythonPayload(Payload):
    """The same through exec."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"import os; os.system({self.command!r})",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("payload", [Payload, PythonPayload])
@pytest.mark.parametrize("where", ["among the tensors", "instead of them", "as a name"])
@pytest.mark.parametrize("container", ["zip", "legacy", "plain pickle"])
@pytest.mark.parametrize("n_shards", [1, 2])
def test_a_pickle_that_runs_code(
    n_shards: int, container: str, where: str, payload: type[Payload], folder: Path, tmp_path: Path
) -> None:
    """Refused, and nothing executed; the remedy is safetensors."""
    sentinel = tmp_path / "executed"
    reshard(folder, n_shards, "bin")
    file = max(folder.glob("*.bin"))
    tensors: Any = torch.load(file, weights_only=True)
    bomb = payload(sentinel)
    content = {"among the tensors": tensors | {"x": bomb}, "instead of them": bomb, "as a name": tensors | {bomb: 1}}
    with refused(folder, file, "refused", "could run code", "safetensors"):
        if container == "plain pickle":
            file.write_bytes(pickle.dumps(content[where]))
        else:
            torch.save(content[where], file, _use_new_zipfile_serialization=container == "zip")
    assert not sentinel.exists()
    torch.load(file, weights_only=False) if container != "plain pickle" else pickle.loads(file.read_bytes())
    assert sentinel.exists(), "the payload is a dud, so the test shows nothing"


def test_a_whole_model_instead_of_its_tensors(folder: Path) -> None:
    """torch.save(model): Python objects, hence refused."""
    with refused(folder, folder / "pytorch_model.bin", "refused", "safetensors"):
        reshard(folder, 1, "bin")
        torch.save(random_model(), folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    "content",
    [[torch.zeros(2)], torch.zeros(2), {"state_dict": {Q: torch.zeros(2)}}, {Q: 1.5}, {}, None, {1: 2}],
    ids=str,
)
def test_a_bin_that_holds_something_else(content: Any, folder: Path) -> None:
    """Only tensors by name are weights."""
    reshard(folder, 1, "bin")
    with refused(folder, folder if content == {} else folder / "pytorch_model.bin"):
        torch.save(content, folder / "pytorch_model.bin")


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:.*quantize", "ignore:TypedStorage")
@pytest.mark.parametrize(
    "odd",
    [
        lambda x: x.to_sparse(), lambda x: x.to("meta"), lambda x: x.to_sparse_csr(), lambda x: x.to(torch.complex64),
        lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), lambda x: x[:1, :1].clone().expand_as(x),
    ],
    ids=["sparse", "meta", "sparse rows", "complex", "quantized", "one number, repeated"],
)  # fmt: skip
def test_a_bin_with_tensors_that_cannot_be_copied(odd: Callable[[Tensor], Tensor], folder: Path) -> None:
    """weights_only lets these through."""
    tensors = load_file(folder / "model.safetensors")
    reshard(folder, 1, "bin")
    with refused(folder, folder / "pytorch_model.bin"):
        torch.save(tensors | {Q: odd(tensors[Q])}, folder / "pytorch_model.bin")


def test_a_compressed_bin(folder: Path) -> None:
    """It would be mapped as it lies: weights of noise, and no error."""
    with refused(folder, folder / "pytorch_model.bin", "compressed"):
        reshard(folder, 1, "bin")
        with zipfile.ZipFile(folder / "pytorch_model.bin") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)


def test_a_bin_with_names_that_are_not_text(folder: Path) -> None:
    """A dictionary of tensors under numbers, beside everything that is needed."""
    tensors = load_file(folder / "model.safetensors")
    reshard(folder, 1, "bin")
    with refused(folder, folder / "pytorch_model.bin"):
        torch.save({**tensors, 7: torch.zeros(2)}, folder / "pytorch_model.bin")


def test_a_bin_of_parameters_loads(folder: Path) -> None:
    """Old training scripts saved parameters, which track gradients; and views into larger storages."""
    tensors = load_file(folder / "model.safetensors")
    reshard(folder, 1, "bin")
    wide = torch.zeros(64, 64)
    wide[:, ::2] = tensors[Q]
    odd = {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()} | {Q: wide[:, ::2]}
    torch.save(odd, folder / "pytorch_model.bin")
    loaded = load(folder)
    assert not any(p.requires_grad or p.grad_fn for p in loaded.parameters())
    expected = random_model(1).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_files_that_may_not_be_read(folder: Path) -> None:
    """Permissions, as on a shared machine."""
    if os.geteuid() == 0:
        pytest.skip("permissions mean nothing to root")
    for name in ("model.safetensors", "config.json"):
        (folder / name).chmod(0)
        with pytest.raises(CheckpointError, match=re.escape(str(folder / name))):
            load(folder)
        (folder / name).chmod(0o600)
