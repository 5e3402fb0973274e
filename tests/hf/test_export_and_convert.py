"""export, convert and register: what is written, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from exported import ENDS, HOLDER, SPECIALS, checkpoint, load
from random_models import random_checkpoint, random_ids, reshard
from safetensors import safe_open
from tiny_tokenizer import tiny_tokenizer

import glm4
from glm4.checkpoints.convert import convert_weights
from glm4.checkpoints.files import read_tensors, stored_tensors
from glm4.cli import main
from glm4.errors import CheckpointError, ConfigError, InputError
from glm4.hf import convert, export, register
from glm4.hf.tokenizer_files import write_tokenizer_json
from glm4.tokenizers.vocabulary import read_vocabulary

IDS = random_ids(7, 2, 9, vocab_size=256)


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """Everything stored in it."""
    return {stored.name: tensor.clone() for stored, tensor in read_tensors(list(stored_tensors(folder).values()))}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """The same names, dtypes and bits."""
    assert set(one) == set(other)
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert torch.equal(tensor, other[name]), name


# export ---------------------------------------------------------------------------------------------------------------


def test_an_exported_folder_is_a_checkpoint(text_checkpoint: Path, text_folder: Path) -> None:
    """This library reads it as it reads the original, and runs none of its code."""
    source, exported = (glm4.load_model(f, dtype="float32", device="cpu") for f in (text_checkpoint, text_folder))
    assert torch.equal(source.logits(IDS), exported.logits(IDS))
    messages = [{"role": "user", "content": "hello"}]
    assert source.tokenizer.render(messages) == exported.tokenizer.render(messages)
    assert source.stop_token_ids == exported.stop_token_ids
    equal(tensors_of(text_checkpoint), tensors_of(text_folder))


@pytest.mark.parametrize("kind", ["safetensors", "without format", "bin"])
def test_shards(kind: str, tmp_path: Path) -> None:
    """Safetensors are copied as they are; anything else is written anew, and what transformers 4 would not read."""
    source = checkpoint(tmp_path / "source")
    before = tensors_of(source)
    if kind == "safetensors":
        convert_weights(source, tmp_path / "sharded", "thudm", shard_bytes=50_000)
        source, before = tmp_path / "sharded", tensors_of(tmp_path / "sharded")
    else:
        reshard(source, 3, "bin" if kind == "bin" else "safetensors")
    folder = export(source, tmp_path / "exported", shard_bytes=40_000)
    after = tensors_of(folder)
    before.setdefault("transformer.rotary_pos_emb.inv_freq", after["transformer.rotary_pos_emb.inv_freq"])
    equal(after, before)
    if kind == "safetensors":
        for file in source.glob("model*"):
            assert (folder / file.name).read_bytes() == file.read_bytes()
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert not list(folder.glob("*.bin"))
    own = glm4.load_model(source, dtype="float32", device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(load(folder)(IDS).logits, own.logits(IDS), atol=1e-5, rtol=0)


def test_links(text_checkpoint: Path, tmp_path: Path) -> None:
    linked = export(text_checkpoint, tmp_path / "linked", link=True)
    copied = export(text_checkpoint, tmp_path / "copied")
    inodes = [(folder / "model.safetensors").stat().st_ino for folder in (text_checkpoint, linked, copied)]
    assert inodes[0] == inodes[1] != inodes[2]


def test_from_transformers_own_layout(text_checkpoint: Path, text_model: Any, tmp_path: Path) -> None:
    hf = convert(text_checkpoint, tmp_path / "hf", "hf")
    model = load(export(hf, tmp_path / "exported"))
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, text_model(IDS).logits)


def test_end_tokens_are_gathered_from_all_files(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "source")
    (source / "generation_config.json").write_text(
        json.dumps({"eos_token_id": 5, "temperature": 0.5, "do_sample": True})
    )
    folder = export(source, tmp_path / "exported")
    written = json.loads((folder / "generation_config.json").read_text())
    assert written == {
        "eos_token_id": sorted({5, *ENDS}),
        "pad_token_id": HOLDER,
        "temperature": 0.5,
        "do_sample": True,
    }
    (source / "generation_config.json").unlink()
    other = export(source, tmp_path / "other")
    assert json.loads((other / "generation_config.json").read_text())["eos_token_id"] == ENDS


def test_a_template_of_its_own_is_kept(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "source")
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    (source / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "model_max_length": 99}))
    config = json.loads((export(source, tmp_path / "exported") / "tokenizer_config.json").read_text())
    assert (config["chat_template"], config["model_max_length"]) == (template, 99)
    assert "chat_format" not in config


def test_without_a_tokenizer(tmp_path: Path) -> None:
    source = random_checkpoint(tmp_path / "source")
    folder = export(source, tmp_path / "exported")
    assert not list(folder.glob("tokenizer*.*n"))
    with torch.no_grad():
        assert load(folder)(IDS).logits.shape == (2, 9, 320)


def test_other_families_are_refused(tmp_path: Path, shared: Path) -> None:
    glm0414 = random_checkpoint(tmp_path / "0414", "hf", sandwich_norms=True)
    with pytest.raises(ConfigError, match=r"Glm4ForCausalLM.*GLM-4-9B, -Chat, -Chat-1M and GLM-4V-9B can be exported"):
        export(glm0414, tmp_path / "out")
    with pytest.raises(ConfigError, match="GLM-4-0414 and GLM-Z1 in transformers' only"):
        convert(glm0414, tmp_path / "out", "thudm")
    for name in ("internvl-chat-v1-1", "chatglm-6b"):
        folder = shared / "golden" / name
        try:
            glm4.checkpoints.read_architecture(folder)
        except ConfigError:
            pytest.skip(f"{name} is not read yet")
        with pytest.raises(ConfigError, match=r"another family.*GLM-4V-9B can be exported"):
            export(folder, tmp_path / "out")
        with pytest.raises(ConfigError, match="cannot be converted to hf"):
            convert(folder, tmp_path / "out", "hf")
    assert not list(tmp_path.glob("out*"))


def test_a_target_that_is_taken(text_checkpoint: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("ten years of work")
    for write in (lambda t: export(text_checkpoint, t), lambda t: convert(text_checkpoint, t, "hf")):
        with pytest.raises(InputError, match=r"taken exists and is not empty"):
            write(taken)
        with pytest.raises(InputError, match=r"thesis.txt exists and is not empty"):
            write(taken / "thesis.txt")
        with pytest.raises(InputError, match=r"cannot be made: Not a directory"):
            write(taken / "thesis.txt" / "below")
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "thesis.txt"]
    (tmp_path / "empty").mkdir()
    assert (export(text_checkpoint, tmp_path / "empty") / "modeling_chatglm.py").is_file()


def test_a_broken_source_leaves_nothing(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "source")
    (source / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes()[:-100])
    for write in (lambda: export(source, tmp_path / "out"), lambda: convert(source, tmp_path / "out", "hf")):
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            write()
    assert not list(tmp_path.glob("out*"))


# convert --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_there_and_back(dtype: torch.dtype, tmp_path: Path) -> None:
    source = tmp_path / "source"
    random_checkpoint(source, dtype=dtype)
    before = tensors_of(source)
    convert_weights(source, tmp_path / "hf", "hf", shard_bytes=20_000)
    convert_weights(tmp_path / "hf", tmp_path / "back", "thudm", shard_bytes=20_000)
    after = tensors_of(tmp_path / "back")
    frequencies = after.pop("transformer.rotary_pos_emb.inv_freq")
    assert frequencies.shape == (4,)
    assert frequencies[0] == 1
    equal(after, before)
    for folder in ("hf", "back"):
        shards = list((tmp_path / folder).glob("model-*.safetensors"))
        assert all(file.stat().st_size < 30_000 or len(_names(file)) == 1 for file in shards)
        assert json.loads((tmp_path / folder / "config.json").read_text())["torch_dtype"] == str(dtype)[6:]


def _names(file: Path) -> list[str]:
    with safe_open(file, "pt") as opened:
        return list(opened.keys())


@pytest.mark.parametrize("name", ["glm-4-9b", "glm-4-9b-chat", "glm-4-9b-chat-1m", "glm-4v-9b"])
def test_the_originals_folders_there_and_back(name: str, shared: Path, tmp_path: Path) -> None:
    """All tensors, with the frequencies that the original computed for itself."""
    source = shared / "golden" / name
    first = source
    if name != "glm-4v-9b":
        first = tmp_path / "hf"
        convert_weights(source, first, "hf")
    convert_weights(first, tmp_path / "back", "thudm", shard_bytes=100_000)
    equal(tensors_of(tmp_path / "back"), tensors_of(source))
    raw, back = (json.loads((f / "config.json").read_text()) for f in (source, tmp_path / "back"))
    facts = {key: value for key, value in raw.items() if key in back}
    assert facts == {key: back[key] for key in facts} | {k: raw[k] for k in ("architectures",)}


def test_what_transformers_makes_of_it(tmp_path: Path) -> None:
    """Its own class and its own fast tokenizer, with no remote code."""
    source = checkpoint(tmp_path / "source", hidden_size=64)  # in 4.46 heads must divide it
    folder = convert(source, tmp_path / "hf", "hf")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    assert type(model).__name__ == "GlmForCausalLM"
    with torch.no_grad():
        own_logits = glm4.load_model(source, dtype="float32", device="cpu").logits(IDS)
        torch.testing.assert_close(model(IDS).logits, own_logits, atol=2e-5, rtol=0)
    assert model.generation_config.eos_token_id == ENDS
    own, tokenizer = tiny_tokenizer(), transformers.AutoTokenizer.from_pretrained(folder)
    for text in ('hello weather 你好天气。 {"a": 1}\n\n   \n 👍', "<|user|>\nhello<sop>", ""):
        assert tokenizer.encode(text) == own.encode(text)
        assert tokenizer.decode(own.encode(text, add_special_tokens=False)).replace(" ", "") == own.decode(
            own.encode(text, add_special_tokens=False)
        ).replace(" ", "")
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "你好"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids == glm4.load_model(source, device="cpu").tokenizer.render(messages)
    assert tokenizer.padding_side == "left"
    back = convert(folder, tmp_path / "back", "thudm")
    assert (back / "tokenizer.model").read_bytes() == (source / "tokenizer.model").read_bytes()
    assert read_vocabulary(back).special_tokens == dict(SPECIALS)
    assert json.loads((back / "tokenizer_config.json").read_text())["chat_format"] == "glm-4-chat"


@pytest.mark.slow
def test_the_real_vocabulary_there_and_back(shared: Path, tmp_path: Path) -> None:
    """151,329 tokens: the same file again, and the recorded ids from Hugging Face's own tokenizers."""
    vocabulary = read_vocabulary(shared / "tokenizers" / "glm-4")
    write_tokenizer_json(vocabulary.ranks, vocabulary.special_tokens, tmp_path / "tokenizer.json")
    assert read_vocabulary(tmp_path) == vocabulary
    from glm4.hf.tokenizer_files import write_ranks

    write_ranks(vocabulary.ranks, tmp_path / "tokenizer.model")
    original = shared / "tokenizers" / "glm-4" / "tokenizer.model"
    assert (tmp_path / "tokenizer.model").read_bytes() == original.read_bytes()
    (tmp_path / "tokenizer.model").unlink()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    recorded = json.loads((shared / "golden" / "text" / "glm-4-9b-chat.json").read_text(encoding="utf-8"))["encode"]
    for case in recorded:
        assert tokenizer.encode(case["text"]) == case["ids"], case["text"]


