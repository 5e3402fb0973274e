"""LLaMA's tokenizer: segments as transformers 4.37's slow class cut them, through sentencepiece, and back."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from random_internvl import ADDED, tiny_sentencepiece, write_tokenizer

from glm4.tokenizers import Detokenizer, load_tokenizer
from glm4.tokenizers.llama_tokenizer import LlamaTokenizer, load_llama_tokenizer

PROMPT = " <human>: <img><IMG_CONTEXT><IMG_CONTEXT></img>\n你好 hi 🦙 <bot>: A1</s><human>: Q2 <bot>:"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LlamaTokenizer:
    """A vocabulary of 360 pieces, with the added tokens behind it."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tokenizer(folder)
    return load_llama_tokenizer(folder, padded_vocab_size=400)


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> LlamaTokenizer:
    """The same with "legacy": false."""
    folder = tmp_path_factory.mktemp("newer")
    write_tokenizer(folder, legacy=False)
    return load_llama_tokenizer(folder)


def real_folder(shared: Path, folder: Path, **config: Any) -> Path:
    """LLaMA-2's own vocabulary with the added tokens in the order of training."""
    (folder / "tokenizer.model").write_bytes((shared / "tokenizers" / "llama-2" / "tokenizer.model").read_bytes())
    (folder / "added_tokens.json").write_text(json.dumps({name: 32000 + i for i, name in enumerate(ADDED)}))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def names(tokenizer: LlamaTokenizer, ids: list[int]) -> list[str]:
    """What the ids are called."""
    return [tokenizer.name_of(i) or tokenizer.pieces.names[i] for i in ids]


@functools.cache
def processor(data: bytes) -> sentencepiece.SentencePieceProcessor:
    """The package's own class."""
    return sentencepiece.SentencePieceProcessor(model_proto=data)


def naive(data: bytes, controls: dict[str, int], text: str) -> list[int]:
    """The slow class, legacy: cut at the longest token that begins leftmost, each segment to sentencepiece."""
    model = processor(data)
    ids: list[int] = []
    segment, at = "", 0
    while at <= len(text):
        found = max((name for name in controls if text.startswith(name, at)), key=len, default=None)
        if found is None and at < len(text):
            segment, at = segment + text[at], at + 1
            continue
        ids += model.encode(segment) if segment else []
        segment = ""
        if found is None:
            break
        ids.append(controls[found])
        at += len(found)
    return ids


# LLaMA-2's own vocabulary --------------------------------------------------------------------------------------------


def test_real_vocabulary(shared: Path, tmp_path: Path) -> None:
    """Ids that everybody who has run LLaMA-2 has seen."""
    tokenizer = load_tokenizer(real_folder(shared, tmp_path))
    assert isinstance(tokenizer, LlamaTokenizer)
    assert tokenizer.encode("Hello world") == [1, 15043, 3186]
    assert tokenizer.encode("Hello world", add_special_tokens=False) == [15043, 3186]
    assert tokenizer.decode([1, 15043, 3186], skip_special_tokens=True) == "Hello world"
    assert (tokenizer.prefix_ids, tokenizer.stop_token_ids, tokenizer.vocab_size) == ([1], frozenset([2]), 32005)
    assert tokenizer.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2} | {n: 32000 + i for i, n in enumerate(ADDED)}


def test_every_segment_begins_with_a_space_of_its_own(shared: Path, tmp_path: Path) -> None:
    """As the weights saw it. transformers 5 gives no "▁" behind </img> and </s>, and one less in front."""
    tokenizer = load_llama_tokenizer(real_folder(shared, tmp_path))
    ids = tokenizer.encode(PROMPT)
    assert names(tokenizer, ids) == [
        "<s>", "▁", "▁<", "human", ">:", "▁", "<img>", "<IMG_CONTEXT>", "<IMG_CONTEXT>", "</img>", "▁", "<0x0A>", "你",
        "好", "▁hi", "▁", "<0xF0>", "<0x9F>", "<0xA6>", "<0x99>", "▁<", "bot", ">:", "▁A", "1", "</s>", "▁<", "human",
        ">:", "▁Q", "2", "▁<", "bot", ">:",
    ]  # fmt: skip
    data = (tmp_path / "tokenizer.model").read_bytes()
    assert ids == [1, *naive(data, tokenizer.special_tokens, PROMPT)]
    assert tokenizer.decode(ids) == "<s>" + PROMPT
    # Without control tokens the pieces are one text, whose first space alone is the tokenizer's.
    assert tokenizer.decode(ids, skip_special_tokens=True) == " <human>:  \n你好 hi 🦙 <bot>: A1 <human>: Q2 <bot>:"


