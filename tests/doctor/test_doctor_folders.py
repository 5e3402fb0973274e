"""What a folder is called, and what stops it from loading: real configurations, damage, other programs' files."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from machines import machine, problems
from random_models import random_checkpoint, reshard

import glm4

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:1b7f8b8d34c5a2e1b7f8b8d34c5a2e1b7f8b8d34c5a2e1b7f8b8d34c5a2e1b7f\nsize 1945161760\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small checkpoint that loads."""
    return random_checkpoint(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("glm-4-9b", "GLM-4-9B (base)"), ("glm-4-9b-chat", "GLM-4-9B-Chat"), ("glm-4-9b-chat-1m", "GLM-4-9B-Chat-1M"),
        ("glm-4v-9b", "GLM-4V-9B"), ("chatglm-6b", "ChatGLM-6B"),
    ],
)  # fmt: skip
def test_real_configurations(on: Any, shared: Path, name: str, called: str) -> None:
    """Of the published checkpoints, without weights."""
    report = on(machine(), shared / "configs" / name)
    assert report.data["model"]["name"] == called
    assert not report.good
    assert report.problems
    assert not report.data["will_load"]


TO_HF = {"model_type": "glm", "num_hidden_layers": 40, "hidden_size": 4096, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("config", "called"),
    [
        ({**TO_HF, "rope_theta": 10000.0}, "GLM-4-9B (base)"),
        ({**TO_HF, "rope_parameters": {"rope_theta": 5e6}}, "GLM-4-9B-Chat"),
        ({**TO_HF, "rope_theta": 1e8, "num_key_value_heads": 4}, "GLM-4-9B-Chat-1M"),
        ({"model_type": "glm4", "num_hidden_layers": 61}, "GLM-4-32B-0414 or GLM-Z1-32B-0414"),
        ({"model_type": "glm4", "num_hidden_layers": 40}, "GLM-4-9B-0414 or GLM-Z1-9B-0414"),
        ({"model_type": "chatglm", "padded_vocab_size": 65024}, "ChatGLM2-6B or ChatGLM3-6B"),
        ({"model_type": "chatglm", "inner_hidden_size": 1, "vocab_size": 150528}, "ChatGLM-6B"),
        ({"model_type": "internvl_chat", "llm_config": {"model_type": "llama"}}, "InternVL-Chat-V1-1"),
        ({"model_type": "internvl_chat", "llm_config": {"model_type": "qwen2"}}, "a later InternVL than Chat-V1-1"),
        ({"model_type": "llama"}, "a model of type 'llama', which is not of this family"),
        ({}, "unknown: config.json has no model_type"),
    ],
)  # fmt: skip
def test_other_configurations(on: Any, tmp_path: Path, config: dict[str, Any], called: str) -> None:
    """As other programs write them."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert on(machine(), tmp_path).data["model"]["name"] == called


@pytest.mark.parametrize(
    ("key", "value", "trait"),
    [
        ("quantization_config", {"quant_method": "awq", "bits": 4}, "quantized by AWQ, 4 bits"),
        ("quantization_config", {"quant_method": "gptq", "bits": 8}, "quantized by GPTQ, 8 bits"),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes, 4 bits"),
        ("quantization", {"bits": 4, "group_size": 64}, "quantized by MLX"),
    ],
)
def test_quantized_by_others(on: Any, folder: Path, key: str, value: Any, trait: str) -> None:
    """Named, and refused."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    report = on(machine(), folder)
    assert any(trait in found for found in report.data["model"]["traits"])
    if key == "quantization_config":
        assert "quantized" in problems(report)


@pytest.mark.parametrize("layout", ["thudm", "hf"])
def test_it_loads(on: Any, tmp_path: Path, layout: str) -> None:
    """What the doctor says loads, loads, without a tokenizer too, which it says."""
    folder = random_checkpoint(tmp_path / "model", layout)
    report = on(machine(), folder)
    assert report.good, problems(report)
    assert "It will load here." in report.as_text()
    assert "none, so that only token ids go in and out" in report.as_text()
    glm4.load_model(folder, device="cpu")
    assert on(machine(), folder / "model.safetensors").good, "one of its files is as good as the folder"


def test_the_default_model(on: Any) -> None:
    """Without an argument: this machine and what comes with the package."""
    report = on(machine(), None)
    assert report.good, problems(report)
    assert report.data["model"]["tokenizer"].startswith("tokenizer.model, ")
    assert report.data["machine"]["cores"] == 8


def break_pointer(folder: Path) -> None:
    """As cloned without git-lfs."""
    (folder / "model.safetensors").write_text(POINTER)


