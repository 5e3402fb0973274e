"""InternVL-Chat-V1-1's folders: facts that stand in other places than config.json, blocks nobody needs, bad values."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from random_internvl import ADDED, DECODER, TOWER, raw_config, read, tensors, write_checkpoint, write_tokenizer
from torch import Tensor

from glm4.checkpoints import load_model_weights, read_architecture
from glm4.errors import CheckpointError, ConfigError
from glm4.models.internvl import InternVL


def load(folder: Path) -> InternVL:
    """The folder's model; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        architecture = read_architecture(folder)
        model = load_model_weights(folder, architecture, dtype=torch.float32, device=torch.device("cpu"))
    assert isinstance(model, InternVL)
    return model


def same(a: InternVL, b: InternVL) -> bool:
    """Whether the weights are equal."""
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def unused_blocks(value: float) -> dict[str, Tensor]:
    """Tensors of the tower's last three blocks."""
    names = ("norm1.weight", "ls1", "attn.qkv.weight", "mlp.fc1.bias")
    return {f"vision_model.encoder.layers.{i}.{name}": torch.full((3,), value) for i in (3, 4, 5) for name in names}


def test_round_trip(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path, seed=1)
    assert same(load(tmp_path), model)


@pytest.mark.parametrize("legacy", [False, True])
def test_shards(tmp_path: Path, legacy: bool) -> None:
    """As published: .bin shards and their index, new and old pickles."""
    model = write_checkpoint(tmp_path, seed=2)
    everything = tensors(model) | unused_blocks(float("nan"))
    (tmp_path / "pytorch_model.bin").unlink()
    names = [f"pytorch_model-{i + 1:05d}-of-00004.bin" for i in range(4)]
    weight_map = {name: names[i % 4] for i, name in enumerate(everything)}
    for shard in names:
        part = {name: tensor for name, tensor in everything.items() if weight_map[name] == shard}
        torch.save(part, tmp_path / shard, _use_new_zipfile_serialization=not legacy)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert same(load(tmp_path), model)


def test_blocks_behind_the_taken_layer_do_not_matter(tmp_path: Path) -> None:
    """Absent, present, or full of nonsense: neither loaded nor warned about. One past the last block is unknown."""
    model = write_checkpoint(tmp_path)
    weights = tensors(model)
    for extra in ({}, unused_blocks(float("nan")), {"language_model.model.rotary_emb.inv_freq": torch.ones(2)}):
        torch.save(weights | extra, tmp_path / "pytorch_model.bin")
        assert same(load(tmp_path), model)
    torch.save(weights | {"vision_model.encoder.layers.6.ls1": torch.ones(32)}, tmp_path / "pytorch_model.bin")
    with pytest.warns(UserWarning, match=r"no use to this model: vision_model\.encoder\.layers\.6\.ls1"):
        load_model_weights(tmp_path, read_architecture(tmp_path), dtype=torch.float32, device=torch.device("cpu"))


