"""LLM: text or ids in, replies out; what it refuses, and that it goes on as if nothing had happened."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_models import random_checkpoint, random_ids
from tiny_tokenizer import tiny_tokenizer, write_ranks

import glm4
from glm4.chat import ChatTokenizer
from glm4.engine.generate import Step
from glm4.errors import CheckpointError, ConfigError, InputError, OutOfMemory, PromptTooLong, ToolCallError
from glm4.llm import LLM
from glm4.loading import load_model
from glm4.sampling import SamplingParams

V = 384  # rows; the tiny vocabulary has fewer, as GLM-4-9B's has
CONTEXT = 1024
USER = [{"role": "user", "content": "hello"}]
WEATHER = {"type": "function", "function": {"name": "get_time", "description": "", "parameters": {"type": "object"}}}


def write(folder: Path, *, tokenizer: bool = True, chat_format: str | None = "glm-4-chat", **changes: Any) -> Path:
    """A random checkpoint with the tiny vocabulary."""
    random_checkpoint(folder, seed=31, vocab_size=V, max_positions=CONTEXT, **changes)
    if tokenizer:
        write_ranks(folder / "tokenizer.model")
        config = {} if chat_format is None else {"chat_format": chat_format}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def set_json(path: Path, **values: Any) -> None:
    """Change keys of a JSON file, made if need be."""
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    """A chat model. Shared: no test may change it for good."""
    return load_model(write(tmp_path_factory.mktemp("chat")))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    """A base model."""
    return load_model(write(tmp_path_factory.mktemp("base"), chat_format=None))


@pytest.fixture(scope="module")
def ids_only(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    """The chat model's weights without any tokenizer."""
    return load_model(write(tmp_path_factory.mktemp("ids"), tokenizer=False))


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make every model say a given text, cut into single bytes, however it is prompted."""

    def script(text: str, end: str | None = "<|user|>", *, by_token: bool = False) -> None:
        tokenizer = tiny_tokenizer()
        whole = tokenizer.encode(text, add_special_tokens=False)
        ids = whole if by_token or "<|" in text else list(text.encode())
        ids += [tokenizer.special_tokens[end]] if end else []

        def steps(*_: Any) -> Iterator[Step]:
            for i, token in enumerate(ids):
                last = "stop" if end else "length"
                yield Step(token, None, last if i == len(ids) - 1 else None)  # type: ignore[arg-type]

        monkeypatch.setattr("glm4.llm.generate", steps)

    return script


@pytest.fixture(autouse=True)
def works_afterwards(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does to the shared model: the next call gives what it always gave."""
    if "llm" not in request.fixturenames or "says" in request.fixturenames:
        yield
        return
    llm: LLM = request.getfixturevalue("llm")
    before = llm.generate([1, 2, 3], max_tokens=4, temperature=0).token_ids
    yield
    assert llm.generate([1, 2, 3], max_tokens=4, temperature=0).token_ids == before


# --- generate: what goes in ------------------------------------------------------------------------------------------


def greedy(llm: LLM, prompt: Any, **params: Any) -> list[int]:
    """Ten greedy tokens."""
    tokens: list[int] = llm.generate(prompt, **{"max_tokens": 10, "temperature": 0, **params}).token_ids
    return tokens


def test_ids_in_every_form(llm: LLM) -> None:
    """List, tuple, range, tensor of any integer type, array."""
    expected = greedy(llm, [5, 6, 7])
    for form in ((5, 6, 7), range(5, 8), torch.tensor([5, 6, 7]), torch.tensor([5, 6, 7], dtype=torch.int32),
                 np.array([5, 6, 7]), np.array([5, 6, 7], dtype=np.uint16)):  # fmt: skip
        assert greedy(llm, form) == expected, repr(form)


def test_text_is_encoded_with_the_prefix(llm: LLM) -> None:
    """[gMASK]<sop> in front, as the original's tokenizer puts it; ids are taken as they are."""
    ids = llm.tokenizer.encode("hello the weather")
    assert ids[:2] == llm.tokenizer.prefix_ids
    assert greedy(llm, "hello the weather") == greedy(llm, ids)
    assert greedy(llm, ids[2:]) != greedy(llm, ids)
    assert llm.generate("hello", max_tokens=1).usage.prompt_tokens == len(llm.tokenizer.encode("hello"))


