"""Which format a checkpoint folder gets, from what is in it; and the object that holds tokenizer and format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizer import tiny_tokenizer, write_ranks

from glm4.chat import ChatTokenizer, load_chat_format
from glm4.errors import CheckpointError, ConfigError, InputError

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
    assert _name(tmp_path, {"rope_ratio": 500, "multi_query_group_num": 2}) == "glm-4-chat"
    assert _name(tmp_path, {"rope_ratio": 10000, "multi_query_group_num": 4}) == "glm-4-chat-1m"


def test_a_named_format_wins(tmp_path: Path) -> None:
    _write(tmp_path, "tokenizer_config.json", {"chat_format": "glm-4-chat-1m", "chat_template": "x"})
    assert _name(tmp_path, {"vision_config": {}}) == "glm-4-chat-1m"
    _write(tmp_path, "tokenizer_config.json", {"chat_format": "chatml"})
    with pytest.raises(ConfigError, match="'chatml' is unknown; known are glm-4-base"):
        _name(tmp_path)


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        ("{", CheckpointError, r"tokenizer_config\.json: not valid JSON"),
        ("[]", CheckpointError, r"tokenizer_config\.json: holds list, not an object"),
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
    _write(tmp_path, "config.json", "{")
    with pytest.raises(CheckpointError, match=r"config\.json: not valid JSON"):
        ChatTokenizer.load(tmp_path)