def test_legacy_false_is_the_newer_way(shared: Path, tmp_path: Path) -> None:
    tokenizer = load_llama_tokenizer(real_folder(shared, tmp_path, legacy=False))
    ids = tokenizer.encode(PROMPT)
    assert names(tokenizer, ids) == [
        "<s>", "▁", "▁<", "human", ">:", "▁", "<img>", "<IMG_CONTEXT>", "<IMG_CONTEXT>", "</img>", "<0x0A>", "你", "好",
        "▁hi", "▁", "<0xF0>", "<0x9F>", "<0xA6>", "<0x99>", "▁<", "bot", ">:", "▁A", "1", "</s>", "<", "human", ">:",
        "▁Q", "2", "▁<", "bot", ">:",
    ]  # fmt: skip
    assert tokenizer.decode(ids) == "<s>" + PROMPT
    assert names(tokenizer, tokenizer.encode("</s>Hi")) == ["<s>", "</s>", "Hi"]
    assert names(tokenizer, tokenizer.encode("</s> Hi")) == ["<s>", "</s>", "▁Hi"]


# A small vocabulary --------------------------------------------------------------------------------------------------

texts = st.lists(
    st.one_of(
        st.sampled_from(
            [*ADDED, "<s>", "</s>", "<unk>", "<img", " ", "  ", "\n", "cat", "picture", "你好", "🦙", "<0x0A>"]
        ),
        st.text(st.characters(exclude_characters="▁", exclude_categories=["Cs"]), max_size=6),
    ),
    max_size=12,
).map("".join)


@given(texts)
def test_encode_is_the_slow_class(tiny: LlamaTokenizer, text: str) -> None:
    assert tiny.encode(text, add_special_tokens=False) == naive(tiny_sentencepiece(), tiny.special_tokens, text)


@given(texts)
def test_decode_is_encode_backwards(tiny: LlamaTokenizer, newer: LlamaTokenizer, text: str) -> None:
    for tokenizer in (tiny, newer):
        assert tokenizer.decode(tokenizer.encode(text)) == "<s>" + text
        plain = tokenizer.encode(text, parse_special=False)
        assert tokenizer.decode(plain, skip_special_tokens=True) == text


@given(st.lists(st.integers(0, 399), max_size=30), st.booleans())
def test_a_stream_joined_is_decode(tiny: LlamaTokenizer, ids: list[int], skip: bool) -> None:
    """Whatever the ids: pieces of broken UTF-8, control tokens, padding."""
    stream = Detokenizer(tiny, skip_special_tokens=skip)
    assert "".join(map(stream.push, ids)) + stream.finish() == tiny.decode(ids, skip)


@given(st.lists(st.integers(3, 359), max_size=30))
def test_decode_without_control_tokens_is_sentencepieces(tiny: LlamaTokenizer, ids: list[int]) -> None:
    model = processor(tiny_sentencepiece())
    assert tiny.decode(ids, skip_special_tokens=True) == model.decode(ids)


def test_stream_withholds_unfinished_characters(tiny: LlamaTokenizer) -> None:
    stream = tiny.text_stream()
    pieces = [stream.push(token_id) for token_id in tiny.encode("a🦙b", add_special_tokens=False)]
    assert "".join(pieces) == "a🦙b"
    assert sum(bool(piece) for piece in pieces) < len(pieces)


def test_names_of_control_tokens_in_a_users_text_stay_letters(tiny: LlamaTokenizer) -> None:
    text = "</s><img><IMG_CONTEXT>"
    ids = tiny.encode(text, add_special_tokens=False, parse_special=False)
    assert not any(map(tiny.is_special, ids))
    assert tiny.encode_part(text, first=True) == ids


