"""The tokenizer's files: both layouts, and what is said about damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_tokenizer import tiny_ranks, tiny_tokenizer, write_ranks

from glm4.chat import ChatTokenizer
from glm4.errors import ConfigError
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
    """By its content: the file has the same name. It is read as LLaMA's, and refused where GLM-4's is needed."""
    (tmp_path / "tokenizer.model").write_bytes((shared / "tokenizers" / "llama-2" / "tokenizer.model").read_bytes())
    assert load_tokenizer(tmp_path).special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}
    with pytest.raises(ConfigError, match=r"no control token \[gMASK\]"):
        ChatTokenizer.load(tmp_path, {"model_type": "chatglm"})


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"added_tokens_decoder": {"5": {"content": "<|user|>"}}}, "id 5, which the vocabulary's .* already"),
        ({"added_tokens_decoder": {"x": {"content": "<|user|>"}}}, "cannot be read"),
        ({"added_tokens_decoder": {"900": "text"}}, "cannot be read"),
        ({"added_tokens_decoder": [1]}, "cannot be read"),
        ({"added_tokens_decoder": {"900": {"content": ""}}}, "is empty"),
        ([1], "holds list, not an object"),
        ({"added_tokens_decoder": {"10000000000000": {"content": "<x>"}}}, "'<x>' has id 10000000000000, outside 0 to"),
        (
            {"added_tokens_decoder": {str(2**70): {"content": "<x>"}}},
            f"'<x>' has id {2**70}, .* right behind the others",
        ),
        ({"added_tokens_decoder": {str(N_RANKS + 10_000): {"content": "<x>"}}}, f"outside 0 to {N_RANKS + 9_999};"),
        ({"added_tokens_decoder": {"-1": {"content": "<x>"}}}, "'<x>' has id -1, outside 0 to"),
        ({"added_tokens_decoder": {"9" * 5000: {"content": "<x>"}}}, "cannot be read"),
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


def test_a_far_id_within_the_bound(folder: Path) -> None:
    _configure(folder, {"added_tokens_decoder": {str(N_RANKS + 9_999): {"content": "<far>"}}})
    tokenizer = load_tokenizer(folder)
    assert tokenizer.decode([N_RANKS + 9_999, N_RANKS + 5_000]) == "<far>"
    assert tokenizer.vocab_size == N_RANKS + 10_000


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}"], ids=["nested", "digits"])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json"])
def test_json_that_python_cannot_hold(folder: Path, name: str, text: str) -> None:
    if name == "tokenizer.json":
        (folder / "tokenizer.model").unlink()
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{name}: not valid JSON .*download the file again"):
        load_tokenizer(folder)


def test_files_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tokenizer_config.json").mkdir()
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: cannot be read \(Is a directory\); check its perm"):
        load_tokenizer(folder)

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ValueError, match=r"tokenizer\.model: cannot be read \(Permission denied\)"):
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
        (lambda data: data["model"]["vocab"].update({"!": 1.5}), "not a byte-level BPE.*1.5 is no integer"),
        (lambda data: data["model"]["merges"].append("a b c"), "not a byte-level BPE"),
        (lambda data: data["model"].update(dropout=0.1), r"dropout 0\.1"),
        (lambda data: data["model"].update(byte_fallback=True), "byte_fallback True"),
        (lambda data: data["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix '</w>'"),
        (lambda data: data["added_tokens"][0].update(id=10**13), "has id 10000000000000, outside"),
        (lambda data: data["added_tokens"][0].update(id=-1), "has id -1, outside"),
        (lambda data: data["added_tokens"][0].update(id=float("inf")), "inf is no integer"),
        (lambda data: data.update(normalizer={"type": "NFC"}), "the normalizer {'type': 'NFC'}"),
        (lambda data: data.update(pre_tokenizer=None), r"pre_tokenizer is \[\], GLM-4's is"),
        (lambda data: data.update(pre_tokenizer=5), "not a byte-level BPE"),
        (
            lambda data: data.update(
                pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
            ),
            r"pre_tokenizer is \['ByteLevel'\]",
        ),
        (
            lambda data: _steps(data).insert(0, {"type": "Digits", "individual_digits": True}),
            r"pre_tokenizer is \['Digits', 'Split', 'ByteLevel'\]",
        ),
        (lambda data: _steps(data).pop(), r"pre_tokenizer is \['Split'\]"),
        (lambda data: _steps(data)[0].update(pattern={"Regex": r"\w+"}), r"Split has pattern .*w\+"),
        (lambda data: _steps(data)[0].update(pattern={"String": PATTERN}), "Split has pattern {'String'"),
        (lambda data: _steps(data)[0].update(behavior="Removed"), "Split has behavior 'Removed'"),
        (lambda data: _steps(data)[0].update(invert=True), "Split has invert True"),
        (lambda data: _steps(data)[1].update(use_regex=True), "ByteLevel has use_regex True"),
        (lambda data: _steps(data)[1].pop("use_regex"), "ByteLevel has use_regex True"),
        (lambda data: _steps(data)[1].update(add_prefix_space=True), "ByteLevel has add_prefix_space True"),
        (
            lambda data: data.update(post_processor={"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 2]}),
            r"post_processor \('BertProcessing'\) adds something else",
        ),
        (
            lambda data: data.update(
                post_processor={
                    "type": "TemplateProcessing",
                    "single": [
                        {"SpecialToken": {"id": "<|user|>", "type_id": 0}},
                        {"Sequence": {"id": "A", "type_id": 0}},
                    ],
                }
            ),
            "adds something else",
        ),
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


def _steps(data: Any) -> list[Any]:
    """The pre_tokenizer's steps."""
    steps: list[Any] = data["pre_tokenizer"]["pretokenizers"]
    return steps


