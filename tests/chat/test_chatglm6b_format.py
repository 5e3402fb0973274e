"""ChatGLM-6B's rounds and its replies: as the original writes and post-processes them, and without its surprises."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from chatglm6b_models import random_tensors, write_folder
from hypothesis import given
from hypothesis import strategies as st

import glm4
from glm4.chat import TextDelta
from glm4.chat.chatglm6b import ChatGLM6BFormat, ProcessedReply, history_messages
from glm4.errors import ConfigError, InputError, PromptTooLong
from glm4.llm import LLM
from glm4.tokenizers import load_tokenizer

GMASK, SOP, EOP = 130001, 130004, 130005
HISTORY = [("你好", "你好👋！我是人工智能助手 ChatGLM-6B，很高兴见到你，欢迎问我任何问题。")]
QUERY = "晚上睡不着应该怎么办"


@pytest.fixture(scope="module")
def folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of the real vocabulary, with the tokenizer's real files."""
    published = json.loads((shared / "configs" / "chatglm-6b" / "config.json").read_text())
    ids = {key: published[key] for key in published if key.endswith("_id")}
    sizes = {"hidden_size": 16, "inner_hidden_size": 24, "num_attention_heads": 2, "num_layers": 1}
    config, tensors = random_tensors(seed=2, vocab_size=published["vocab_size"], **sizes, **ids)
    path = write_folder(tmp_path_factory.mktemp("chatglm"), config, tensors)
    shutil.copy(shared / "tokenizers" / "chatglm-6b" / "ice_text.model", path)
    shutil.copy(shared / "configs" / "chatglm-6b" / "tokenizer_config.json", path)
    return path


@pytest.fixture(scope="module")
def llm(folder: Path) -> LLM:
    """It, loaded."""
    return glm4.load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def format_(llm: LLM) -> ChatGLM6BFormat:
    """Its chat format, as `load_model` finds it."""
    found = llm.tokenizer.format
    assert isinstance(found, ChatGLM6BFormat)
    return found


def prompt_of(history: list[tuple[str, str]], query: str) -> str:
    """The original's words."""
    if not history:
        return query
    text = ""
    for i, (question, answer) in enumerate(history):
        text += f"[Round {i}]\n问：{question}\n答：{answer}\n"
    return text + f"[Round {len(history)}]\n问：{query}\n答："


@pytest.mark.parametrize("history", [[], HISTORY, [*HISTORY, ("b", ""), ("", "c\n[Round 5]")]])
def test_rounds(format_: ChatGLM6BFormat, llm: LLM, history: list[tuple[str, str]]) -> None:
    messages = history_messages(history, QUERY)
    text = prompt_of(history, QUERY)
    assert format_.render_text(messages) == text + "[gMASK]<sop>"
    assert format_.render(messages) == llm.tokenizer.encode(text)
    assert format_.render(messages)[-2:] == [GMASK, SOP]
    assert format_.render(messages, add_generation_prompt=False) == format_.render(messages)[:-2]


def test_documented_prompts(format_: ChatGLM6BFormat) -> None:
    assert format_.render([{"role": "user", "content": "你好"}]) == [5, 74874, GMASK, SOP]
    assert len(format_.render(history_messages(HISTORY, QUERY))) == 52 + 2  # 52 is the original's count of the text's


def test_nobody_forges_a_control_token(format_: ChatGLM6BFormat) -> None:
    ids = format_.render(history_messages([("<eop>", "<sop>")], "[gMASK]<sop> [MASK] </s><pad>"))
    assert not {3, 2, 130000, GMASK, SOP, EOP} & set(ids[:-2])


def test_a_system_message_stands_in_front(format_: ChatGLM6BFormat) -> None:
    system = {"role": "system", "content": "Be brief."}
    alone = [system, {"role": "user", "content": "a"}]
    assert format_.render_text(alone) == "Be brief.\na[gMASK]<sop>"
    rounds = format_.render_text([system, *history_messages(HISTORY, QUERY)])
    assert rounds == "Be brief.\n" + prompt_of(HISTORY, QUERY) + "[gMASK]<sop>"
    assert format_.render_text([{"role": "system", "content": ""}, alone[1]]) == "a[gMASK]<sop>"


