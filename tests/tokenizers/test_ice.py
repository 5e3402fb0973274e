"""ChatGLM-6B's tokenizer: the original's ids and texts, both vocabularies, streams, and files that are not as they
should be."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from glm4.tokenizers import Detokenizer, load_tokenizer
from glm4.tokenizers.ice import CLEAN_UP, IceTokenizer

GMASK, SOP, EOP = 130001, 130004, 130005
BLANK_2, BYTE_0 = 130009, 130088
# What begins and ends characters, blanks, control pieces, words, contractions, padding.
SOME_IDS = st.one_of(
    st.integers(0, 130527),
    st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, GMASK, SOP, EOP, 130008, BLANK_2, 130087, 19316, 74874]),
    st.sampled_from([BYTE_0 + byte for byte in (0xE4, 0xBD, 0xA0, 0xF0, 0x9F, 0x91, 0x8D, 0x20, 0x61, 0xFF)]),
)


@pytest.fixture(scope="module")
def tokenizer(shared: Path) -> IceTokenizer:
    """Version 1.1's, with the rows of its embedding."""
    loaded = load_tokenizer(shared / "tokenizers" / "chatglm-6b", padded_vocab_size=130528)
    assert isinstance(loaded, IceTokenizer)
    return loaded


@pytest.fixture(scope="module")
def model(shared: Path) -> sentencepiece.SentencePieceProcessor:
    """sentencepiece itself."""
    return sentencepiece.SentencePieceProcessor(model_file=str(shared / "tokenizers" / "chatglm-6b" / "ice_text.model"))


def test_the_originals_ids_and_texts(tokenizer: IceTokenizer, shared: Path) -> None:
    """With `parse_special`, as it ran under transformers 4."""
    recorded = json.loads((shared / "golden" / "text" / "chatglm-6b.json").read_text())["encode"]
    assert len(recorded) > 20
    for case in recorded:
        assert tokenizer.encode(case["text"], parse_special=True) == case["ids"]
        assert tokenizer.encode(case["text"], add_special_tokens=False, parse_special=True) == case["ids_nospecial"]
        assert tokenizer.decode(case["ids"]) == case["decoded"]
        assert tokenizer.decode(case["ids"], skip_special_tokens=True) == case["decoded_skip"]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("你好", [5, 74874]),
        ("晚上睡不着应该怎么办", [74747, 83400, 64213, 66846]),
        ("def f(x):\n    return x", [1616, 502, 20, 149, 125662, 4, 130011, 2091, 399]),
        (" a  b   c\td\n\ne", [104, 130009, 178, 130010, 169, 130008, 138, 4, 4, 150]),
        ("ＡＢＣ １２３", [6593, 5, 9, 10, 13]),
        ("[gMASK]<sop>", [53, 199, 15475, 42, 60, 106, 2823, 33]),
        (" " * 170 + "x", [5, 130087, 130087, 130017, 149]),
        ("", []),
    ],
)
def test_documented_ids(tokenizer: IceTokenizer, text: str, ids: list[int]) -> None:
    assert tokenizer.encode(text, add_special_tokens=False) == ids
    assert tokenizer.encode(text) == [*ids, GMASK, SOP]
    assert tokenizer.suffix_ids == [GMASK, SOP]
    assert tokenizer.prefix_ids == []


@pytest.mark.parametrize("name", ["<sop>", "<eop>", "[MASK]", "[gMASK]", "<pad>", "<unk>", "</s>", "<s>", "[sMASK]"])
def test_control_pieces_are_no_text_of_anybodys(tokenizer: IceTokenizer, name: str) -> None:
    text = f"a {name} b"
    ids = tokenizer.encode(text)
    assert not any(map(tokenizer.is_special, ids[:-2]))
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    parsed = tokenizer.encode(text, parse_special=True)
    known = name in {"<sop>", "<eop>", "[MASK]", "<pad>", "<unk>"}
    assert (tokenizer.special_tokens[name] in parsed[:-2]) is known


