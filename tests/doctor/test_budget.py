"""The memory that is told against the memory that is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing.reductions
from machines import GIB, machine, problems
from peak_memory import PeakMemory
from random_models import random_checkpoint, random_model

from glm4.checkpoints import load_model_weights, plan_weights, read_architecture
from glm4.doctor.budget import (
    PROMPT_CHUNK,
    Decoder,
    Weights,
    cache_bytes,
    contexts_of,
    decoder_of,
    needed_bytes,
    picture_of,
    working_bytes,
)
from glm4.doctor.loadable import count_weights
from glm4.engine import generate as engine
from glm4.models.cache import KVCache
from glm4.sampling import SamplingParams

DTYPES = ["float32", "bfloat16"]


def held(model: Any) -> int:
    """Bytes of a model's tensors, each storage once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in model.state_dict().values()}
    return sum(storages.values())


def cached(cache: KVCache, dtype: torch.dtype) -> int:
    """Bytes of a cache's buffers, once every layer has written its first token."""
    for index in range(len(cache._buffers)):
        token = torch.zeros(1, cache._n_kv_heads, 1, cache._head_dim, dtype=dtype)
        cache.layer(index).update(token, token)
    return sum(tensor.untyped_storage().nbytes() for pair in cache._buffers for tensor in pair or ())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name", ["glm-4-9b", "glm-4-9b-chat", "glm-4-9b-chat-1m", "glm-4v-9b", "chatglm-6b", "chatglm-6b-int4",
             "internvl-chat-v1-1"],
)  # fmt: skip
def test_weights_and_cache_to_the_byte(shared: Path, name: str, dtype: str) -> None:
    """Every family, in every dtype: what is counted from headers is what is allocated."""
    folder = shared / "golden" / name
    architecture = read_architecture(folder)
    counted = count_weights(plan_weights(folder, architecture).model)
    model = load_model_weights(folder, architecture, dtype=getattr(torch, dtype), device=torch.device("cpu"))
    assert counted.bytes(dtype) == held(model)
    decoder = decoder_of(json.loads((folder / "config.json").read_text()))
    assert decoder is not None
    assert decoder.takes_chunks == model.takes_chunks
    assert (decoder.vocab_size, decoder.max_positions) == (model.config.vocab_size, model.config.max_positions)
    for tokens in (1, 300):
        cache = model.new_cache(batch=1, capacity=tokens)
        assert cache_bytes(decoder, tokens, dtype) == cached(cache, getattr(torch, dtype))
    assert (counted.packed > 0) == ("int4" in name)


def test_the_real_sizes(shared: Path) -> None:
    """As published: 18,799,902,784 bytes of bfloat16, less the 32 rotary frequencies nobody needs; 40 KiB a token,
    80 KiB for the 1M model."""
    for name, n_bytes, per_token in (
        ("glm-4-9b", 18_799_902_784, 40 * 1024), ("glm-4-9b-chat", 18_799_902_784, 40 * 1024),
        ("glm-4-9b-chat-1m", 18_967_715_904, 80 * 1024),
    ):  # fmt: skip
        folder = shared / "configs" / name
        architecture = read_architecture(folder)
        with torch.device("meta"):
            weights = count_weights(architecture.family.build(architecture.config))
        assert n_bytes - weights.bytes("bfloat16") == 64
        decoder = decoder_of(json.loads((folder / "config.json").read_text()))
        assert decoder is not None
        assert cache_bytes(decoder, 1, "bfloat16") == per_token
        assert decoder.max_positions == contexts_of(decoder)[-1]
        assert weights.bytes("int4") < weights.bytes("int8") < weights.bytes("bfloat16")


@pytest.mark.parametrize(
    ("name", "bits"),
    [("glm-4-9b-chat", 8), ("glm-4-9b-chat", 4), ("glm-4v-9b", 4), ("chatglm-6b", 8), ("internvl-chat-v1-1", 4)],
)
def test_quantized_to_the_byte(shared: Path, name: str, bits: int) -> None:
    """Packed while loading, the rest in 16 bits."""
    folder = shared / "golden" / name
    architecture = read_architecture(folder)
    counted = count_weights(plan_weights(folder, architecture).model)
    model = load_model_weights(folder, architecture, dtype=torch.bfloat16, device=torch.device("cpu"), quantize=bits)
    assert counted.bytes(f"int{bits}") == held(model)


@pytest.mark.parametrize(
    ("dtype", "tokens", "sizes"),
    [
        ("float32", 1024, {"hidden_size": 128, "ffn_size": 400}), ("bfloat16", 1024, {}),
        ("float32", 2 * PROMPT_CHUNK, {}), ("float32", 300, {"vocab_size": 30_000}),
    ],
)  # fmt: skip
def test_working_space(dtype: str, tokens: int, sizes: dict[str, int]) -> None:
    """The estimate is what a prompt takes, a few per cent less at worst and not three times as much."""
    sizes = {"vocab_size": 500, "hidden_size": 64, "ffn_size": 200, "n_heads": 4, "max_positions": 8192, **sizes}
    model = random_model(dtype=getattr(torch, dtype), **sizes)
    config = model.config
    decoder = Decoder(
        n_layers=config.n_layers, n_heads=config.n_heads, n_kv_heads=config.n_kv_heads, head_dim=config.head_dim,
        hidden_size=config.hidden_size, ffn_size=config.ffn_size, vocab_size=config.vocab_size,
        max_positions=config.max_positions, takes_chunks=True,
    )  # fmt: skip
    prompt = torch.randint(500, (tokens,), generator=torch.Generator().manual_seed(0)).tolist()
    params = SamplingParams(max_tokens=1, temperature=0)
    with PeakMemory() as memory:
        list(engine.generate(model, prompt, params, (), config.max_positions))
    taken = memory.peak - cache_bytes(decoder, tokens + 1, dtype)
    told = working_bytes(decoder, tokens, dtype)
    print(f"{tokens} tokens in {dtype}: {taken:,} bytes taken, {told:,} told")
    assert 0.95 * taken < told < 3 * taken
    assert engine.PROMPT_CHUNK == PROMPT_CHUNK


