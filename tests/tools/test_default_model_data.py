"""The default model's training data: right by an independent computation, split, the same from a seed."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glm4.chat import ChatTokenizer

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))


from tools.default_model import arithmetic, data, sample, tool_table, vocabulary  # noqa: E402
from tools.default_model.sample import Sample, calls_of, split_of  # noqa: E402

needs_text = pytest.mark.skipif(
    not (data.DEFAULT_FOLDER / "books").is_dir(),
    reason="DATA OF THE DEFAULT MODEL NOT TESTED: shared/data is not beside the repository",
)
ASSETS = REPOSITORY / "glm4" / "assets" / "default"
LANGUAGES: tuple[sample.Language, ...] = ("en", "zh")


def questions(skill: str, n: int = 60, split: sample.Split = "train") -> Iterator[tuple[Sample, str, str]]:
    """(the sample, the last user text, the expected text)"""
    for language in LANGUAGES:
        rng = random.Random(f"test/{skill}/{language}/{split}")
        for _ in range(n):
            made = data.question(rng, skill, language, split)
            assert made.expected is not None
            yield made, made.messages[-1]["content"], made.expected["content"]


def conversations(n: int, seed: int = 3) -> list[Sample]:
    rng = random.Random(seed)
    return [data.conversation(rng) for _ in range(n)]


@needs_text
@pytest.mark.parametrize("skill", ["arithmetic", "word_problem"])
def test_sums_are_right_and_their_numbers_are_in_the_question(skill: str) -> None:
    for _, question, answer in questions(skill):
        match = re.fullmatch(r"(\d+) ([+-]) (\d+) = (-?\d+)", answer)
        assert match, answer
        a, op, b, c = int(match[1]), match[2], int(match[3]), int(match[4])
        assert c == (a + b if op == "+" else a - b)
        assert {str(a), str(b)} <= set(re.findall(r"\d+", question)), question
        subtracts = re.search(r"-|minus|subtract|take|less|减|差", question, re.IGNORECASE)
        if skill == "arithmetic":
            assert (op == "-") == bool(subtracts), question


@needs_text
def test_reversed_lists_and_words_read_backwards() -> None:
    for _, question, answer in questions("reverse_list"):
        mark = next(m for m in ("、", "，", ", ", ",", " ") if m in answer)
        assert mark.join(reversed(answer.split(mark))) in question
    for _, question, answer in questions("reverse_word"):
        if "->" in answer:
            forward, backward, joined = re.fullmatch(r"(.*) -> (.*): (.*)", answer).groups()  # type: ignore[union-attr]
            assert forward.replace(" ", "") in question
            assert joined == backward.replace(" ", "") == forward.replace(" ", "")[::-1]
        else:
            assert answer[::-1] in question


@needs_text
def test_counts_are_right() -> None:
    for _, question, answer in questions("count"):
        aloud, total = re.fullmatch(r"(.*)(?:\. That makes |。一共)(\d+)[.个]。?", answer, re.S).groups()  # type: ignore[union-attr]
        assert [int(n) for n in re.findall(r" (\d+)(?=, |、|$)", aloud)][-1] == int(total)
        for part in re.split(r" \d+(?:, |、|$)", aloud)[:-1]:
            assert part in question
    for _, _, answer in questions("occurrences"):
        walked, total = re.fullmatch(r"(.*)(?:\. That makes |。出现)(\d+)[.次]。?", answer, re.S).groups()  # type: ignore[union-attr]
        mark = next((m for m in (", ", "、") if m in walked), None)
        parts = (
            walked.split(mark) if mark else re.findall(r"[a-zA-Z](?: \d)?", walked) if walked[0].isascii() else [walked]
        )
        numbered = [part.rpartition(" ") for part in parts if " " in part]
        assert [int(n) for _, _, n in numbered] == list(range(1, int(total) + 1))
        assert len({thing for thing, _, _ in numbered}) <= 1
        assert all(part not in {thing for thing, _, _ in numbered} for part in parts)


@needs_text
def test_numbers_are_compared_sorted_and_followed() -> None:
    for _, question, answer in questions("sort"):
        given = [int(n) for n in re.findall(r"\d+", question)]
        assert [int(n) for n in re.findall(r"\d+", answer)] == sorted(given)
    for _, _, answer in questions("compare"):
        a, b = (int(n) for n in re.findall(r"\d+", answer))
        assert (a > b) == ("larger" in answer or "大" in answer)
    for _, _, answer in questions("next_number"):
        numbers = [int(n) for n in re.findall(r"\d+", answer)]
        new, old = numbers if "comes" in answer else reversed(numbers)
        assert new - old == (1 if "after" in answer or "后" in answer else -1)


@needs_text
def test_repeated_text_stands_in_the_question() -> None:
    for _, question, answer in questions("repeat"):
        assert answer in question


@needs_text
@pytest.mark.parametrize("skill", ["memory", "system", "tool_memory"])
def test_what_is_recalled_was_told_before(skill: str) -> None:
    for made, _, answer in questions(skill):
        earlier = "\n".join(
            message["content"] for message in made.messages[:-1] if message["role"] in ("user", "system")
        )
        if skill == "tool_memory":
            assert made.expected is not None
            ((_, arguments),) = calls_of(made.expected)
            (value,) = json.loads(arguments).values()
        else:
            value = re.sub(
                r"^(Your .*? (is called|is)|You live in|You are|The (number|word) is|I am"
                r"|你.*?(叫|是|住在)|你|数字是|我?是) ?",
                "",
                answer,
            )
            value = re.sub(r"( years old\.|岁。|[.。])$", "", value)
        assert value in earlier, (answer, earlier)


def _check_call(made: Sample, name: str, arguments: str, said: str) -> None:
    schemas = {
        tool["function"]["name"]: tool["function"]["parameters"] for tool in made.tools or () if "function" in tool
    }
    if name == "python":
        assert {"type": "python"} in (made.tools or ())
        return
    values, parameters = json.loads(arguments), schemas[name]
    assert list(values) == parameters["required"] == list(parameters["properties"])
    for key, value in values.items():
        schema: dict[str, Any] = parameters["properties"][key]
        assert isinstance(value, {"string": str, "integer": int, "number": (int, float)}[schema["type"]])
        assert value in schema.get("enum", [value])
        assert str(value) in said, (value, said)


@needs_text
def test_tool_calls_follow_the_schema_and_answers_quote_the_observation() -> None:
    n_calls = 0
    for made in conversations(600):
        said = ""
        for i, message in enumerate(made.messages):
            if message["role"] in ("user", "system"):
                said += message["content"] + "\n"
            for name, arguments in calls_of(message):
                n_calls += 1
                _check_call(made, name, arguments, said)
            if message["role"] == "observation" and made.messages[i + 1]["role"] == "assistant":
                for value in re.findall(r'(?<=": )"([^"]+)"[,}]|(?<=: )([\d.-]+)[,}]', message["content"]):
                    assert "".join(value) in made.messages[i + 1]["content"]
    assert n_calls > 300


@needs_text
def test_python_calls_compute_what_the_observation_says() -> None:
    for made, question, _ in questions("python", 20):
        assert made.expected is not None
        ((name, expression),) = calls_of(made.expected)
        assert name == "python"
        assert expression.replace(" ", "") in question.replace(" ", "")


@needs_text
@pytest.mark.parametrize("skill", data.SKILLS)
def test_a_question_ends_where_the_model_has_to_answer(skill: str) -> None:
    for made, _, _ in questions(skill, 3, "test"):
        assert made.messages[-1]["role"] in ("user", "observation")
        assert made.expected is not None
        assert made.expected["role"] == "assistant"
        assert made.accepts(made.expected["content"], calls_of(made.expected))
        assert not made.accepts("something else", [])
        assert not made.accepts(made.expected["content"], [("other", "{}")])


@needs_text
def test_train_and_test_share_no_sum_no_value_and_no_tool() -> None:
    for skill in ("arithmetic", "word_problem"):
        for split in ("train", "test"):
            for _, _, answer in questions(skill, 80, split):
                assert split_of(answer.split(" = ")[0].replace(" ", "")) == split
    for split in ("train", "test"):
        for _, _, answer in questions("repeat", 80, split):
            assert split_of(answer) == split
        for made, _, _ in questions("tool_call", 40, split):
            assert made.expected is not None
            ((_, arguments),) = calls_of(made.expected)
            for value in json.loads(arguments).values():
                if isinstance(value, str) and not re.search(r"\d[-:]\d|@|^\w+$", value):
                    assert split_of(value) == split, value
    trained = {name for tool in tool_table.TRAIN_BLUEPRINTS for name in tool.names}
    held_out = {name for tool in tool_table.TEST_BLUEPRINTS for name in tool.names}
    assert len(trained) > 40
    assert not trained & held_out
    shown = {tool["function"]["name"] for made in conversations(400) for tool in made.tools or () if "function" in tool}
    assert not shown & held_out


def test_about_a_tenth_of_all_sums_is_held_out() -> None:
    triples = [f"{a}{op}{b}" for a in range(100) for b in range(100) for op in "+-"]
    share = sum(split_of(triple) == "test" for triple in triples) / len(triples)
    assert 0.08 < share < 0.12
    a, b = arithmetic.pair(random.Random(0), "test", "+")
    assert split_of(f"{a}+{b}") == "test"


_DIGEST = """
import hashlib, json, random, sys
sys.path.insert(0, {root!r})
from tools.default_model import data
rng = random.Random(11)
text = json.dumps([[s.messages, s.tools] for s in (data.conversation(rng) for _ in range(150))])
print(hashlib.sha256(text.encode()).hexdigest())
"""


@needs_text
def test_the_same_seed_gives_the_same_stream_in_another_process() -> None:
    digests = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        code = _DIGEST.format(root=str(REPOSITORY))
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1


@needs_text
def test_every_conversation_renders_and_fits() -> None:
    from glm4.chat import ChatTokenizer

    tokenizer = ChatTokenizer.load(ASSETS)
    lengths = []
    for made in conversations(300):
        rendered = tokenizer.render_for_training(made.messages, tools=made.tools)
        lengths.append(len(rendered.ids))
        assert sum(rendered.loss_mask) >= 2
        assert max(rendered.ids) < 4096
    assert max(lengths) < 2048
    assert sum(lengths) / len(lengths) < 400


def test_the_vocabulary_never_merges_digits_or_a_space_into_a_rare_word() -> None:
    from glm4.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(ASSETS)
    assert len(vocabulary.SPECIAL_TOKENS) + vocabulary.N_REGULAR == tokenizer.vocab_size == 4096

    def pieces(text: str) -> list[bytes]:
        return [tokenizer.bytes_of(i) for i in tokenizer.encode(text, add_special_tokens=False)]

    assert pieces("120 + 7") == [b"1", b"2", b"0", b" +", b" ", b"7"]
    assert pieces(" Zorblax")[1:] == pieces("Zorblax") == pieces('"Zorblax')[1:]
    assert b"".join(pieces("乌鲁木齐 naïve 🙂")).decode() == "乌鲁木齐 naïve 🙂"
    assert [len(piece) for piece in pieces("我叫王小明")] == [3] * 5


@needs_text
@pytest.mark.slow
def test_the_vocabulary_script_is_deterministic_and_writes_what_the_tokenizer_reads(tmp_path: Path) -> None:
    """Its ranks are not the shipped ones any more: the mix that they are counted on was refined after the weights'."""
    texts = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        vocabulary.write(vocabulary.build(data.DEFAULT_FOLDER), folder)
        texts.append((folder / "tokenizer.model").read_bytes())
    assert texts[0] == texts[1]
    assert (folder / "tokenizer_config.json").read_bytes() == (ASSETS / "tokenizer_config.json").read_bytes()
    assert ChatTokenizer.load(folder).vocab_size == ChatTokenizer.load(ASSETS).vocab_size == 4096