@pytest.mark.parametrize("length", [1, 2, 3, 79, 80, 81, 82, 83, 159, 160, 161, 162, 400])
def test_runs_of_spaces(tokenizer: IceTokenizer, length: int) -> None:
    """As the original's replacements, from eighty down to two."""
    text = "x" + " " * length + "y"
    prepared = text
    for size in range(80, 1, -1):
        prepared = prepared.replace(" " * size, f"<|blank_{size}|>")
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids == tokenizer.encode(prepared, add_special_tokens=False)
    assert tokenizer.decode(ids) == text


def original_decode(model: sentencepiece.SentencePieceProcessor, ids: list[int], hidden: set[int]) -> str:
    """The original's steps on sentencepiece's own decode."""
    text = model.decode([i for i in ids if i not in hidden and i < 130344])
    text = text.replace("<n>", "\n").replace("<|tab|>", "\t")
    for size in range(80, 1, -1):
        text = text.replace(f"<|blank_{size}|>", " " * size)
    for old, new in CLEAN_UP:
        text = text.replace(old, new)
    return text


@settings(max_examples=200)
@given(ids=st.lists(SOME_IDS, max_size=20), skip=st.booleans())
def test_decode_and_stream_are_the_originals_decode(
    tokenizer: IceTokenizer, model: sentencepiece.SentencePieceProcessor, ids: list[int], skip: bool
) -> None:
    hidden = {3} | ({0, 130000, SOP, EOP} if skip else set())
    whole = tokenizer.decode(ids, skip_special_tokens=skip)
    assert whole == original_decode(model, ids, hidden)
    stream = Detokenizer(tokenizer, skip_special_tokens=skip)
    pieces = [stream.push(token_id) for token_id in ids]
    assert "".join(pieces) + stream.finish() == whole


@given(st.text(st.sampled_from("ab .,!?'ntsmrvel\n\t 你好，👍é"), max_size=30))
def test_a_stream_takes_nothing_back(tokenizer: IceTokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    stream, shown = Detokenizer(tokenizer), ""
    for count, token_id in enumerate(ids, start=1):
        shown += stream.push(token_id)
        assert tokenizer.decode(ids[:count], skip_special_tokens=True).startswith(shown)
    assert shown + stream.finish() == tokenizer.decode(ids, skip_special_tokens=True)


def test_a_stop_string_is_matched_behind_the_clean_up(tokenizer: IceTokenizer) -> None:
    ids = tokenizer.encode("it is . Then more", add_special_tokens=False)
    stream = Detokenizer(tokenizer, ["is."])
    pieces = [stream.push(token_id) for token_id in ids]
    assert ("".join(pieces), stream.stopped) == ("it ", "is.")


def test_bytes_of(tokenizer: IceTokenizer) -> None:
    expected = {
        4: b"\n", 5: b" ", 130008: b"\t", BLANK_2: b"  ", 130087: b" " * 80, BYTE_0 + 0xE4: b"\xe4", SOP: b"<sop>",
        19316: b" Hello", 74874: "你好".encode(), 130343: b"\xff", 130344: b"", 130527: b"",
    }  # fmt: skip
    for token_id, data in expected.items():
        assert tokenizer.bytes_of(token_id) == data
    for bad in (-1, 130528, 10**9):
        with pytest.raises(ValueError, match=f"token id {bad} is out of range.*130343, padded to 130527"):
            tokenizer.bytes_of(bad)
        with pytest.raises(ValueError, match="out of range"):
            tokenizer.decode([5, bad])
    for wrong in (True, 1.0, "1", None):
        with pytest.raises(ValueError, match="is no integer"):
            tokenizer.decode([wrong])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="must be a string"):
            tokenizer.encode(wrong if not isinstance(wrong, str) else b"x")  # type: ignore[arg-type]


def test_what_is_what(tokenizer: IceTokenizer) -> None:
    assert (tokenizer.vocab_size, tokenizer.padded_vocab_size) == (130344, 130528)
    assert tokenizer.stop_token_ids == {EOP}
    assert (tokenizer.pad_token_id, tokenizer.gmask_token_id, tokenizer.begin_token_id) == (3, GMASK, SOP)
    assert tokenizer.special_tokens == {
        "<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3, "[MASK]": 130000, "[gMASK]": GMASK, "[sMASK]": 130002,
        "<unused_0>": 130003, "<sop>": SOP, "<eop>": EOP, "<ENC>": 130006, "<dBLOCK>": 130007,
    }  # fmt: skip
    assert tokenizer.decode([0]) == " ⁇ "
    assert tokenizer.decode([0], skip_special_tokens=True) == ""
    assert tokenizer.decode([3, 3, 5, 74874, 130400]) == "你好"