def test_a_prefix_in_tokenizer_json_is_the_one_that_encode_adds(
    hf: tuple[Any, Tokenizer, Path], tmp_path: Path
) -> None:
    """As transformers' conversion script writes it on request."""
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer.from_file(str(hf[2]))
    theirs.post_processor = tokenizers.processors.Sequence(
        [
            tokenizers.processors.ByteLevel(trim_offsets=False),
            tokenizers.processors.TemplateProcessing(
                single="[gMASK]:0 <sop>:0 $A:0",
                pair="[gMASK]:0 <sop>:0 $A:0 $B:1",
                special_tokens=[(token, theirs.token_to_id(token)) for token in ("[gMASK]", "<sop>")],
            ),
        ]
    )
    theirs.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).encode("the weather") == theirs.encode("the weather").ids


def test_tokenizer_json_as_transformers_converts_it(shared: Path, tmp_path: Path) -> None:
    """The -hf layout's file is made from tokenizer.model by this converter; here from a part of the real one."""
    converter = pytest.importorskip("transformers.convert_slow_tokenizer", reason="NOT COMPARED WITH transformers")
    lines = (shared / "tokenizers" / "glm-4" / "tokenizer.model").read_bytes().splitlines()[:3000]
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "tokenizer.model").write_bytes(b"\n".join(lines) + b"\n")
    specials = list(load_tokenizer(tmp_path / "part").special_tokens)
    theirs = converter.TikTokenConverter(
        str(tmp_path / "part" / "tokenizer.model"), extra_special_tokens=specials
    ).converted()
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours, original = load_tokenizer(tmp_path), load_tokenizer(tmp_path / "part")
    assert ours.special_tokens == original.special_tokens
    for text in ("The weather's fine, I'LL go  out.\n\n 12345", "今天天气很好，出去走走。", "<|user|>\n你好"):
        ids = ours.encode(text, add_special_tokens=False)
        assert ids == original.encode(text, add_special_tokens=False)
        assert ids == theirs.encode(text, add_special_tokens=False).ids


def test_byte_letters_are_all_different_and_printable() -> None:
    letters = byte_letters()
    assert len(letters) == len(set(letters.values())) == 256
    assert letters[ord("a")] == "a"
    assert letters[ord(" ")] == "Ġ"
    assert all(letter.isprintable() and not letter.isspace() for letter in letters.values())
