"""The tokenizer's files: both layouts, and what is said about damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_tokenizer import tiny_ranks, tiny_tokenizer, write_ranks

from glm4.tokenizers import Tokenizer, load_tokenizer
from glm4.tokenizers.bpe import PATTERN
from glm4.tokenizers.vocabulary import byte_letters

N_RANKS = len(tiny_ranks())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint folder with a small tokenizer.model."""
    write_ranks(tmp_path / "tokenizer.model")
    return tmp_path


def _configure(folder: Path, config: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def test_control_tokens_follow_the_ranks(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert tokenizer.special_tokens == tiny_tokenizer().special_tokens
    assert tokenizer.special_tokens["<|endoftext|>"] == N_RANKS
    assert tokenizer.vocab_size == N_RANKS + 14


def test_the_configuration_may_number_them_otherwise(folder: Path) -> None:
    _configure(
        folder, {"added_tokens_decoder": {str(N_RANKS + 20): {"content": "<|user|>"}, "900": {"content": "<new>"}}}
    )
    tokenizer = load_tokenizer(folder)
    assert tokenizer.special_tokens["<|user|>"] == N_RANKS + 20
    assert tokenizer.special_tokens["<new>"] == 900
    assert tokenizer.special_tokens["<|assistant|>"] == N_RANKS + 8
    assert tokenizer.encode("<new>", add_special_tokens=False) == [900]


def test_additional_tokens_are_numbered_behind_the_fourteen(folder: Path) -> None:
    _configure(folder, {"additional_special_tokens": ["<|user|>", {"content": "<mine>"}]})
    assert load_tokenizer(folder).special_tokens["<mine>"] == N_RANKS + 14


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.model is missing"):
        load_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_tokenizer(tmp_path / "nowhere")


def _line(path: Path, number: int, text: bytes | None) -> None:
    lines = path.read_bytes().splitlines()
    lines[number - 1 : number] = [] if text is None else [text]
    path.write_bytes(b"\n".join(lines))


@pytest.mark.parametrize(
    ("number", "text", "says"),
    [
        (7, b"!!! 6", r"line 7: '!!! 6' is not '<base64> <rank>'"),
        (7, b"Bg==", r"line 7: 'Bg==' is not"),
        (7, b"Bg== six", "line 7"),
        (8, b"Bg== 7", r"line 8: token b'\\x06' stands twice"),
        (7, b"Bg== 9000", "not 0 to"),
        (7, None, "not 0 to"),
        (290, b"\x00\x01binary", "line 290.*SentencePiece"),
    ],
)
def test_damaged_ranks_name_the_file_the_line_and_the_remedy(
    folder: Path, number: int, text: bytes | None, says: str
) -> None:
    _line(folder / "tokenizer.model", number, text)
    with pytest.raises(ValueError, match=rf"tokenizer\.model.*{says}.*download the file again"):
        load_tokenizer(folder)


def test_truncated_file(folder: Path) -> None:
    path = folder / "tokenizer.model"
    path.write_bytes(b"\n".join(path.read_bytes().splitlines()[:200]))
    with pytest.raises(ValueError, match=r"56 of the 256 single bytes have no token \(first 0xc8\)"):
        load_tokenizer(folder)


def test_empty_file(folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes(b"")
    with pytest.raises(ValueError, match="256 of the 256"):
        load_tokenizer(folder)


def test_sentencepiece_model_is_recognised(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes((shared / "tokenizers" / "llama-2" / "tokenizer.model").read_bytes())
    with pytest.raises(ValueError, match="SentencePiece"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"added_tokens_decoder": {"5": {"content": "<|user|>"}}}, "id 5, which the vocabulary's .* already"),
        ({"added_tokens_decoder": {"x": {"content": "<|user|>"}}}, "cannot be read"),
        ({"added_tokens_decoder": {"900": "text"}}, "cannot be read"),
        ({"added_tokens_decoder": [1]}, "cannot be read"),
        ({"added_tokens_decoder": {"900": {"content": ""}}}, "is empty"),
        ([1], "holds list, not an object"),
    ],
)
def test_damaged_configuration(folder: Path, config: object, says: str) -> None:
    _configure(folder, config)
    with pytest.raises(ValueError, match=rf"tokenizer_config\.json.*{says}"):
        load_tokenizer(folder)


def test_broken_json(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_bytes(b'{"a": \xff')
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: not valid JSON"):
        load_tokenizer(folder)


# The -hf layout. Hugging Face's own library trains, writes and encodes; this one reads what it wrote.


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Tokenizer, Path]:
    """A byte-level BPE by Hugging Face's library, the same read here, and its file."""
    tokenizers = pytest.importorskip("tokenizers", reason="NOT COMPARED WITH HUGGING FACE: tokenizers is not installed")
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERN), behavior="isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    text = "the weather in the city is fine and the wind is weak; 今天的天气很好，城市里的风很弱。\n" * 5
    theirs.train_from_iterator([text, "hello there 1234 'll 're"], trainer)
    theirs.add_special_tokens(["<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|observation|>"])
    path = tmp_path_factory.mktemp("hf") / "tokenizer.json"
    theirs.save(str(path))
    return theirs, load_tokenizer(path.parent), path


def test_tokenizer_json_encodes_as_hugging_face_does(hf: tuple[Any, Tokenizer, Path]) -> None:
    theirs, ours, _ = hf
    assert ours.special_tokens["<|user|>"] == theirs.token_to_id("<|user|>")
    assert ours.vocab_size == theirs.get_vocab_size()

    @given(st.text(st.sampled_from(list("the weahrcity天气很好城市 \n12'l。é👍")), max_size=60))
    def check(text: str) -> None:
        assert ours.encode(text, add_special_tokens=False) == theirs.encode(text, add_special_tokens=False).ids

    check()
    text = "the weather<|user|>城市"
    assert ours.encode(text, add_special_tokens=False) == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data["model"].update(type="Unigram"), "Unigram"),
        (lambda data: data["model"]["merges"].reverse(), "not in merge order"),
        (lambda data: data.pop("model"), "not a byte-level BPE"),
        (lambda data: data["model"]["vocab"].pop("!"), "not 0 to"),
        (lambda data: data["model"]["vocab"].update({"\u4e00": 9999}), "not a byte-level BPE"),
    ],
)
def test_other_tokenizer_json_is_refused(
    hf: tuple[Any, Tokenizer, Path], tmp_path: Path, change: Any, says: str
) -> None:
    data = json.loads(hf[2].read_text(encoding="utf-8"))
    change(data)
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"tokenizer\.json.*{says}"):
        load_tokenizer(tmp_path)


def test_byte_letters_are_all_different_and_printable() -> None:
    letters = byte_letters()
    assert len(letters) == len(set(letters.values())) == 256
    assert letters[ord("a")] == "a"
    assert letters[ord(" ")] == "Ġ"
    assert all(letter.isprintable() and not letter.isspace() for letter in letters.values())