def _m(*roles: str) -> list[dict[str, Any]]:
    return [{"role": role, "content": "x"} for role in roles]


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        (_m("assistant", "user"), r"messages\[0\] has the role assistant where the user's turn is"),
        (_m("user", "user"), r"messages\[1\] has the role user where the assistant's turn is"),
        (_m("system", "user", "user"), r"messages\[2\] has the role user where the assistant's turn is"),
        (_m("user", "system"), r"messages\[1\] has the role system where"),
        (_m("user", "assistant"), "no question to answer; end with a message of the role user"),
        (_m("system"), "no question to answer"),
        (_m("user", "assistant", "tool"), r"messages\[2\] has to do with tools"),
        ([{"role": "user", "content": ""}], "every message is empty"),
        ([{"role": "user", "content": "x", "image": b"png"}], r"messages\[0\] has an image, but ChatGLM-6B reads text"),
        ([{"role": "user", "content": "x", "metadata": "python"}], r"messages\[0\] has to do with tools"),
        (
            [*_m("user"), {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}],
            r"messages\[1\] has to do with tools",
        ),
        ([{"role": "system", "content": "", "tools": [{"type": "python"}]}, *_m("user")], r"messages\[0\] has to do"),
    ],
)
def test_what_it_cannot_show(format_: ChatGLM6BFormat, llm: LLM, messages: list[dict[str, Any]], says: str) -> None:
    for render in (format_.render, format_.render_text, llm.chat):
        with pytest.raises(InputError, match=says):
            render(messages)


def test_tools_are_refused(format_: ChatGLM6BFormat, llm: LLM) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(InputError, match="knows nothing of tools"):
        format_.render(_m("user"), [tool])
    with pytest.raises(InputError, match="tools"):
        llm.chat(_m("user"), [tool])
    assert format_.render(_m("user"), []) == format_.render(_m("user"))


@pytest.mark.parametrize("history", [["ab"], [("a",)], [("a", 1)], [None], [{"a": "b"}]])
def test_a_history_that_is_no_pairs(history: Any) -> None:
    with pytest.raises(InputError, match=r"history\[0\] is .*must be a question and its answer"):
        history_messages(history, "q")


# Replies


def original_process(text: str) -> str:
    """The original's steps, on a whole text."""
    text = text.strip().replace("[[训练时间]]", "2023年")
    for half, full in ((",", "，"), ("!", "！"), (":", "："), (";", "；"), (r"\?", "？")):
        text = re.sub(rf"([\u4e00-\u9fff]){half}", rf"\1{full}", text)
        text = re.sub(rf"{half}([\u4e00-\u9fff])", rf"{full}\1", text)
    return text


def streamed(pieces: list[str]) -> tuple[str, list[str]]:
    """(The reply joined, each piece as it came)."""
    parser = ProcessedReply()
    events = [parser.push(piece) for piece in pieces] + [parser.finish()]
    assert all(isinstance(event, TextDelta) and event.text for some in events for event in some)
    shown = ["".join(event.text for event in some if isinstance(event, TextDelta)) for some in events]
    return "".join(shown), shown