def test_stored_position_embedding_decides_its_grid(tmp_path: Path) -> None:
    """The tower's own image_size may say less than what the embedding was trained for, or more."""
    for own_size in (28, 56, 224):
        model = write_checkpoint(tmp_path, vision_config={"image_size": 56})
        (tmp_path / "config.json").write_text(json.dumps(raw_config(vision_config={"image_size": own_size})))
        loaded = load(tmp_path)
        assert (loaded.config.vision.stored_grid, loaded.config.vision.grid) == (4, 4)
        assert same(loaded, model)
    weights = tensors(model)
    weights["vision_model.embeddings.position_embedding"] = torch.zeros(1, 18, 32)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"position_embedding has shape \[1, 18, 32\]"):
        load(tmp_path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    weights = tensors(write_checkpoint(tmp_path))
    for name in ("mlp1.0.bias", "vision_model.encoder.layers.2.ls1", "vision_model.embeddings.position_embedding"):
        torch.save({k: v for k, v in weights.items() if k != name}, tmp_path / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match=f"lacks 1 of .*{name}"):
            load(tmp_path)


def test_the_tokenizer_says_which_id_is_the_context(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    architecture = read_architecture(tmp_path)
    assert architecture.config.img_context_id is None
    assert architecture.named({"<IMG_CONTEXT>": 17}).config.img_context_id == 17
    assert architecture.named({}).config.img_context_id is None
    assert read(img_context_token_id=30).img_context_id == 30


def test_its_place_among_the_added_tokens_does_not_matter(tmp_path: Path) -> None:
    import glm4

    write_checkpoint(tmp_path, tokenizer=False)
    n_pieces = write_tokenizer(tmp_path, ("<pad>", "<box>", *reversed(ADDED)))
    llm = glm4.load_model(tmp_path, device="cpu")
    assert llm.model.config.img_context_id == n_pieces + 4


# config.json ---------------------------------------------------------------------------------------------------------


def test_keys_that_january_2024_did_not_have() -> None:
    """ps_version, select_layer, norm_type, num_key_value_heads, rope_theta: what the code of the time had built in."""
    old = read(
        ps_version=None, select_layer=None, vision_config={"norm_type": None}, llm_config={"num_key_value_heads": None}
    )
    assert (old.shuffle, old.vision.n_layers, old.n_kv_heads, old.rope_theta) == ("v1", 3, 4, 10000.0)
    new = read(ps_version="v2", select_layer=-1, llm_config={"rope_theta": 5e5})
    assert (new.shuffle, new.vision.n_layers, new.rope_theta) == ("v2", 6, 5e5)
    nested = {"rope_parameters": {"rope_type": "default", "rope_theta": 2e4}}
    assert read(llm_config=nested).rope_theta == 2e4


def test_the_published_sizes() -> None:
    """InternVL-Chat-V1-1 as its card has it: 256 tokens a picture, 45 of 48 blocks computed, 19.1 billion weights."""
    config = read(
        force_image_size=448,
        vision_config={
            "hidden_size": 3200, "num_attention_heads": 25, "num_hidden_layers": 48, "intermediate_size": 12800,
            "image_size": 224,
        },
        llm_config={
            "hidden_size": 5120, "intermediate_size": 13824, "num_attention_heads": 40, "num_key_value_heads": 40,
            "num_hidden_layers": 40, "vocab_size": 42_000, "max_position_embeddings": 4096,
        },
    )  # fmt: skip
    assert (config.tokens_per_picture, config.vision.n_layers, config.head_dim) == (256, 45, 128)
    with torch.device("meta"):
        model = InternVL(config)
    tower = sum(p.numel() for p in model.vision_model.parameters())
    joining = sum(p.numel() for p in model.mlp1.parameters())
    assert round(tower / 45 * 48 / 1e9, 1) == 5.9
    assert round(joining / 1e6, 2) == 91.79
    assert "rope" not in " ".join(model.state_dict())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"select_layer": 0}, "select_layer is 0; a tower of 6 layers has 1 to 6, or, .*, -1 to -6"),
        ({"select_layer": -7}, "select_layer is -7"),
        ({"select_layer": 7}, "select_layer is 7"),
        ({"select_layer": "last"}, "select_layer is 'last'"),
        ({"select_layer": True}, "select_layer is True"),
        ({"ps_version": "v3"}, "ps_version is 'v3'; known are 'v1' and 'v2'"),
        ({"downsample_ratio": 0.3}, "downsample_ratio is 0.3"),
        ({"downsample_ratio": 2.0}, "downsample_ratio is 2.0"),
        ({"downsample_ratio": 1e-300}, "downsample_ratio is 1e-300"),
        ({"downsample_ratio": None}, "'downsample_ratio' is missing"),
        ({"force_image_size": 70}, "pictures of 70 pixels .* squares of 2 x 2 patches of 14"),
        ({"force_image_size": 28 * 50_000}, "force_image_size is 1400000 pixels, more than the 4096"),
        ({"vision_config": {"image_size": 4097}}, "image_size is 4097 pixels"),
        ({"dynamic_image_size": True}, "dynamic_image_size is True"),
        ({"use_thumbnail": True}, "use_thumbnail is True"),
        ({"pad2square": True}, "pad2square is True"),
        ({"use_llm_lora": 16}, "use_llm_lora is 16"),
        ({"img_context_token_id": 400}, "img_context_token_id is 400; ids are from 0 to 399"),
        ({"llm_config": None}, "llm_config is None, expected an object"),
        ({"vision_config": [1]}, "vision_config is .*, expected an object"),
        ({"llm_config": {"model_type": "internlm2"}}, "the language model inside is 'internlm2'; only LLaMA"),
        ({"llm_config": {"rope_scaling": {"type": "linear", "factor": 2}}}, "rope_scaling is"),
        ({"llm_config": {"attention_bias": True}}, "attention_bias is True"),
        ({"llm_config": {"hidden_act": "gelu"}}, "hidden_act is 'gelu'"),
        ({"llm_config": {"tie_word_embeddings": True}}, "tie_word_embeddings is True"),
        ({"llm_config": {"num_key_value_heads": 3}}, "4 heads of 8 that share 3"),
        ({"llm_config": {"num_attention_heads": 32}}, "32 heads of 1"),
        ({"llm_config": {"rms_norm_eps": None}}, "'rms_norm_eps' is missing"),
        ({"llm_config": {"vocab_size": -1}}, "vocab_size is -1"),
        ({"llm_config": {"num_hidden_layers": 10**6}}, "num_hidden_layers is 1000000, more than"),
        ({"vision_config": {"qk_normalization": False}}, "qk_normalization is False"),
        ({"vision_config": {"qkv_bias": True}}, "qkv_bias is True"),
        ({"vision_config": {"norm_type": "layer_norm"}}, "norm_type is 'layer_norm'"),
        ({"vision_config": {"hidden_act": "quick_gelu"}}, "hidden_act is 'quick_gelu'"),
        ({"vision_config": {"num_attention_heads": 5}}, "5 heads do not divide hidden_size 32"),
        ({"vision_config": {"layer_norm_eps": None}}, "'layer_norm_eps' is missing"),
        ({"vision_config": {"num_hidden_layers": 10**9}}, "more than the"),
    ],
)
def test_bad_values(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read(**changes)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("part", ["vision_config", "llm_config", None])
def test_no_value_crashes(part: str | None) -> None:
    """Whatever a key holds: a configuration or a ConfigError."""
    keys = {"vision_config": TOWER, "llm_config": DECODER, None: raw_config()}[part]
    for key in keys:
        for value in (
            0,
            -1,
            1,
            2**40,
            0.5,
            float("nan"),
            float("inf"),
            "x",
            True,
            [],
            {},
            {"a": 1},
            ["LlamaForCausalLM"],
        ):
            changes = {key: value} if part is None else {part: {key: value}}
            if part is None and key in ("vision_config", "llm_config") and isinstance(value, dict):
                continue
            try:
                config = read(**changes)
            except ConfigError:
                continue
            assert config.tokens_per_picture > 0