def break_tail(folder: Path) -> None:
    """A download that broke off."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def break_header(folder: Path) -> None:
    """A header that names one tensor less than is there, and one that is no JSON."""
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[20] = 0xFF
    file.write_bytes(content)


def break_shard(folder: Path) -> None:
    """One file of several is missing."""
    reshard(folder, 3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    (folder / "model-00002-of-00003.safetensors.incomplete").write_bytes(b"x")


def break_index(folder: Path) -> None:
    """The files are there, their index is not."""
    reshard(folder, 2)
    (folder / "model.safetensors.index.json").unlink()


def break_tensor(folder: Path) -> None:
    """Of another size than config.json says."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "ffn_hidden_size": 49}))


def break_config(folder: Path) -> None:
    """A fact is missing."""
    config = json.loads((folder / "config.json").read_text())
    del config["kv_channels"]
    (folder / "config.json").write_text(json.dumps(config))


def break_eos(folder: Path) -> None:
    """An id out of range."""
    (folder / "generation_config.json").write_text('{"eos_token_id": 151329}')


def break_bin(folder: Path) -> None:
    """A .bin that is a web page."""
    reshard(folder, 1, "bin")
    (folder / "pytorch_model.bin").write_text("<!DOCTYPE html>")


def break_bin_tail(folder: Path) -> None:
    """A .bin that is cut off."""
    reshard(folder, 1, "bin")
    file = folder / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:-50])


def break_tokenizer(folder: Path) -> None:
    """A pointer in the tokenizer's place."""
    (folder / "tokenizer.model").write_text(POINTER)


def rename_weights(folder: Path) -> None:
    """Under a name that nobody looks for."""
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")


def only_code(folder: Path) -> None:
    """As downloaded without the large files."""
    (folder / "model.safetensors").unlink()
    (folder / "modeling_chatglm.py").write_text("raise SystemExit('this ran')")


BREAKS = {
    break_pointer: ("1 of 1 files of weights are git-lfs pointers", "the real files are 1.8 GiB", "git lfs pull"),
    break_tail: ("model.safetensors is cut off", "download it again"),
    break_header: ("model.safetensors has a damaged header",),
    break_shard: ("1 of 3 files of weights are missing: model-00002-of-00003", "goes on where it stopped"),
    break_index: ("model.safetensors.index.json is missing: 2 of 2 files",),
    break_tensor: ("config.json asks for [98, 32]",),
    break_config: ("the key 'kv_channels' is missing",),
    break_eos: ("eos_token_id is 151329",),
    break_bin: ("pytorch_model.bin is a web page",),
    break_bin_tail: ("pytorch_model.bin is cut off",),
    break_tokenizer: ("tokenizer.model",),
    rename_weights: ("here is consolidated.safetensors",),
    only_code: ("there are no weights (only configuration and code)", "hf download"),
}


@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)
def test_damaged(on: Any, folder: Path, damage: Any) -> None:
    """Named with the remedy, and rightly: loading fails as well."""
    damage(folder)
    report = on(machine(), folder)
    for words in BREAKS[damage]:
        assert words in problems(report), problems(report)
    assert not report.good
    with pytest.raises(glm4.Glm4Error):
        glm4.load_model(folder, device="cpu")


def test_an_interrupted_download_is_noted(on: Any, folder: Path) -> None:
    """Files that downloads leave behind."""
    break_shard(folder)
    assert any("did not end, or is still going on: model-00002" in note for note in on(machine(), folder).notes)


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], "a LoRA adapter"),
        (["glm-4-9b-chat.Q4_K_M.gguf"], "a GGUF model"), (["chatglm-ggml.bin"], "a GGML model"),
        (["latest", "1/mp_rank_00_model_states.pt"], "a Megatron, DeepSpeed or SwissArmyTransformer"),
        (["iter_0000500/mp_rank_00/x.pt"], "output of a Megatron"), (["openvino_model.xml"], "OpenVINO or ONNX"),
        (["checkpoint-500/config.json", "checkpoint-1000/config.json"], "the output folder of a training"),
        (["snapshots/abc/config.json", "blobs/x", "refs/main"], "an entry of the Hugging Face cache"),
        (["model.safetensors"], "weights without the config.json"), (["web_demo.py", ".git/HEAD"], "a folder of code"),
        (["notes.txt"], "no model: there is no config.json"), ([], "an empty folder"),
    ],
)  # fmt: skip
def test_folders_without_a_model(on: Any, tmp_path: Path, files: list[str], what: str) -> None:
    """Each named for what it is."""
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}")
    report = on(machine(), tmp_path)
    assert what in problems(report)
    assert report.problems[0][1], "there is a remedy"
    assert not report.good