@pytest.mark.slow
def test_memory_stays_that_of_a_tensor(tmp_path: Path) -> None:
    """A process that converts 60 MB of weights, the largest tensor 4 MB."""
    source = tmp_path / "source"
    random_checkpoint(source, n_layers=14, hidden_size=512, ffn_size=1024, n_heads=8, head_dim=64, rotary_dim=32)
    size = (source / "model.safetensors").stat().st_size
    assert size > 60e6
    script = (
        "import resource, sys; from pathlib import Path; from glm4.checkpoints.convert import convert_weights\n"
        "from glm4.checkpoints.architecture import read_architecture; read_architecture(Path(sys.argv[1]))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "convert_weights(Path(sys.argv[1]), Path(sys.argv[2]), 'hf', shard_bytes=10**7)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(source), str(tmp_path / "hf")],
        capture_output=True, text=True, check=True, timeout=100,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert int(done.stdout) * 1024 < 0.5 * size, (
        f"{int(done.stdout) / 1024:.0f} MB for {size / 2**20:.0f} MB of weights"
    )


def test_tensors_that_would_be_lost(text_checkpoint: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(text_checkpoint, tmp_path / "source"))
    from safetensors.torch import save_file

    save_file({**tensors_of(source), "classifier_head.weight": torch.ones(2, 32)}, source / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 tensors that would be lost: classifier_head.weight"):
        convert(source, tmp_path / "hf", "hf")
    mixed = Path(shutil.copytree(convert(text_checkpoint, tmp_path / "plain", "hf"), tmp_path / "mixed"))
    tensors = tensors_of(mixed)
    tensors["model.layers.0.self_attn.k_proj.weight"] = tensors["model.layers.0.self_attn.k_proj.weight"].half()
    save_file(tensors, mixed / "model.safetensors")
    with pytest.raises(CheckpointError, match="in different dtypes"):
        convert(mixed, tmp_path / "thudm", "thudm")
    with pytest.raises(InputError, match="layout is 'gguf'; known: hf, thudm"):
        convert(text_checkpoint, tmp_path / "gguf", "gguf")  # type: ignore[arg-type]


# register -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _registered() -> Iterator[None]:
    """The classes registered, and forgotten again: the other tests load the exported ones."""
    kept = []
    for name in ("configuration_auto", "modeling_auto", "tokenization_auto"):
        module = importlib.import_module(f"transformers.models.auto.{name}")
        for value in vars(module).values():
            registry = getattr(value, "_extra_content", value)
            if isinstance(registry, dict):
                kept.append((registry, dict(registry)))
    register()
    register()  # twice does no harm
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("sees", [False, True])
def test_the_originals_folders_without_their_code(sees: bool, tmp_path: Path) -> None:
    """As they were published: an auto_map to code, here code that must not run, and no chat template."""
    source = checkpoint(tmp_path / "source", sees=sees)
    raw = json.loads((source / "config.json").read_text())
    auto_map = {
        "AutoConfig": "configuration_chatglm.ChatGLMConfig",
        "AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration",
    }
    (source / "config.json").write_text(json.dumps(raw | {"auto_map": auto_map}))
    config = {
        "auto_map": {"AutoTokenizer": ["tokenization_chatglm.ChatGLM4Tokenizer", None]},
        "tokenizer_class": "ChatGLM4Tokenizer", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
    }  # fmt: skip
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    for name in ("configuration", "modeling", "tokenization"):
        (source / f"{name}_chatglm.py").write_text("raise SystemExit('the checkpoint\\'s code was run')\n")
    config = transformers.AutoConfig.from_pretrained(source)
    assert type(config).__module__ == "glm4.hf.configuration_chatglm"
    model = transformers.AutoModelForCausalLM.from_pretrained(source, torch_dtype=torch.float32).eval()
    assert type(model).__module__ == "glm4.hf.modeling_chatglm"
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    own = glm4.load_model(source, dtype="float32", device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, own.logits(IDS), atol=1e-5, rtol=0)
    messages = [{"role": "user", "content": "hello"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert prompt == own.tokenizer.render(messages)
    assert tokenizer.image_size == (56 if sees else None)
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    assert "auto_map" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved", torch_dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "saved").encode("hi") == tokenizer.encode("hi")
    assert torch.equal(glm4.load_model(tmp_path / "saved", dtype="float32", device="cpu").logits(IDS), own.logits(IDS))


# The command ----------------------------------------------------------------------------------------------------------


def test_the_commands(text_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, there = str(text_checkpoint), str(tmp_path / "hf")
    assert main(["convert", source, there, "--to", "hf", "--max-shard-size", "40KB"]) == 0
    assert len(list((tmp_path / "hf").glob("model-*.safetensors"))) > 1
    assert main(["export", there, str(tmp_path / "exported"), "--max-shard-size", "1GiB"]) == 0
    assert main(["export", source, str(tmp_path / "linked"), "--link"]) == 0
    out = capsys.readouterr().out
    assert "written in the layout hf" in out
    assert f"from_pretrained({str(tmp_path / 'exported')!r}, trust_remote_code=True)" in out
    assert main(["export", source, there]) == 1
    assert "hf exists and is not empty; name a new folder" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "nowhere"), str(tmp_path / "out"), "--to", "thudm"]) == 1
    assert "error: there is no folder" in capsys.readouterr().err
    for wrong in ("40XB", "0", "-3GB", "GB"):
        with pytest.raises(SystemExit):
            main(["convert", source, str(tmp_path / "out"), "--to", "hf", f"--max-shard-size={wrong}"])
        assert "is no size; write 4GB" in capsys.readouterr().err