def test_a_list_in_gives_a_list_out(llm: LLM) -> None:
    """In order, of mixed lengths and forms; a list of one too."""
    prompts: list[Any] = [[5, 6, 7], "hello", torch.tensor([9]), [1] * 40, np.array([3, 4])]
    together = llm.generate(prompts, max_tokens=10, temperature=0)
    assert [done.token_ids for done in together] == [greedy(llm, prompt) for prompt in prompts]
    (alone,) = llm.generate([[5, 6, 7]], max_tokens=10, temperature=0)
    assert alone.token_ids == greedy(llm, [5, 6, 7])
    batch = llm.generate(torch.tensor([[5, 6, 7], [7, 6, 5]]), max_tokens=10, temperature=0)
    assert [done.token_ids for done in batch] == [greedy(llm, [5, 6, 7]), greedy(llm, [7, 6, 5])]


@pytest.mark.parametrize(
    "prompt",
    [
        "", [], [[]], [[1], []], ["hello", ""], None, 5, 3.5, {}, {1: 2}, {1, 2}, b"", b"abc", [b"abc"], object(),
        torch.tensor([]), torch.tensor(5), torch.tensor([1.0, 2.0]), torch.tensor([[[1]]]), np.array([], dtype=int),
        [None], [[None]], (i for i in (1, 2)),
    ],
    ids=lambda p: repr(p)[:30],
)  # fmt: skip
def test_prompts_that_are_none(prompt: Any, llm: LLM) -> None:
    """Empty ones, and what is no prompt at all."""
    with pytest.raises(InputError, match="prompt"):
        llm.generate(prompt, max_tokens=1)


@pytest.mark.parametrize("bad", [-1, V, 2**40, 2**70, True, False, 1.0, math.nan, "1", None, [1], b"1"], ids=repr)
@pytest.mark.parametrize("position", [0, 2])
def test_ids_out_of_range_or_of_another_kind(position: int, bad: Any, llm: LLM) -> None:
    """The value and the range are named; -1 would index from the end, 1.0 and True would pass as 1."""
    ids: list[Any] = [1, 2, 3]
    ids[position] = bad
    with pytest.raises(InputError) as caught:
        llm.generate(ids, max_tokens=1)
    if position or type(bad) is int:  # a list that begins with no integer is read as a list of prompts
        assert repr(bad) in str(caught.value)
        assert f"0 to {V - 1}" in str(caught.value)
    with pytest.raises(InputError, match=re.escape(f"holds {bad!r}")):
        llm.generate([[1, 2], ids], max_tokens=1)


def test_the_last_id_is_allowed(llm: LLM) -> None:
    """Padding rows of the embedding are rows."""
    greedy(llm, [V - 1, 0])


@pytest.mark.parametrize("length", [20, 21, 5000])
def test_a_prompt_longer_than_the_context(length: int, llm: LLM) -> None:
    """Both numbers are named; one token less leaves room for one token."""
    small = LLM(
        llm.model,
        llm.tokenizer,
        name="small",
        stop_token_ids=frozenset(),
        default_sampling=llm.default_sampling,
        context=20,
    )
    for prompt in ([1] * length, [[1], [1] * length]):
        with pytest.raises(PromptTooLong, match=rf"{length} tokens.* 20\b"):
            small.generate(prompt)
    done = small.generate([1] * 19, temperature=0)
    assert (len(done.token_ids), done.finish_reason) == (1, "length")