def test_the_longest_of_two_names_wins(tmp_path: Path) -> None:
    first = write_tokenizer(tmp_path, ("<a>", "<a><b>"))
    assert load_llama_tokenizer(tmp_path).encode("<a><b><a>", add_special_tokens=False) == [first + 1, first]


def test_bytes_of(tiny: LlamaTokenizer) -> None:
    ids = tiny.encode("cat\n", add_special_tokens=False)
    assert b"".join(map(tiny.bytes_of, ids)) == b" cat\n"
    assert tiny.bytes_of(2) == b"</s>"
    assert tiny.bytes_of(tiny.special_tokens["<img>"]) == b"<img>"
    assert tiny.bytes_of(399) == b""


@pytest.mark.parametrize("bad", [-1, 400, 10**9])
def test_ids_out_of_range(tiny: LlamaTokenizer, bad: int) -> None:
    for attempt in (tiny.bytes_of, lambda i: tiny.decode([i]), tiny.text_stream().push):
        with pytest.raises(ValueError, match=f"token id {bad} is out of range: .* ids 0 to 364, padded to 399"):
            attempt(bad)


@pytest.mark.parametrize("bad", [True, 1.0, "1", None])
def test_what_is_no_id(tiny: LlamaTokenizer, bad: Any) -> None:
    for attempt in (tiny.bytes_of, lambda i: tiny.decode([i]), tiny.is_special):
        with pytest.raises(ValueError, match="is no integer"):
            attempt(bad)


def test_what_is_no_text(tiny: LlamaTokenizer) -> None:
    with pytest.raises(ValueError, match=r"b'a' \(bytes\); it must be a string"):
        tiny.encode(b"a")  # type: ignore[arg-type]
    assert tiny.encode("\ud83e\udd99", add_special_tokens=False) == tiny.encode("🦙", add_special_tokens=False)
    assert tiny.decode(tiny.encode("a\ud800"), skip_special_tokens=True) == "a\ufffd"


# The files beside the vocabulary -------------------------------------------------------------------------------------


def decoder(**tokens: dict[str, Any]) -> dict[str, Any]:
    """An added_tokens_decoder."""
    return {str(entry.pop("id")): {"content": name, **entry} for name, entry in tokens.items()}


def test_tokenizer_config_knows_the_properties(tmp_path: Path) -> None:
    """Where a token takes white space with it, and which are words of the language, not control tokens."""
    entries = decoder(
        GREEDY={"id": 360, "lstrip": True, "rstrip": True, "special": True},
        word={"id": 361, "special": False},
        plain={"id": 362, "special": True},
    ) | {"363": {"content": "<img>", "special": False}}
    write_tokenizer(tmp_path, (), added_tokens_decoder=entries)
    tokenizer = load_llama_tokenizer(tmp_path)
    encoded = tokenizer.encode("a  GREEDY \n b plain c", add_special_tokens=False)
    assert names(tokenizer, encoded) == ["▁a", "GREEDY", "▁", "b", "▁", "plain", "▁", "▁c"]
    # An ordinary word is found in a user's text too, and decoded always; a name in brackets is a control token.
    assert 361 in tokenizer.encode("aword", parse_special=False)
    assert tokenizer.decode(tokenizer.encode("aword"), skip_special_tokens=True) == "aword"
    assert not tokenizer.is_special(361)
    assert tokenizer.is_special(363)
    assert 363 not in tokenizer.encode("<img>", parse_special=False)


def test_begin_and_end(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, add_bos_token=False, add_eos_token=True)
    tokenizer = load_llama_tokenizer(tmp_path)
    assert tokenizer.prefix_ids == []
    assert tokenizer.encode("a") == [*tokenizer.encode("a", add_special_tokens=False), 2]
    write_tokenizer(tmp_path, bos_token={"content": "<img>"}, eos_token="</img>")
    tokenizer = load_llama_tokenizer(tmp_path)
    assert tokenizer.prefix_ids == [360]
    assert tokenizer.stop_token_ids == {361}