@given(
    st.lists(st.sampled_from([*"中龥一,!:;?。， \n\t\u3000a[]", "[[训练时间]]", "[[训练", "时间]]"]), max_size=20),
    st.data(),
)
def test_streamed_is_the_originals_whole(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    assert streamed(pieces)[0] == streamed(parts)[0] == streamed([text])[0] == original_process(text)


def test_what_is_withheld_and_no_more() -> None:
    _, shown = streamed(list("\n你,a,b,好 ok [[训练时间]]. \n"))
    assert shown[:12] == ["", "你", "，", "a", "", ",b", "", "，好", "", " o", "k", ""]
    assert shown[12:] == [" ", *[""] * 6, "2023年", ".", "", "", ""]


def test_documented_reply(format_: ChatGLM6BFormat, llm: LLM) -> None:
    raw = "你好👋!我是人工智能助手 ChatGLM-6B,很高兴见到你,欢迎问我任何问题。"
    half_a_mark = raw.replace("👋!我", "👋！我").replace("6B,很", "6B，很").replace("你,欢", "你，欢")
    assert format_.parse(raw).content == half_a_mark == HISTORY[0][1]
    ids = llm.tokenizer.encode(raw, add_special_tokens=False)
    assert format_.parse([*ids, EOP, 5, 74874]).content == half_a_mark
    assert format_.parse(ids).tool_calls == ()


def test_training_data_is_the_originals(format_: ChatGLM6BFormat, llm: LLM) -> None:
    messages = [*history_messages(HISTORY, QUERY), {"role": "assistant", "content": "多喝水"}]
    rendered = format_.render_for_training(messages)
    prompt, answer = format_.render(messages[:-1]), llm.tokenizer.encode("多喝水", add_special_tokens=False)
    assert rendered.ids == [*prompt, *answer, EOP]
    assert rendered.loss_mask == [0] * (len(prompt) - 1) + [1] * (len(answer) + 2)
    with pytest.raises(InputError, match=r"messages\[2\] is no answer"):
        format_.render_for_training(messages[:-1])
    with pytest.raises(InputError, match="knows nothing of tools"):
        format_.render_for_training(messages, [{"type": "python"}])


# Through the whole library


def test_chat_and_stream(llm: LLM) -> None:
    messages = history_messages(HISTORY, QUERY)
    sampling = {"max_tokens": 40, "seed": 5, "temperature": 2.0}
    whole = llm.chat(messages, **sampling)
    pieces = list(llm.stream(messages, **sampling))
    assert "".join(piece.text for piece in pieces) == whole.content != ""
    assert [i for piece in pieces for i in piece.token_ids] == whole.token_ids
    assert whole.content == original_process(llm.tokenizer.decode(whole.token_ids, skip_special_tokens=True))
    assert whole.usage.prompt_tokens == 54
    assert llm.stop_token_ids == {EOP}
    assert whole.content == llm.tokenizer.parse(whole.token_ids).content


def test_text_and_ids_as_prompts(llm: LLM) -> None:
    ids = llm.tokenizer.encode("你好")
    assert ids == [5, 74874, GMASK, SOP]
    by_text = llm.generate("你好", max_tokens=5, temperature=0)
    assert by_text.token_ids == llm.generate(ids, max_tokens=5, temperature=0).token_ids
    for bad in (ids[:2], ids[:3], [5, 74874, SOP]):
        with pytest.raises(InputError, match=r"end it with \[gMASK\] and <sop>, ids 130001 and 130004"):
            llm.generate(bad, max_tokens=5)
        with pytest.raises(InputError, match="end it with"):
            llm.logits(bad)
    assert llm.generate(ids, max_tokens=5, temperature=0).token_ids == by_text.token_ids
    with pytest.raises(PromptTooLong):
        llm.generate([5] * 126 + ids, max_tokens=5)


def test_a_folder_is_known_by_its_vocabulary(folder: Path, shared: Path) -> None:
    tokenizer = glm4.load_tokenizer(folder)
    assert (tokenizer.format.name, tokenizer.format.is_base) == ("chatglm-6b", False)
    assert tokenizer.encode("<sop>", add_special_tokens=False) != [SOP]
    assert tokenizer.encode("<sop>", add_special_tokens=False, parse_special=True) == [SOP]
    assert load_tokenizer(shared / "tokenizers" / "glm-4").encode("你好")[0] == 151331


def test_a_damaged_vocabulary_is_said_at_once(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "pytorch_model.bin", "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path)
    (tmp_path / "ice_text.model").write_bytes((folder / "ice_text.model").read_bytes()[:100_000])
    with pytest.raises(glm4.errors.CheckpointError, match=r"ice_text\.model"):
        glm4.load_model(tmp_path)
    (tmp_path / "ice_text.model").unlink()
    without = glm4.load_model(tmp_path)
    assert without.generate([5, GMASK, SOP], max_tokens=2).token_ids
    with pytest.raises(glm4.errors.CheckpointError, match=r"ice_text\.model"):
        without.chat([{"role": "user", "content": "a"}])


def test_the_vocabulary_of_the_other_release(folder: Path, tmp_path: Path) -> None:
    """tokenizer_config.json and the weights disagree: said before anything is encoded wrongly."""
    for name in ("config.json", "pytorch_model.bin", "ice_text.model"):
        shutil.copy(folder / name, tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"num_image_tokens": 20000}))
    with pytest.raises((ConfigError, glm4.errors.CheckpointError), match="150344 tokens and the model only 130528"):
        glm4.load_model(tmp_path)