def test_all_prompts_are_checked_before_the_first_is_computed(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour's batch must not fail at its last line."""
    monkeypatch.setattr("glm4.llm.generate", lambda *_: pytest.fail("it began to compute"))
    with pytest.raises(InputError):
        llm.generate([[1, 2], [3, V]])


def test_a_misspelt_or_bad_parameter(llm: LLM) -> None:
    """From every door."""
    for call in (llm.generate, llm.chat, llm.stream):
        prompt: Any = [1, 2] if call == llm.generate else USER
        with pytest.raises(InputError, match="did you mean 'temperature'"):
            call(prompt, temperatur=1)
        with pytest.raises(InputError, match="top_p is nan"):
            call(prompt, top_p=math.nan)


# --- generate: what comes out ----------------------------------------------------------------------------------------


def test_completion(llm: LLM) -> None:
    """Tokens, text, usage, reason and log-probabilities belong together."""
    done = llm.generate([1, 2, 3], max_tokens=12, temperature=1.0, seed=5, logprobs=2, ignore_eos=True)
    assert len(done.token_ids) == 12
    assert all(type(token) is int for token in done.token_ids)
    assert done.text == llm.tokenizer.decode(done.token_ids, skip_special_tokens=True)
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (3, 12, 15)
    assert done.finish_reason == "length"
    assert done.logprobs is not None
    assert [entry.token_id for entry in done.logprobs] == done.token_ids
    expected = llm.logits([1, 2, 3, *done.token_ids])[0, 2:-1].log_softmax(-1)
    for row, entry in zip(expected, done.logprobs, strict=True):
        assert entry.logprob == pytest.approx(float(row[entry.token_id]), abs=1e-4)
        assert list(entry.top) == row.topk(2).indices.tolist()
    assert llm.generate([1, 2, 3], max_tokens=1).logprobs is None


def test_n_replies_with_seeds(llm: LLM) -> None:
    """Reply i is what seed + i alone gives."""
    many = llm.generate([1, 2], n=4, seed=10, max_tokens=8, temperature=1.5)
    alone = [llm.generate([1, 2], seed=10 + i, max_tokens=8, temperature=1.5).token_ids for i in range(4)]
    assert [choice.token_ids for choice in many.choices] == alone
    assert many.choices[0] is many
    assert len({tuple(tokens) for tokens in alone}) > 1
    unseeded = llm.generate([1, 2], n=3, max_tokens=8, temperature=1.5)
    assert len({tuple(choice.token_ids) for choice in unseeded.choices}) > 1
    replies = llm.chat(USER, n=3, seed=10, max_tokens=8, temperature=1.5).choices
    assert [r.token_ids for r in replies] == [
        llm.chat(USER, seed=10 + i, max_tokens=8, temperature=1.5).token_ids for i in range(3)
    ]
    last = llm.generate([1, 2], n=2, seed=2**63 - 1, max_tokens=8, temperature=1.5).choices[1]
    assert last.token_ids == llm.generate([1, 2], seed=-(2**63), max_tokens=8, temperature=1.5).token_ids


def test_without_a_tokenizer(ids_only: LLM, llm: LLM) -> None:
    """Ids work as ever; whatever needs text names the missing file."""
    done = ids_only.generate([1, 2, 3], max_tokens=5, temperature=0)
    assert done.token_ids == greedy(llm, [1, 2, 3], max_tokens=5)
    needs_text: list[Callable[[], Any]] = [
        lambda: done.text,
        lambda: ids_only.tokenizer,
        lambda: ids_only.generate("hello"),
        lambda: ids_only.generate([[1], "hello"]),
        lambda: ids_only.generate([1], stop="x"),
        lambda: ids_only.chat(USER),
        lambda: ids_only.stream(USER),
    ]
    for call in needs_text:
        with pytest.raises(CheckpointError, match=r"tokenizer\.model is missing"):
            call()
    assert ids_only.logits([[1, 2]]).shape == (1, 2, V)


TRICKY = "ab<EN<END and then<END> more"


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("<END>", "ab<EN<END and then"), ("<END", "ab<EN"), (["zzz", " more"], "ab<EN<END and then<END>"),
        ("a", ""), (["then", " and"], "ab<EN<END"), (["<END> more", "<END>!"], "ab<EN<END and then"), ("nope", TRICKY),
        (["E", "<E"], "ab"), ("re", "ab<EN<END and then<END> mo"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("by_token", [False, True], ids=["bytes", "tokens"])
def test_stop_strings_cut_and_never_leak(
    stop: Any, expected: str, by_token: bool, llm: LLM, says: Callable[..., None]
) -> None:
    """Across tokens, after false starts, in every way of asking; no piece of one is ever streamed."""
    says(TRICKY, by_token=by_token)
    done = llm.generate([1], stop=stop)
    assert (done.text, done.finish_reason) == (expected, "stop")
    reply = llm.chat(USER, stop=stop)
    assert (reply.content, reply.finish_reason) == (expected, "stop")
    pieces = [delta.text for delta in llm.stream(USER, stop=stop)]
    assert "".join(pieces) == expected
    if expected != TRICKY:
        assert len(done.token_ids) < len(TRICKY) + 1, "it went on computing after the stop string"
        assert done.usage.completion_tokens == len(done.token_ids)


def test_the_token_that_ends_a_reply_is_no_text(llm: LLM) -> None:
    """Not even where the caller's own stop id is an ordinary token."""
    free = llm.generate([1, 2], max_tokens=12, temperature=0, ignore_eos=True)
    end = free.token_ids[-1]
    first = free.token_ids.index(end)
    done = llm.generate([1, 2], max_tokens=12, temperature=0, ignore_eos=True, stop_token_ids=[end])
    assert done.token_ids == free.token_ids[: first + 1]
    assert done.finish_reason == "stop"
    assert done.text == llm.tokenizer.decode(done.token_ids[:-1], skip_special_tokens=True)
    assert done.text != llm.tokenizer.decode(done.token_ids, skip_special_tokens=True)
    chosen = llm.chat(USER, max_tokens=12, temperature=0, ignore_eos=True).token_ids[4]
    reply = llm.chat(USER, max_tokens=12, temperature=0, ignore_eos=True, stop_token_ids=[chosen])
    assert reply.token_ids[-1] == chosen
    decoded = llm.tokenizer.decode(reply.token_ids[:-1], skip_special_tokens=True)
    assert reply.content == decoded.removeprefix("\n")
    assert llm.tokenizer.bytes_of(chosen), "a token without text shows nothing"


def test_a_withheld_beginning_is_released_at_the_end(llm: LLM, says: Callable[..., None]) -> None:
    """The reply ends inside what might have become a stop string."""
    for end in ("<|user|>", None):
        says("see <EN", end)
        assert llm.chat(USER, stop="<END>").content == "see <EN"
        assert llm.generate([1], stop="<END>").text == "see <EN"


# --- chat and stream -------------------------------------------------------------------------------------------------


def test_streamed_joined_equals_whole_equals_decoded(llm: LLM) -> None:
    """Random bytes, so mostly broken UTF-8 and stray control tokens: the three ways must agree all the same."""
    compared = 0
    turn = llm.tokenizer.special_tokens["<|assistant|>"]
    for seed in range(20):
        params = {"seed": seed, "temperature": 1.3, "max_tokens": 25}
        deltas = list(llm.stream(USER, **params))
        reply = llm.chat(USER, **params)
        ids = [token for delta in deltas for token in delta.token_ids]
        assert ids == reply.token_ids, f"seed {seed}"
        assert "".join(delta.text for delta in deltas) == reply.content, f"seed {seed}"
        assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
        assert (deltas[-1].finish_reason, deltas[-1].usage) == (reply.finish_reason, reply.usage)
        assert reply.usage.completion_tokens == len(ids)
        assert reply.usage.prompt_tokens == len(llm.tokenizer.render(USER))
        if turn not in ids:
            assert reply.content == llm.tokenizer.decode(ids, skip_special_tokens=True).removeprefix("\n"), (
                f"seed {seed}"
            )
            compared += 1
    assert compared > 10


@pytest.mark.parametrize("text", ["\n你好，👍🏽 é!", "\n\nkept", "no newline", "\n", "", "tail \n\n"])
def test_whole_characters_and_one_leading_newline_less(text: str, llm: LLM, says: Callable[..., None]) -> None:
    """Byte by byte: never half a character, and only the format's own newline goes."""
    says(text)
    pieces = [delta.text for delta in llm.stream(USER)]
    assert "�" not in "".join(pieces)
    assert "".join(pieces) == llm.chat(USER).content == text.removeprefix("\n")
    assert llm.generate([1]).text == text
    if "👍" in text:
        assert "👍" in pieces


def test_a_reply_is_ready_to_be_appended(llm: LLM, says: Callable[..., None]) -> None:
    """As a message of the next turn."""
    says("\nfine")
    reply = llm.chat(USER)
    assert reply.message == {"role": "assistant", "content": "fine"}
    assert llm.chat([*USER, reply.message, *USER]).content == "fine"


def test_a_tool_call(llm: LLM, says: Callable[..., None]) -> None:
    """Whole, once, with its own finish reason; text before it is content."""
    arguments = '{"city": "北京 {\\"}"}'
    for before in ("", "Let me look.\n"):
        says(f"{before}get_time\n{arguments}", "<|observation|>")
        reply = llm.chat(USER, [WEATHER])
        deltas = list(llm.stream(USER, [WEATHER]))
        assert reply.finish_reason == deltas[-1].finish_reason == "tool_calls"
        for calls in (reply.tool_calls, [call for delta in deltas for call in delta.tool_calls]):
            assert [(call.name, call.arguments) for call in calls] == [("get_time", arguments)]
            assert calls[0].id
        assert reply.content.strip() == before.strip()
        assert "".join(delta.text for delta in deltas) == reply.content
        assert "get_time" not in reply.content
        message = reply.message["tool_calls"][0]
        assert (message["type"], message["function"]) == ("function", {"name": "get_time", "arguments": arguments})
        llm.chat([*USER, reply.message, {"role": "tool", "tool_call_id": message["id"], "content": "12:00"}], [WEATHER])


def test_a_tool_call_cut_off(llm: LLM, says: Callable[..., None]) -> None:
    """Its arguments are no JSON; the reason says that it was cut, not that there is something to run."""
    says('get_time\n{"city": "Bei', None)
    reply = llm.chat(USER, [WEATHER])
    assert reply.finish_reason == "length"
    assert [call.arguments for call in reply.tool_calls] in ([], ['{"city": "Bei'])


def test_without_tools_nothing_is_a_call(llm: LLM, says: Callable[..., None]) -> None:
    """The same text from a model that was given none."""
    says("get_time\n{}", "<|observation|>")
    reply = llm.chat(USER)
    assert (reply.content, reply.tool_calls, reply.finish_reason) == ("get_time\n{}", (), "stop")


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "empty"), (None, "list"), ("hello", "list"), ([{"role": "user"}], "content"), ([{"content": "x"}], "role"),
        ([{"role": "robot", "content": "x"}], "robot"), ([5], r"messages\[0\]"), (USER[0], "list"),
    ],
)  # fmt: skip
def test_bad_messages(messages: Any, message: str, llm: LLM) -> None:
    """Named at once, from stream too, whose iterator nobody may have started."""
    for call in (llm.chat, llm.stream):
        with pytest.raises(InputError, match=message):
            call(messages)