def test_any_text_can_be_encoded(tokenizer: IceTokenizer) -> None:
    rng = random.Random(7)
    for text in ("a\x00b", "\ud800x", "\ufeff", "e\u0301" * 50, chr(0x10FFFF), "\u200b\u202e", "𠀀" * 100):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert all(0 <= i < 130344 for i in ids)
    long = "".join(chr(rng.randrange(0x20, 0x3000)) for _ in range(200_000)) + "a" * 200_000 + " " * 200_000
    assert len(tokenizer.encode(long)) > 100_000


# The first release, and other settings


def configured(shared: Path, folder: Path, config: dict[str, Any] | None, data: bytes | None = None) -> Path:
    """A folder with the vocabulary, or with this data in its place, and a tokenizer_config.json."""
    folder.mkdir(exist_ok=True)
    source = shared / "tokenizers" / "chatglm-6b" / "ice_text.model"
    if data is None:
        shutil.copy(source, folder / "ice_text.model")
    else:
        (folder / "ice_text.model").write_bytes(data)
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def first_releases_file(shared: Path) -> bytes:
    """version 1.1's without what it appended: the pieces after the 130,000th, and byte fallback."""
    data = (shared / "tokenizers" / "chatglm-6b" / "ice_text.model").read_bytes()
    start, end = data.index(b"\x0a\x0f\x0a\x06[MASK]"), data.index(b"<0xFF>")
    end += len(b"<0xFF>") + 7  # score, type
    older = data[:start] + data[end:]
    trainer = older.index(b"\x12", start)
    length = older[trainer + 1]
    body = older[trainer + 2 : trainer + 2 + length]
    assert body.count(b"\x98\x02\x01") == 1  # byte_fallback
    body = body.replace(b"\x98\x02\x01", b"")
    return older[:trainer] + b"\x12" + bytes([len(body)]) + body + older[trainer + 2 + length :]


def test_the_first_release(tokenizer: IceTokenizer, shared: Path, tmp_path: Path) -> None:
    """Its file ends before the control pieces, and its text begins at 20,000: else the same, id by id."""
    older_file = first_releases_file(shared)
    processor = sentencepiece.SentencePieceProcessor(model_proto=older_file)
    assert processor.vocab_size() == 130000
    older = load_tokenizer(configured(shared, tmp_path, None, older_file), padded_vocab_size=150528)
    assert isinstance(older, IceTokenizer)
    assert older.special_tokens == {name: i + 20000 for name, i in tokenizer.special_tokens.items()}
    assert (older.stop_token_ids, older.pad_token_id, older.vocab_size) == ({150005}, 20003, 150344)
    for text in ("你好", " a  b   c\td\n\ne", "def f(x):\n    return x", "𠀀 […] naïve 👍", ""):
        ids = tokenizer.encode(text)
        assert older.encode(text) == [i + 20000 for i in ids]
        assert older.decode([i + 20000 for i in ids]) == tokenizer.decode(ids)
    assert older.decode([0, 19999, 25000 - 5000 + 5, 94874]) == "你好"  # images are no text
    assert (older.bytes_of(7), older.is_special(7)) == (b"", False)


@pytest.mark.parametrize(
    ("file", "config", "rows", "shift"),
    [
        ("new", None, None, 0),
        ("old", None, None, 20000),
        ("new", None, 150528, 20000),
        ("old", None, 130528, 0),
        ("old", {"num_image_tokens": 0}, None, 0),
        ("new", {"num_image_tokens": 20000}, None, 20000),
        ("new", {"num_image_tokens": 0}, 150528, 0),
        ("new", {"num_image_tokens": 5}, None, 5),
    ],
)
def test_which_vocabulary_it_is(
    file: str, config: dict[str, Any] | None, rows: int | None, shift: int, shared: Path, tmp_path: Path
) -> None:
    """tokenizer_config.json says so, else the rows, else the file."""
    data = first_releases_file(shared) if file == "old" else None
    loaded = load_tokenizer(configured(shared, tmp_path, config, data), padded_vocab_size=rows)
    assert loaded.encode("你好", add_special_tokens=False) == [5 + shift, 74874 + shift]


