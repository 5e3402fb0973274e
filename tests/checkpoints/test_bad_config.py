"""config.json as it should not be: each mistake is named with the file, the key and the value, and harms nothing."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from random_models import load, random_checkpoint

import glm4
from glm4.checkpoints import read_architecture
from glm4.errors import CheckpointError, ConfigError, Glm4Error

INTEGERS = {
    "thudm": [
        "padded_vocab_size", "hidden_size", "ffn_hidden_size", "num_layers", "num_attention_heads", "kv_channels",
        "multi_query_group_num", "seq_length",
    ],
    "hf": [
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim",
        "num_key_value_heads", "max_position_embeddings",
    ],
}  # fmt: skip
FLOATS = {"thudm": ["layernorm_epsilon", "rope_ratio"], "hf": ["rms_norm_eps", "rope_theta", "partial_rotary_factor"]}
FLAGS = {
    "thudm": [
        "add_qkv_bias", "multi_query_attention", "rmsnorm", "post_layer_norm", "add_bias_linear", "original_rope",
        "apply_residual_connection_post_layernorm", "tie_word_embeddings",
    ],
    "hf": ["attention_bias", "tie_word_embeddings"],
}  # fmt: skip
OPTIONAL = {"rope_ratio", "tie_word_embeddings", "partial_rotary_factor"}  # absent or null has one clear meaning

BAD_NUMBERS = ["16", "", True, [], {}, -1, 0, float("nan"), float("inf"), -float("inf"), 10**400]
BAD_INTEGERS = [*BAD_NUMBERS, 2.5, 16.0, 2**63, 2**40, None]
BAD_FLAGS = ["yes", 1, 0, [], float("nan")]


def each(table: dict[str, list[str]], values: list[Any]) -> Iterator[Any]:
    """Every key of both layouts with every value."""
    for layout, keys in table.items():
        for key in keys:
            for value in values:
                yield pytest.param(layout, key, value, id=f"{layout}-{key}-{str(value)[:12]}")


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Replace config.json."""
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture
def thudm(tmp_path: Path) -> Path:
    """A good folder of the original's layout."""
    return random_checkpoint(tmp_path, "thudm")


def config_of(folder: Path) -> dict[str, Any]:
    """Its config.json."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("layout", "key", "value"),
    [*each(INTEGERS, BAD_INTEGERS), *each(FLOATS, BAD_NUMBERS), *each(FLAGS, BAD_FLAGS)],
)
def test_a_value_of_the_wrong_kind(layout: str, key: str, value: Any, tmp_path: Path) -> None:
    """Not a traceback from torch, not a model of nonsense, not minutes of building a billion layers."""
    random_checkpoint(tmp_path, layout)
    good = config_of(tmp_path)
    write_config(tmp_path, good | {key: value})
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    for part in (str(tmp_path / "config.json"), key, repr(value)[:20]):
        assert part in str(caught.value), f"{part!r} is not named"
    write_config(tmp_path, good)
    load(tmp_path)


@pytest.mark.parametrize(
    ("layout", "key"), [(layout, key) for t in (INTEGERS, FLOATS, FLAGS) for layout in t for key in t[layout]]
)
def test_a_missing_fact(layout: str, key: str, tmp_path: Path) -> None:
    """A default here would be a guess about somebody's weights."""
    random_checkpoint(tmp_path, layout)
    write_config(tmp_path, {k: v for k, v in config_of(tmp_path).items() if k != key})
    if key in OPTIONAL:
        load(tmp_path)
        return
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)
    assert repr(key) in str(caught.value)
    assert "restore" in str(caught.value)