def test_sampling_params_as_a_value(llm: LLM) -> None:
    """In place of the checkpoint's defaults; what is named beside it wins."""
    params = SamplingParams(temperature=0, max_tokens=6)
    expected = greedy(llm, [1, 2], max_tokens=6)
    assert llm.generate([1, 2], params).token_ids == expected
    assert llm.generate([1, 2], params, max_tokens=3).token_ids == expected[:3]
    assert llm.chat(USER, sampling_params=params).token_ids == llm.chat(USER, temperature=0, max_tokens=6).token_ids
    (delta, *_) = llm.stream(USER, sampling_params=params)
    assert delta.token_ids
    for bad in ({"temperature": 0}, 0.7, "greedy"):
        with pytest.raises(InputError, match="pass a SamplingParams"):
            llm.generate([1, 2], bad)  # type: ignore[call-overload]


def test_bad_tools(llm: LLM) -> None:
    """And tools given twice."""
    for call in (llm.chat, llm.stream):
        with pytest.raises(ToolCallError, match=r"tools\[0\]"):
            call(USER, [{"type": "function"}])
        with pytest.raises(InputError, match="twice"):
            call([{"role": "system", "content": "", "tools": [WEATHER]}, *USER], [WEATHER])


@pytest.mark.parametrize(
    "content",
    [
        [
            {"type": "text", "text": "what is it?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
        ],
        [{"type": "image", "image": object()}],
    ],
)
def test_an_image_given_to_a_text_model(content: Any, llm: LLM) -> None:
    """Answering without having seen it would be worse than an error."""
    for messages in (
        [{"role": "user", "content": content}],
        [*USER, {"role": "user", "image": object(), "content": "x"}],
    ):
        for call in (llm.chat, llm.stream):
            with pytest.raises(InputError, match=r"image.* text only"):
                call(messages)


def test_a_conversation_longer_than_the_context(llm: LLM) -> None:
    """The rendered prompt counts."""
    long = [{"role": "user", "content": "a" * CONTEXT}]
    n = len(llm.tokenizer.render(long))
    for call in (llm.chat, llm.stream):
        with pytest.raises(PromptTooLong, match=rf"{n} tokens.*{llm.context}"):
            call(long)


def test_stream_gives_one_reply(llm: LLM) -> None:
    """Several could not be told apart in it."""
    with pytest.raises(InputError, match="n is 2"):
        llm.stream(USER, n=2)


def test_closing_a_stream_ends_the_work(llm: LLM) -> None:
    """And a stream left unfinished is in nobody's way."""
    calls: list[int] = []
    handle = llm.model.register_forward_pre_hook(lambda *_: calls.append(1))
    stream = llm.stream(USER, max_tokens=50, ignore_eos=True)
    next(stream)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    handle.remove()
    assert len(calls) == 2


def test_chat_on_a_base_model_warns(base: LLM) -> None:
    """It names the caller's line and the remedy, and answers all the same."""
    for call in (base.chat, lambda *a, **k: list(base.stream(*a, **k))):
        with pytest.warns(UserWarning, match="base model.*Load a -chat checkpoint, or use generate") as caught:
            call(USER, max_tokens=2)
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        base.generate("hello", max_tokens=2)


def test_chat_on_a_chat_model_does_not_warn(llm: LLM) -> None:
    """Nor does loading it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        llm.chat(USER, max_tokens=2)


# --- logits ----------------------------------------------------------------------------------------------------------


def test_logits_of_one_sequence_or_several(llm: LLM) -> None:
    """[T] is a batch of one; lists and tensors alike; float32 without gradients."""
    ids = random_ids(1, 2, 6, vocab_size=V)
    out = llm.logits(ids)
    assert out.shape == (2, 6, V)
    assert out.dtype == torch.float32
    assert not out.requires_grad
    for form in (ids.tolist(), ids.int(), ids.numpy()):
        assert torch.equal(llm.logits(form), out)
    torch.testing.assert_close(llm.logits(ids[0])[0], out[0], atol=1e-5, rtol=0)


def test_logits_behind_padding_equal_each_alone(llm: LLM) -> None:
    """Positions follow from the mask where none are given, across holes too; bool masks are masks."""
    ids = random_ids(2, 4, 8, vocab_size=V)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0, 0], [1] * 8, [0, 1, 1, 0, 0, 0, 1, 1]])
    out = llm.logits(ids, attention_mask=mask)
    for row in range(4):
        kept = mask[row].bool()
        torch.testing.assert_close(out[row, kept], llm.logits(ids[row, kept])[0], atol=1e-4, rtol=0)
    assert torch.equal(llm.logits(ids, attention_mask=mask.bool()), out)
    assert llm.logits(ids, attention_mask=[[0] * 8] * 4).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": [[1, 2], [3]]}, "ids is not a rectangle"),
        ({"ids": []}, "ids must be integers"),
        ({"ids": [[]]}, "ids must be integers"),
        ({"ids": 5}, "ids must be integers"),
        ({"ids": [[[1]]]}, r"ids must be integers .*\[1, 1, 1\]"),
        ({"ids": [[1.0, 2.0]]}, "ids must be integers .*float32"),
        ({"ids": [[True, False]]}, "ids must be integers"),
        ({"ids": torch.tensor([[1 + 2j]])}, "ids must be integers"),
        ({"ids": "text"}, "ids"),
        ({"ids": ["a", "b"]}, "ids"),
        ({"ids": None}, "ids"),
        ({"ids": [[1, None]]}, "ids"),
        ({"ids": [[-1, 2]]}, f"ids holds -1; it must be from 0 to {V - 1}"),
        ({"ids": [[1, V]]}, f"ids holds {V};"),
        ({"ids": [[1, 2**40]]}, "ids holds 1099511627776"),
        ({"ids": [[1, 2**70]]}, "ids"),
        ({"ids": [[1, 2]], "position_ids": [[0, 1, 2]]}, r"position_ids has shape \[1, 3\], the ids have \[1, 2\]"),
        ({"ids": [[1, 2]], "position_ids": [[0], [1]]}, "position_ids has shape"),
        ({"ids": [[1, 2]], "position_ids": [[0, -1]]}, "position_ids holds -1"),
        ({"ids": [[1, 2]], "position_ids": [[0, 1024]]}, "position_ids holds 1024; it must be from 0 to 1023"),
        ({"ids": [[1, 2]], "position_ids": [[0.0, 1.0]]}, "position_ids must be integers"),
        ({"ids": [[1, 2]], "attention_mask": [[1, 2]]}, "attention_mask holds 2; it must be from 0 to 1"),
        ({"ids": [[1, 2]], "attention_mask": [[1, 1], [1, 1]]}, "attention_mask has shape"),
        ({"ids": [[1, 2]], "attention_mask": [[1.0, 1.0]]}, "attention_mask must be integers"),
        ({"ids": [[1, 2], [3, 4]], "attention_mask": [1, 1]}, "attention_mask has shape"),
    ],
    ids=str,
)
def test_logits_refuses(arguments: dict[str, Any], message: str, llm: LLM) -> None:
    """Each argument by its name, with what it holds."""
    with pytest.raises(InputError, match=message):
        llm.logits(**arguments)


def test_logits_longer_than_the_context(llm: LLM) -> None:
    """Positions past the trained ones are nonsense; all of the trained ones may be used."""
    assert llm.logits([1] * CONTEXT).shape == (1, CONTEXT, V)
    with pytest.raises(PromptTooLong, match=rf"{CONTEXT + 1} tokens.* {CONTEXT}"):
        llm.logits([1] * (CONTEXT + 1))


# --- load_model ------------------------------------------------------------------------------------------------------


def test_what_is_loaded_is_told(llm: LLM, tmp_path: Path) -> None:
    """Name, place, type, context."""
    folder = write(tmp_path, dtype=torch.bfloat16)
    loaded = load_model(folder, max_context=100)
    assert (loaded.dtype, loaded.device, loaded.context) == (torch.bfloat16, torch.device("cpu"), 100)
    assert all(part in repr(loaded) for part in (str(folder), "bfloat16", "cpu", "100"))
    assert (llm.dtype, llm.context) == (torch.float32, CONTEXT)
    assert load_model(folder, dtype="float32").dtype == torch.float32
    assert load_model(folder, dtype=torch.float16).dtype == torch.float16
    assert load_model(folder, dtype="fp32").dtype == torch.float32
    set_json(folder / "config.json", torch_dtype="something new")
    assert load_model(folder).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "value", [0, -1, CONTEXT + 1, 2**40, True, "100", 100.0, math.nan, [100], None.__class__], ids=repr
)
def test_max_context_out_of_bounds(value: Any, tmp_path: Path) -> None:
    """It and the trained length are named; 1 and that length itself are fine."""
    folder = write(tmp_path, tokenizer=False)
    with pytest.raises(InputError, match=re.escape(f"max_context is {value!r}") + f".*{CONTEXT}"):
        load_model(folder, max_context=value)
    assert load_model(folder, max_context=CONTEXT).context == CONTEXT
    assert len(load_model(folder, max_context=2).generate([1]).token_ids) == 1


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "cuda:-1", "meta", 3.5, ["cpu"]], ids=repr)
def test_a_device_that_is_not_there(device: Any, tmp_path: Path) -> None:
    """Before anything is read from disk."""
    folder = write(tmp_path, tokenizer=False)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=re.escape(f"device {device!r} cannot be used")):
        load_model(folder, device=device)


@pytest.mark.parametrize("dtype", ["int8", "float64", torch.float64, torch.int8, "", 16, ["float32"]], ids=repr)
def test_a_dtype_that_is_not_supported(dtype: Any, tmp_path: Path) -> None:
    """The known ones are listed."""
    folder = write(tmp_path, tokenizer=False)
    with pytest.raises(InputError, match=r"dtype is .*known: auto, bfloat16, float16, float32"):
        load_model(folder, dtype=dtype)


SPECIALS = tiny_tokenizer().stop_token_ids


@pytest.mark.parametrize(
    ("in_config", "in_generation_config", "tokenizer", "expected"),
    [
        (5, [6, 7], True, {5, 6, 7} | SPECIALS),
        ([5, 6], 6, True, {5, 6} | SPECIALS),
        (None, None, True, SPECIALS),
        (None, [7], False, {7}),
        ([8], None, False, {8}),
        ([], [], False, frozenset()),
    ],
)
def test_stop_ids_are_the_union_of_three_places(
    in_config: Any, in_generation_config: Any, tokenizer: bool, expected: set[int], tmp_path: Path
) -> None:
    """Fine-tunes lose them in one or the other, and then never stop."""
    folder = write(tmp_path, tokenizer=tokenizer)
    set_json(folder / "config.json", eos_token_id=in_config)
    set_json(folder / "generation_config.json", eos_token_id=in_generation_config)
    llm = load_model(folder)
    assert llm.stop_token_ids == expected
    for stop in sorted(expected)[:2]:
        done = llm.generate([1, 2], temperature=0, max_tokens=30)
        assert stop not in done.token_ids[:-1]


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("value", ["<|user|>", [1.5], [True], -1, [5, V], {"a": 1}, 2.0, [None], [[1]]], ids=repr)
def test_bad_end_tokens(value: Any, file: str, tmp_path: Path) -> None:
    """The file is named: there are two that may hold them."""
    folder = write(tmp_path)
    set_json(folder / file, eos_token_id=value)
    with pytest.raises(ConfigError, match=re.escape(f"eos_token_id is {value!r}")) as caught:
        load_model(folder)
    assert str(folder / file) in str(caught.value)


def test_defaults_come_from_the_checkpoint(tmp_path: Path) -> None:
    """generation_config.json's, and each call may change any of them."""
    folder = write(tmp_path)
    set_json(folder / "generation_config.json", do_sample=True, temperature=0.8, top_p=0.7)
    llm = load_model(folder)
    assert (llm.default_sampling.temperature, llm.default_sampling.top_p) == (0.8, 0.7)
    explicit = llm.generate([1], temperature=0.8, top_p=0.7, seed=3, max_tokens=9).token_ids
    assert llm.generate([1], seed=3, max_tokens=9).token_ids == explicit
    set_json(folder / "generation_config.json", do_sample=False)
    assert load_model(folder).generate([1], max_tokens=9).token_ids == greedy(llm, [1], max_tokens=9)


@pytest.mark.parametrize(
    "values", [{"temperature": "hot"}, {"top_p": 3}, {"top_k": 2.5}, {"temperature": math.nan}], ids=str
)
def test_bad_defaults_name_their_file(values: dict[str, Any], tmp_path: Path) -> None:
    """The caller passed nothing wrong, so an error about a parameter alone would puzzle."""
    folder = write(tmp_path)
    set_json(folder / "generation_config.json", **values)
    with pytest.raises(ConfigError) as caught:
        load_model(folder)
    assert str(folder / "generation_config.json") in str(caught.value)
    assert next(iter(values)) in str(caught.value)


def test_a_damaged_generation_config(tmp_path: Path) -> None:
    """Not silently without end tokens and defaults."""
    folder = write(tmp_path)
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"generation_config\.json is not valid JSON"):
        load_model(folder)


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    """More tokens than rows: some texts would index past the embedding."""
    folder = write(tmp_path)
    random_checkpoint(folder, vocab_size=300)
    with pytest.raises(CheckpointError, match=rf"{tiny_tokenizer().vocab_size} tokens and the model only 300"):
        load_model(folder)