def test_what_a_file_names_is_a_control_token(tmp_path: Path) -> None:
    """Whatever its entry says; a name of no letters is none."""
    words = {"360": {"content": "BEGIN", "special": False}, "361": {"content": "END", "special": False}}
    write_tokenizer(tmp_path, (), added_tokens_decoder=words, bos_token="BEGIN", eos_token={"content": "END"})
    tokenizer = load_llama_tokenizer(tmp_path)
    assert (tokenizer.prefix_ids, tokenizer.stop_token_ids) == ([360], {361})
    assert 361 not in tokenizer.encode("END", parse_special=False)
    write_tokenizer(tmp_path, (), bos_token="", eos_token={"content": ""})
    tokenizer = load_llama_tokenizer(tmp_path)
    assert (tokenizer.prefix_ids, tokenizer.stop_token_ids) == ([1], {2})


def test_tokens_without_an_id_come_last(tmp_path: Path) -> None:
    """As transformers numbers them; special_tokens_map.json is read too."""
    write_tokenizer(tmp_path, ADDED[:2])
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"additional_special_tokens": ["<x>", "</img>", "<y>"]})
    )
    specials = load_llama_tokenizer(tmp_path).special_tokens
    assert {name: specials[name] for name in ("<img>", "</img>", "<x>", "<y>")} == {
        "<img>": 360, "</img>": 361, "<x>": 362, "<y>": 363
    }  # fmt: skip


@pytest.mark.timeout(20)
def test_many_tokens_without_an_id(tmp_path: Path) -> None:
    """Each is put behind the last without looking through all of them again."""
    write_tokenizer(tmp_path, ADDED[:2], additional_special_tokens=[f"<{i}>" for i in range(30_000)])
    specials = load_llama_tokenizer(tmp_path).special_tokens
    assert (specials["<0>"], specials["<29999>"]) == (362, 30_361)


def test_only_the_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(tiny_sentencepiece())
    tokenizer = load_tokenizer(tmp_path, padded_vocab_size=512)
    assert tokenizer.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert (tokenizer.vocab_size, tokenizer.padded_vocab_size) == (360, 512)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("added_tokens.json", {"<a>": 5}, "'<a>' has id 5, which in the vocabulary is"),
        ("added_tokens.json", {"<a>": 360, "<b>": 360}, "two added tokens have the id 360"),
        ("added_tokens.json", {"<a>": 10**9}, "expected one right behind the 360 pieces"),
        ("added_tokens.json", {"<a>": -1}, "expected one right behind the 360 pieces"),
        ("added_tokens.json", {"": 360}, "expected one right behind"),
        ("added_tokens.json", {"<a>": "360"}, "expected an integer"),
        ("added_tokens.json", [1], "holds no JSON object"),
        ("tokenizer_config.json", "{", "cannot be read"),
        ("tokenizer_config.json", {"legacy": "no"}, "legacy is 'no', expected true or false"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "a"}}}, "cannot be read"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"360": {}}}, "cannot be read"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"360": {"content": "a", "single_word": True}}},
            "single word",
        ),
        ("tokenizer_config.json", {"added_tokens_decoder": {"999": {"content": "<img>"}}}, "it has 999; the two"),
        ("tokenizer_config.json", {"additional_special_tokens": 3}, "expected a list"),
        ("special_tokens_map.json", "[" * 100_000, "cannot be read"),
    ],
)
def test_broken_files(tmp_path: Path, file: str, content: Any, says: str) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / file).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=says) as caught:
        load_llama_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_broken_vocabularies(tmp_path: Path) -> None:
    """Cut off anywhere, or changed: an error with the file's name."""
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.model is missing"):
        load_llama_tokenizer(tmp_path)
    data = tiny_sentencepiece()
    path = tmp_path / "tokenizer.model"
    for damaged in (
        data[:-1],
        data[:-40],
        data[: len(data) // 2],
        data[:9],
        b"",
        data[:100] + b"\xff" * 50 + data[150:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"tokenizer\.model"):
            load_llama_tokenizer(tmp_path)
    path.write_bytes(data)
    load_llama_tokenizer(tmp_path)