def test_ungrouped_attention_needs_no_group_count(thudm: Path) -> None:
    """multi_query_attention false means one key/value head for each query head."""
    write_config(thudm, config_of(thudm) | {"multi_query_attention": False, "multi_query_group_num": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_architecture(thudm).config.n_kv_heads == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rmsnorm", False), ("post_layer_norm", False), ("add_bias_linear", True), ("original_rope", False),
        ("apply_residual_connection_post_layernorm", True), ("fp32_residual_connection", True),
        ("tie_word_embeddings", True),
    ],
)  # fmt: skip
def test_a_forward_pass_this_library_does_not_have(key: str, value: bool, thudm: Path) -> None:
    """Honoured or refused, never ignored."""
    write_config(thudm, config_of(thudm) | {key: value})
    with pytest.raises(ConfigError, match=rf"config\.json: {key} is {value}; only {not value} is implemented"):
        load(thudm)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; only 'silu'"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling is .*linear.* no scaling"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4}}, "rope_type is 'yarn'"),
        ({"rope_parameters": "default"}, "rope_parameters is 'default'"),
        ({"rope_parameters": {"rope_type": "default"}}, "rope_theta"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": float("nan")}}, "rope_theta is nan"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": -1}}, "partial_rotary_factor is -1"),
        ({"partial_rotary_factor": 2.0}, "rotating dimensions do not fit heads of 16"),
        ({"partial_rotary_factor": 0.19}, "3 rotating dimensions"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3, which 4 heads cannot share"),
    ],
    ids=str,
)  # fmt: skip
def test_hf_facts_that_cannot_be_honoured(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Scaled positions, another activation, heads that do not divide."""
    random_checkpoint(tmp_path, "hf")
    write_config(tmp_path, config_of(tmp_path) | changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.parametrize("layout", ["thudm", "hf"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_config": {"hidden_size": 8}}, "(vision tower|the key 'boi_token_id' is missing)"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantized .*'gptq'.*unquantized"),
        ({"quantization_config": "awq"}, "quantized .*'awq'"),
    ],
    ids=str,
)
def test_checkpoints_of_the_family_that_need_more(
    layout: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """By name, and not as tensors that are missing or of no use."""
    random_checkpoint(tmp_path, layout)
    write_config(tmp_path, config_of(tmp_path) | changes)
    with pytest.raises(ConfigError, match=rf"config\.json: .*{message}"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("pre_seq_len", 128), ("quantization_bit", 4), ("prefix_projection", True), ("num_hidden_layers", 3)],
)
def test_switches_that_change_the_original(key: str, value: Any, thudm: Path) -> None:
    """Prefix tuning, on-the-fly quantization, two keys that say different things."""
    write_config(thudm, config_of(thudm) | {key: value})
    with pytest.raises(ConfigError, match=rf"config\.json: {key} is {value}"):
        load(thudm)
    switched_off = {"pre_seq_len": None, "quantization_bit": 0, "prefix_projection": False, "num_hidden_layers": 2}
    write_config(thudm, config_of(thudm) | switched_off)
    load(thudm)


def test_a_base_beside_a_ratio(tmp_path: Path) -> None:
    """rope_ratio belongs to the original's layout: with a rope_theta beside it there is no telling which holds."""
    random_checkpoint(tmp_path, "hf")
    write_config(tmp_path, config_of(tmp_path) | {"rope_ratio": 500})
    with pytest.raises(ConfigError, match="rope_ratio is 500"):
        load(tmp_path)


def test_a_lora_adapter_instead_of_a_model(thudm: Path) -> None:
    """The folder that fine-tuning leaves behind."""
    (thudm / "config.json").rename(thudm / "adapter_config.json")
    with pytest.raises(CheckpointError, match=rf"{thudm} holds a LoRA adapter.*merge it"):
        load(thudm)


def test_sizes_that_are_possible_one_by_one(thudm: Path) -> None:
    """Each fits an integer, their product does not."""
    write_config(thudm, config_of(thudm) | {"padded_vocab_size": 2**31 - 1, "hidden_size": 2**31 - 1})
    with pytest.raises(ConfigError, match="too large to exist"):
        load(thudm)
    many = {"num_layers": 2**31 - 1, "num_hidden_layers": 2**31 - 1}
    write_config(thudm, config_of(thudm) | many | {"hidden_size": 32, "padded_vocab_size": 320})
    with pytest.raises(ConfigError, match=r"num_layers.* is 2147483647"):
        load(thudm)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, CheckpointError, "is missing"),
        ("", ConfigError, "not valid JSON"),
        ('{"model_type": "chatglm", ', ConfigError, "not valid JSON"),
        ("[" * 100_000, ConfigError, "not valid JSON"),
        ('{"seq_length": ' + "9" * 5000 + "}", ConfigError, "not valid JSON"),
        ("[1, 2]", ConfigError, "holds a JSON list"),
        ("null", ConfigError, "holds a JSON NoneType"),
        (b"\xff\xfe\x00{", ConfigError, "not valid JSON"),
        ("{}", ConfigError, "model_type None"),
        ('{"model_type": "llama"}', ConfigError, "model_type 'llama' is not supported"),
        ('{"model_type": ["chatglm"]}', ConfigError, "not supported"),
        ('{"model_type": "chatglm"}', ConfigError, "'rmsnorm' is missing"),
        ('{"model_type": "chatglm", "padded_vocab_size": 65024}', ConfigError, "ChatGLM2, ChatGLM3 .*GLM-4-9B-Chat"),
        ('{"model_type": "glm"}', ConfigError, "'hidden_act' is missing"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_the_file_itself(text: str | bytes | None, error: type[Glm4Error], message: str, thudm: Path) -> None:
    """Missing, empty, cut off, nested without end, another format, another family."""
    good = (thudm / "config.json").read_bytes()
    (thudm / "config.json").unlink()
    if text is not None:
        (thudm / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error, match=message) as caught:
        glm4.load_model(thudm)
    assert str(thudm / "config.json") in str(caught.value)
    (thudm / "config.json").write_bytes(good)
    glm4.load_model(thudm)


def test_chatglm_6b_is_told_apart_by_its_content(thudm: Path, shared: Path) -> None:
    """It has the same model_type; reading it as GLM-4 would fail far from the cause."""
    published = json.loads((shared / "configs/chatglm-6b/config.json").read_text())
    for left_out in ("_name_or_path", "architectures"):
        write_config(thudm, {k: v for k, v in published.items() if k != left_out})
        assert read_architecture(thudm).layout == "chatglm-6b"
    for left_out in ("position_encoding_2d", "inner_hidden_size"):
        write_config(thudm, {k: v for k, v in published.items() if k != left_out})
        with pytest.raises(ConfigError, match=f"the key '{left_out}' is missing"):
            read_architecture(thudm)


@pytest.mark.parametrize("layout", ["thudm", "hf"])
def test_an_unknown_key_is_warned_about_by_name(layout: str, tmp_path: Path) -> None:
    """It may be a misspelling of one that matters, or something the weights need."""
    random_checkpoint(tmp_path, layout)
    write_config(tmp_path, config_of(tmp_path) | {"rope_ration": 500, "zz_window": 4096})
    with pytest.warns(UserWarning, match=r"config\.json: .*rope_ration, zz_window"):
        load(tmp_path)


@pytest.mark.parametrize("layout", ["thudm", "hf"])
def test_our_own_saves_warn_of_nothing(layout: str, tmp_path: Path) -> None:
    """Nor do the keys that the other layout uses go unnoticed in this one."""
    random_checkpoint(tmp_path, layout, generation_config={"eos_token_id": [1], "pad_token_id": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path)


def test_code_beside_the_weights_is_never_run(thudm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """auto_map asks for it, as every published checkpoint of the family does."""
    sentinel = tmp_path / "executed"
    code = f"open({str(sentinel)!r}, 'w').write('x')\n"
    names = ["configuration_chatglm", "modeling_chatglm", "tokenization_chatglm", "sitecustomize", "torch", "__init__"]
    for name in names:
        (thudm / f"{name}.py").write_text(code)
    auto_map = {"AutoConfig": f"{names[0]}.ChatGLMConfig", "AutoModel": f"{names[1]}.ChatGLMModel"}
    write_config(thudm, config_of(thudm) | {"auto_map": auto_map})
    (thudm / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": [f"{names[2]}.ChatGLM4Tokenizer", None]}})
    )
    monkeypatch.chdir(thudm)
    for model in (thudm, ".", Path(".")):
        glm4.load_model(model)
    assert not sentinel.exists()