def test_an_adapter_names_its_base(on: Any, tmp_path: Path) -> None:
    """Which to merge it into."""
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "THUDM/glm-4-9b-chat"}')
    assert "adapter) of THUDM/glm-4-9b-chat, not a whole model" in problems(on(machine(), tmp_path))


def test_hf_leaves_a_mark_of_its_own(on: Any, folder: Path) -> None:
    """Deeper than the files themselves."""
    (folder / ".cache/huggingface/download").mkdir(parents=True)
    (folder / ".cache/huggingface/download/abc.123.incomplete").write_bytes(b"x")
    report = on(machine(), folder)
    assert report.good
    assert any("abc.123.incomplete" in note for note in report.notes)


def test_a_gguf_file(on: Any, tmp_path: Path) -> None:
    """A file is taken for its folder, and that is said."""
    (tmp_path / "glm.gguf").write_bytes(b"GGUF")
    report = on(machine(), tmp_path / "glm.gguf")
    assert "a GGUF model" in problems(report)
    assert "this is about its folder" in report.notes[0]


def test_gguf_beside_a_configuration(on: Any, folder: Path) -> None:
    """The one format there is decides what is said."""
    (folder / "model.safetensors").rename(folder / "model.gguf")
    assert "the weights are GGUF" in problems(on(machine(), folder))


def test_a_bin_is_never_run(on: Any, folder: Path, tmp_path: Path) -> None:
    """A pickle that would leave a mark leaves none; nor does code beside the weights."""

    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "it ran"),)

    (folder / "model.safetensors").unlink()
    torch.save({"x": Trap()}, folder / "pytorch_model.bin")
    (folder / "modeling_chatglm.py").write_text(f"import os; os.mkdir({str(tmp_path / 'it ran')!r})")
    report = on(machine(), folder)
    assert "Python objects besides tensors" in problems(report)
    torch.save({"x": Trap()}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert not on(machine(), folder).good
    assert not (tmp_path / "it ran").exists()


def test_bins_are_looked_into(on: Any, folder: Path) -> None:
    """In one file or several, of today or from before torch 1.6."""
    for shards, kind in ((1, "bin"), (2, "bin"), (1, "legacy bin")):
        copy = folder.with_name(f"{shards} {kind}")
        shutil.copytree(folder, copy)
        reshard(copy, shards, kind)
        report = on(machine(), copy)
        assert report.good, problems(report)
        assert report.data["memory"]["float32"]["weights"] == on(machine(), folder).data["memory"]["float32"]["weights"]


def test_a_compressed_bin(on: Any, folder: Path) -> None:
    """A small file that would become a large one in memory is not opened."""
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * 20_000_000 + b".")
    assert "far too much memory" in problems(on(machine(), folder))


def test_an_adapter_beside_a_model(on: Any, folder: Path) -> None:
    """A note, as it is not used."""
    (folder / "adapter_config.json").write_text("{}")
    report = on(machine(), folder)
    assert report.good
    assert any("LoRA adapter beside the model" in note for note in report.notes)


def test_a_hub_id(on: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its small files are asked for; that the weights are not here yet is no fault, and memory is told from sizes."""
    asked = []

    def resolve(name: str, *, weights: bool) -> Path:
        asked.append((name, weights))
        return folder

    monkeypatch.setattr("glm4.hub.resolve_folder", resolve)
    (folder / "model.safetensors").unlink()
    report = on(machine(), "THUDM/glm-4-9b-chat")
    assert asked == [("THUDM/glm-4-9b-chat", False)]
    assert report.good, problems(report)
    assert any("not on this disk yet" in note for note in report.notes)
    assert report.data["memory"]["bfloat16"]["weights"] > 0

    def fail(name: str, *, weights: bool) -> Path:
        raise glm4.CheckpointError("the hub cannot be reached")

    monkeypatch.setattr("glm4.hub.resolve_folder", fail)
    assert "the hub cannot be reached" in problems(on(machine(), "THUDM/glm-4-9b-chat"))


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "~/nothing-here", "C:\\models\\glm", "a/b/c/d"])
def test_no_such_folder(on: Any, name: str) -> None:
    """Said so, instead of searching it for messages."""
    assert f"there is no file or folder {name}" in problems(on(machine(), name))


def test_a_log_file(on: Any, tmp_path: Path) -> None:
    """A file of text is searched for messages."""
    file = tmp_path / "run.log"
    file.write_text("x\n" * 500_000 + "TypeError: 'DynamicCache' object is not subscriptable\n")
    report = on(machine(), file)
    assert report.good
    assert report.data["matches"][0]["name"] == "dynamic-cache"
