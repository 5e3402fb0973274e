"""Which format a checkpoint folder gets, from what is in it; and the object that holds tokenizer and format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizer import tiny_ranks, tiny_tokenizer, write_ranks

from glm4.chat import ChatTokenizer, load_chat_format
from glm4.chat.glm4 import Glm4Format
from glm4.chat.template import TemplateFormat
from glm4.errors import CheckpointError, ConfigError, InputError
from glm4.tokenizers import Tokenizer

TINY = tiny_tokenizer()
HI = [{"role": "user", "content": "hi"}]


def _write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def _name(folder: Path, model_config: dict[str, Any] | None = None) -> str:
    return load_chat_format(folder, TINY, model_config).name


@pytest.mark.parametrize(
    ("checkpoint", "name", "is_base"),
    [
        ("glm-4-9b", "glm-4-base", True),
        ("glm-4-9b-chat", "glm-4-chat", False),
        ("glm-4-9b-chat-1m", "glm-4-chat-1m", False),
        ("glm-4v-9b", "glm-4v", False),
    ],
)
def test_the_real_checkpoints_under_any_name(
    checkpoint: str, name: str, is_base: bool, shared: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "glm-4v-9b-chat-1m-base"  # says everything, means nothing
    shutil.copytree(shared / "configs" / checkpoint, folder)
    shutil.copy(shared / "tokenizers" / "glm-4" / "tokenizer.model", folder)
    tokenizer = ChatTokenizer.load(folder)
    assert (tokenizer.format.name, tokenizer.format.is_base) == (name, is_base)
    assert tokenizer.render(HI) == [151331, 151333, 151336, 198, 6023, 151337]
    assert (tokenizer.vocab_size, tokenizer.tokenizer.padded_vocab_size) == (151343, 151552)
    assert tokenizer.decode([151551]) == ""


def test_a_known_template_is_known_wherever_it_stands(shared: Path, tmp_path: Path) -> None:
    path = shared / "configs" / "glm-4-9b-chat" / "tokenizer_config.json"
    template = json.loads(path.read_text(encoding="utf-8"))["chat_template"]
    _write(tmp_path, "chat_template.jinja", template.replace("\n", "\r\n") + "\n")
    assert _name(tmp_path) == "glm-4-chat"
    (tmp_path / "chat_template.jinja").unlink()
    _write(tmp_path, "tokenizer_config.json", {"chat_template": [{"name": "default", "template": template}]})
    assert _name(tmp_path) == "glm-4-chat"
    _write(tmp_path, "tokenizer_config.json", {"chat_template": template + "x"})
    assert _name(tmp_path) == "custom template"


def test_the_file_wins_over_the_configuration_and_names_are_kept(tmp_path: Path) -> None:
    _write(tmp_path, "tokenizer_config.json", {"chat_template": "config", "eos_token": {"content": "<|user|>"}})
    _write(tmp_path, "chat_template.jinja", "file {{ eos_token }}")
    (tmp_path / "additional_chat_templates").mkdir()
    _write(tmp_path, "additional_chat_templates/tool_use.jinja", "tools")
    chat = load_chat_format(tmp_path, TINY)
    assert chat.render_text(HI) == "file <|user|>"
    assert chat.render(HI)[-1] == TINY.special_tokens["<|user|>"]
    assert chat.render_text(HI, [{"type": "python"}]) == "tools"


def test_without_a_template_the_model_decides(tmp_path: Path) -> None:
    assert _name(tmp_path) == "glm-4-base"
    assert _name(tmp_path, {"rope_ratio": 1}) == "glm-4-base"
    assert _name(tmp_path, {"vision_config": {}}) == "glm-4v"
    assert _name(tmp_path, {"vision_config": None}) == "glm-4-base"
    assert _name(tmp_path, {"rope_ratio": 500, "multi_query_group_num": 2}) == "glm-4-chat"
    assert _name(tmp_path, {"rope_ratio": 10000, "multi_query_group_num": 4}) == "glm-4-chat-1m"


@pytest.mark.parametrize(
    ("theta", "heads", "name"),
    [(10_000.0, 2, "glm-4-base"), (5_000_000.0, 2, "glm-4-chat"), (100_000_000.0, 4, "glm-4-chat-1m")],
)
def test_without_a_template_the_hf_layout_decides_as_the_original(
    theta: float, heads: int, name: str, tmp_path: Path
) -> None:
    config = {"model_type": "glm", "num_key_value_heads": heads}
    assert _name(tmp_path, config | {"rope_theta": theta}) == name
    assert _name(tmp_path, config | {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}) == name
    assert _name(tmp_path, config | {"rope_theta": None, "rope_parameters": {"rope_theta": theta}}) == name


def test_a_named_format_wins(tmp_path: Path) -> None:
    _write(tmp_path, "tokenizer_config.json", {"chat_format": "glm-4-chat-1m", "chat_template": "x"})
    assert _name(tmp_path, {"vision_config": {}}) == "glm-4-chat-1m"
    _write(tmp_path, "tokenizer_config.json", {"chat_format": "chatml"})
    with pytest.raises(ConfigError, match="'chatml' is unknown; known are glm-4-base"):
        _name(tmp_path)


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        ("{", ConfigError, r"tokenizer_config\.json is not valid JSON"),
        ("[" * 100_000, ConfigError, r"tokenizer_config\.json is not valid JSON"),
        ("[]", ConfigError, r"tokenizer_config\.json holds a JSON list, an object is expected"),
        ({"chat_template": 5}, ConfigError, "chat_template is int"),
        ({"chat_template": ["x"]}, ConfigError, "a list, but not of name and template"),
        ({"chat_template": "{% for %}"}, ConfigError, "does not compile"),
    ],
)
def test_damaged_files(config: Any, error: type[Exception], says: str, tmp_path: Path) -> None:
    _write(tmp_path, "tokenizer_config.json", config)
    with pytest.raises(error, match=says):
        load_chat_format(tmp_path, TINY)


def test_damaged_template_file(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja: not UTF-8"):
        load_chat_format(tmp_path, TINY)


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json"])
def test_files_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=rf"cannot read .*{name}: Is a directory"):
        load_chat_format(tmp_path, TINY)


# ChatTokenizer.


@pytest.fixture
def loaded(tmp_path: Path) -> ChatTokenizer:
    """A small tokenizer in a folder with a config.json."""
    write_ranks(tmp_path / "tokenizer.model")
    _write(tmp_path, "config.json", {"padded_vocab_size": 512, "rope_ratio": 500})
    return ChatTokenizer.load(tmp_path)


def test_it_delegates(loaded: ChatTokenizer) -> None:
    tools = [{"name": "f"}]
    assert loaded.special_tokens == TINY.special_tokens
    assert loaded.stop_token_ids == TINY.stop_token_ids
    assert loaded.prefix_ids == TINY.prefix_ids
    assert loaded.vocab_size == TINY.vocab_size
    assert loaded.encode("hello<|user|>") == TINY.encode("hello<|user|>")
    assert loaded.encode("<|user|>", False, parse_special=False) == TINY.encode("<|user|>", False, parse_special=False)
    assert loaded.decode(loaded.encode("hello"), skip_special_tokens=True) == "hello"
    assert loaded.decode(loaded.prefix_ids, spaces_between_special_tokens=False) == "[gMASK]<sop>"
    assert loaded.bytes_of(97) == b"a"
    assert loaded.render(HI, tools) == loaded.format.render(HI, tools)
    assert loaded.render_text(HI, add_generation_prompt=False) == "[gMASK]<sop><|user|>\nhi"
    assert loaded.render_for_training(HI).ids == loaded.render(HI, add_generation_prompt=False)
    assert loaded.parse("f\n{}", tools).tool_calls[0].name == "f"
    assert loaded.reply_parser(tools).push("x") != []


def test_its_errors_are_this_librarys(loaded: ChatTokenizer, tmp_path: Path) -> None:
    for call in (loaded.decode, lambda ids: loaded.bytes_of(ids[0])):
        with pytest.raises(InputError, match="512 is out of range"):
            call([512])
    with pytest.raises(InputError, match="must be a string"):
        loaded.encode(5)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is missing"):
        ChatTokenizer.load(tmp_path / "empty")
    (tmp_path / "tokenizer.model").write_bytes(b"AA== 0\n")
    with pytest.raises(CheckpointError, match="255 of the 256 single bytes"):
        ChatTokenizer.load(tmp_path)
    for name in ("tokenizer_config.json", "config.json"):
        _write(tmp_path, name, "{")
        with pytest.raises(ConfigError, match=rf"/{name} is not valid JSON"):
            ChatTokenizer.load(tmp_path)


@pytest.mark.parametrize("bad", [True, 97.0, 512])
def test_wrong_ids_in_a_reply(loaded: ChatTokenizer, bad: Any) -> None:
    for call in (loaded.decode, loaded.parse, lambda ids: loaded.bytes_of(ids[0])):
        with pytest.raises(InputError, match=f"token id {bad} "):
            call([bad])


def test_a_configuration_that_was_read_before_is_not_read_again(tmp_path: Path) -> None:
    write_ranks(tmp_path / "tokenizer.model")
    _write(tmp_path, "config.json", "not looked at")
    loaded = ChatTokenizer.load(tmp_path, {"padded_vocab_size": 512, "rope_ratio": 500})
    assert (loaded.tokenizer.padded_vocab_size, loaded.format.name) == (512, "glm-4-chat")
    assert ChatTokenizer.load(tmp_path, {}).format.name == "glm-4-base"


def test_a_template_of_a_tokenizer_without_glm4s_control_tokens() -> None:
    tokenizer = Tokenizer(tiny_ranks(), {"<end>": 400})
    chat = ChatTokenizer(tokenizer, TemplateFormat(tokenizer, {"default": "{{ messages[0].content }}<end>"}, {}))
    assert chat.render(HI) == [*b"hi", 400]
    assert (chat.prefix_ids, chat.stop_token_ids) == ([], frozenset())
    assert chat.parse([*b"hi"]) == chat.parse("hi") == chat.parse([*b"hi", 400])
    with pytest.raises(ConfigError, match="has no control token"):
        Glm4Format(tokenizer, "glm-4-chat")