def test_running_out_of_memory(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was for and what to do, from the processor's allocator as from a GPU's; other errors stay as they are."""

    def fails(error: Exception) -> Callable[..., Any]:
        def forward(*_: Any, **__: Any) -> Any:
            raise error

        return forward

    cpu = RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes.")
    for error in (cpu, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")):
        monkeypatch.setattr(llm.model, "forward", fails(error))
        with pytest.raises(OutOfMemory, match=r"prompt of 3 tokens.*max_tokens=") as caught:
            llm.generate([1, 2, 3])
        assert isinstance(caught.value, MemoryError)
        with pytest.raises(OutOfMemory, match=r"float32 logits \[1, 2, 384\].*Pass fewer tokens"):
            llm.logits([1, 2])
        with pytest.raises(OutOfMemory):
            list(llm.stream(USER))
    monkeypatch.setattr(llm.model, "forward", fails(RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        llm.logits([1, 2])
    monkeypatch.undo()


def test_a_damaged_tokenizer_is_not_a_missing_one(tmp_path: Path) -> None:
    """A folder without one loads for ids; with a broken one it does not load."""
    folder = write(tmp_path)
    (folder / "tokenizer.model").write_text("not ranks\n")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model, line 1"):
        load_model(folder)


def test_load_tokenizer_without_weights(llm: LLM, tmp_path: Path) -> None:
    """The same ids as the model's own."""
    folder = write(tmp_path)
    (folder / "model.safetensors").unlink()
    tokenizer = glm4.load_tokenizer(folder)
    assert isinstance(tokenizer, ChatTokenizer)
    assert tokenizer.encode("hello 你好") == llm.tokenizer.encode("hello 你好")
    assert tokenizer.render(USER) == llm.tokenizer.render(USER)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is missing"):
        glm4.load_tokenizer(folder)


def test_two_models_side_by_side(llm: LLM, base: LLM, tmp_path: Path) -> None:
    """Nothing is shared between them."""
    random_checkpoint(tmp_path, seed=99, vocab_size=V)
    other = load_model(tmp_path)
    prompts: Sequence[list[int]] = ([1, 2, 3], [4, 5])
    before = [[greedy(model, prompt) for prompt in prompts] for model in (llm, other)]
    assert [[greedy(model, prompt) for prompt in prompts] for model in (llm, other)] == before
    assert before[0] != before[1]


def test_one_id_is_no_list_of_ids() -> None:
    """A loop over ids that decodes each forgets the brackets."""
    with pytest.raises(InputError, match=r"ids to decode is 5 .*\[5\]"):
        glm4.load_tokenizer().decode(5)  # type: ignore[arg-type]


def test_quantized_on_load(tmp_path: Path) -> None:
    """Closer with 8 bits than with 4, deterministic, and each says how many bits it has taken."""
    folder = write(tmp_path)
    ids = random_ids(5, 1, 30, vocab_size=V)
    exact = load_model(folder).logits(ids)
    errors = []
    for bits in (8, 4):
        llm = load_model(folder, quantize=bits)
        assert torch.equal(llm.logits(ids), load_model(folder, quantize=bits).logits(ids))
        assert llm.model.layers[0].mlp.down_proj.bits == bits
        errors.append(float((llm.logits(ids) - exact).abs().mean()))
        assert llm.generate(ids[0], max_tokens=3, ignore_eos=True).usage.completion_tokens == 3
    assert 0 < errors[0] < 0.1 * float(exact.std()), errors
    assert 5 * errors[0] < errors[1] < float(exact.std()), errors


@pytest.mark.parametrize("bits", [0, 3, 16, True, "4", 4.5], ids=repr)
def test_bits_that_there_are_not(bits: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"quantize is .* pass 8 or 4"):
        load_model(write(tmp_path), quantize=bits)


def test_float16_is_loaded_as_bfloat16_on_a_cpu(tmp_path: Path) -> None:
    """CPUs compute prompts many times slower in float16; who wants it says so."""
    folder = write(tmp_path, dtype=torch.float16)
    assert load_model(folder, device="cpu").dtype == torch.bfloat16
    assert load_model(folder, device="cpu", dtype="float16").dtype == torch.float16