def test_settings_of_tokenizer_config(shared: Path, tmp_path: Path) -> None:
    published = json.loads((shared / "configs" / "chatglm-6b" / "tokenizer_config.json").read_text())
    plain = load_tokenizer(configured(shared, tmp_path, published))
    assert plain.encode("你好") == [5, 74874, GMASK, SOP]
    changed = load_tokenizer(configured(shared, tmp_path, published | {"remove_space": True, "do_lower_case": True}))
    assert changed.encode("  Hello\n   WORLD ", False) == plain.encode("hello world", False)
    early = load_tokenizer(configured(shared, tmp_path, published | {"eos_token": {"content": "</s>"}}))
    assert early.stop_token_ids == {2}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"num_image_tokens": -1}, "num_image_tokens is -1, expected int"),
        ({"num_image_tokens": True}, "num_image_tokens is True, expected int"),
        ({"num_image_tokens": 10**12}, "num_image_tokens is 1000000000000"),
        ({"eos_token": 5}, "eos_token is 5, expected str"),
        ({"remove_space": "yes"}, "remove_space is 'yes', expected bool"),
        ({"eos_token": "<eot>"}, "lacks <eot>"),
    ],
)
def test_settings_that_make_no_sense(config: dict[str, Any], says: str, shared: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        load_tokenizer(configured(shared, tmp_path, config))


@pytest.mark.parametrize("text", ["{", "[1]", "\ud800"])
def test_a_tokenizer_config_that_is_no_json_object(text: str, shared: Path, tmp_path: Path) -> None:
    folder = configured(shared, tmp_path, None)
    (folder / "tokenizer_config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"tokenizer_config\.json"):
        load_tokenizer(folder)


# Damage


def test_a_truncated_file_is_named(shared: Path, tmp_path: Path) -> None:
    data = (shared / "tokenizers" / "chatglm-6b" / "ice_text.model").read_bytes()
    rng = random.Random(11)
    cuts = [0, 1, 2, 100, len(data) - 1, len(data) - 237_600, *(rng.randrange(len(data)) for _ in range(6))]
    # Between two pieces nothing is cut through: the count has to tell.
    cuts += [data.index(b"\x0a", cut) for cut in (1_000_000, 2_000_000)]
    for cut in cuts:
        with pytest.raises(ValueError, match=r"ice_text\.model.*download the file again"):
            load_tokenizer(configured(shared, tmp_path, None, data[:cut]))


@pytest.mark.parametrize("seed", range(4))
def test_damage_is_named_or_does_no_harm(seed: int, shared: Path, tmp_path: Path) -> None:
    data = bytearray((shared / "tokenizers" / "chatglm-6b" / "ice_text.model").read_bytes())
    rng = random.Random(seed)
    for _ in range(3 if seed % 2 else 30):
        data[rng.randrange(len(data) - 240_000 if seed < 2 else 0, len(data))] = rng.randrange(256)
    said = ""
    try:
        loaded = load_tokenizer(configured(shared, tmp_path, None, bytes(data)))
        loaded.decode(loaded.encode("你好 ① ﬁ naïve  x\ty"))
    except ValueError as error:
        said = str(error)
    assert not said or "ice_text.model" in said


@pytest.mark.parametrize(
    "data", [b"not a model", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0a\x00" * 99]
)
def test_another_file_under_its_name(data: bytes, shared: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ice_text\.model"):
        load_tokenizer(configured(shared, tmp_path, None, data))


def test_a_sentencepiece_model_of_another_family(shared: Path, tmp_path: Path) -> None:
    data = (shared / "tokenizers" / "llama-2" / "tokenizer.model").read_bytes()
    with pytest.raises(ValueError, match=r"lacks .*no ChatGLM-6B's, or truncated"):
        load_tokenizer(configured(shared, tmp_path, None, data))