def test_pictures(shared: Path) -> None:
    """GLM-4V's take 1,602 tokens, InternVL's 256; text models have none."""
    real = json.loads((shared / "configs" / "glm-4v-9b" / "config.json").read_text())
    assert picture_of(real) is not None
    assert picture_of(real).tokens == 1602  # type: ignore[union-attr]
    tower = {"image_size": 224, "patch_size": 14, "hidden_size": 3200, "intermediate_size": 12800}
    internvl = picture_of({"force_image_size": 448, "llm_config": {}, "vision_config": tower})
    assert internvl is not None
    assert internvl.tokens == 256
    assert picture_of({}) is None


def test_a_large_model_and_what_helps(on: Any, shared: Path) -> None:
    """GLM-4-9B-Chat (17.5 GiB in bfloat16) on machines of all sizes."""
    folder = shared / "configs" / "glm-4-9b-chat"
    for there, wishes, words in (
        (machine(64), {}, None),
        (machine(64), {"dtype": "float32"}, None),
        (machine(30), {"dtype": "float32"}, 'dtype="bfloat16" fits'),
        (machine(12), {}, "quantized to 8 or 4 bits"),
        (machine(8), {}, "quantized to 4 bits"),
        (machine(2), {}, "more memory"),
        (machine(64, (24,)), {}, None),
        (machine(64, (12,)), {}, 'device="cpu" fits, 64.0 GiB are free there'),
        (machine(64, (12,)), {"device": "cpu"}, None),
        (machine(8, (12, 12)), {}, 'device_map="auto" spreads it'),
        (machine(8, (12, 24)), {}, 'device="cuda:1" fits'),
        (machine(8, (12, 24)), {"device": "cuda:1"}, None),
    ):
        report = on(there, folder, **wishes)
        memory = [pair for pair in report.problems if "does not fit" in pair[0]]
        assert report.data["fits"] == (words is None)
        assert [words in remedy for _, remedy in memory] == ([True] if words else []), (words, problems(report))


def test_the_table(on: Any, shared: Path) -> None:
    """Numbers that a person can check, and marks where they are too large."""
    report = on(machine(20), shared / "configs" / "glm-4-9b-chat")
    lines = report.as_text().splitlines()
    heads = next(line for line in lines if "weights        2K" in line)
    assert heads.split() == ["weights", "2K", "8K", "32K", "128K"]
    row = next(line for line in lines if line.startswith("  bf16, fp16"))
    assert row.split()[2] == "17.5"
    assert row.rstrip().endswith("x"), "128K needs 5 GiB of cache more"
    assert "Free here: 20.0 GiB in RAM." in report.as_text()
    data = report.data["memory"]["bfloat16"]
    assert data["weights"] == 18_799_902_720
    assert data["contexts"]["131072"]["cache"] == 5 * GIB
    assert "c: fits in RAM" in on(machine(64, (12,)), shared / "configs" / "glm-4-9b-chat").as_text()


def test_a_device_that_is_not_there(on: Any, tmp_path: Path) -> None:
    """Said, with those that are."""
    folder = random_checkpoint(tmp_path / "model")
    for there, device, words in (
        (machine(), "cuda", "here there are: cpu"), (machine(8, (8,)), "cuda:1", "here there are: cpu, cuda:0"),
        (machine(8, (8,)), "cuda", ""), (machine(), "cpu", ""), (machine(), "auto", ""),
    ):  # fmt: skip
        report = on(there, folder, device=device)
        assert report.good == (not words)
        assert words in problems(report)


@pytest.mark.parametrize("config", [{}, {"num_layers": "x"}, {"num_layers": True}, {"llm_config": 3}])
def test_sizes_that_are_not_there(config: dict[str, Any]) -> None:
    """No decoder rather than a wrong one."""
    assert decoder_of(config) is None


def test_needed_is_the_sum() -> None:
    """Of the three."""
    weights = Weights(linear=1000, rows=10, other=100)
    decoder = Decoder(2, 4, 2, 16, 64, 128, 300, 4096, True)
    parts = weights.bytes("int8") + cache_bytes(decoder, 10, "int8") + working_bytes(decoder, 10, "int8")
    assert needed_bytes(weights, decoder, 10, "int8") == parts
    assert cache_bytes(decoder, 10, "int8") == cache_bytes(decoder, 10, "bfloat16") == 2 * 2 * 2 * 16 * 10 * 2


def test_small_models_are_told_in_small_units(on: Any, tmp_path: Path) -> None:
    """Zeros would help nobody."""
    report = on(machine(), random_checkpoint(tmp_path / "model"))
    assert "Memory it needs (MiB)" in report.as_text()
