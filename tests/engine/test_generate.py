"""The loop from a prompt to new tokens: equal to whole forward passes, ends when it should, and recovers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from random_models import TINY, logits, random_ids, random_model

from glm4.engine import generate as module
from glm4.engine.generate import Step, generate
from glm4.errors import GenerationError
from glm4.models.glm import GLM
from glm4.sampling import SamplingParams

CONTEXT = TINY.max_positions


@pytest.fixture(scope="module")
def model() -> GLM:
    """One for all; no test may change it for good."""
    return random_model(seed=21)


def run(
    model: GLM, prompt: list[int], stop_ids: tuple[int, ...] = (), context: int = CONTEXT, **params: Any
) -> list[Step]:
    """All steps; greedy unless told otherwise."""
    return list(generate(model, prompt, SamplingParams(**{"temperature": 0, **params}), stop_ids, context))


def ids(steps: list[Step]) -> list[int]:
    """Their tokens."""
    return [step.token_id for step in steps]


@pytest.mark.parametrize("length", [1, 2, 17, 100])
def test_equals_whole_forward_passes(model: GLM, length: int) -> None:
    """The oracle's own oracle: no cache, everything computed anew for each token."""
    prompt = random_ids(length, length).tolist()
    tokens = list(prompt)
    for step in run(model, prompt, max_tokens=15, logprobs=2):
        expected = logits(model, torch.tensor([tokens]))[0, -1].log_softmax(-1)
        assert step.token_id == int(expected.argmax())
        assert step.logprob is not None
        assert step.logprob.logprob == pytest.approx(float(expected.max()), abs=1e-4)
        tokens.append(step.token_id)
    assert len(tokens) == length + 15


@pytest.mark.parametrize("length", [1, 2, 3, 4, 6, 7, 50])
@pytest.mark.parametrize("chunk", [1, 3])
def test_a_prompt_in_chunks_equals_a_whole_one(
    model: GLM, length: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Around the chunk's size, and with a last chunk of one token."""
    prompt = random_ids(length, length).tolist()
    whole = run(model, prompt, max_tokens=6, logprobs=3)
    monkeypatch.setattr(module, "PROMPT_CHUNK", chunk)
    calls: list[int] = []
    handle = model.register_forward_pre_hook(lambda _, args: calls.append(args[0].shape[1]))
    chunked = run(model, prompt, max_tokens=6, logprobs=3)
    handle.remove()
    assert max(calls) <= chunk
    assert sum(calls) == length + 5
    assert ids(chunked) == ids(whole)
    for one, other in zip(chunked, whole, strict=True):
        assert one.logprob is not None
        assert other.logprob is not None
        assert one.logprob.top == pytest.approx(other.logprob.top, abs=1e-4)


@pytest.mark.parametrize("room", [1, 2, 5])
def test_a_growing_cache_changes_nothing(model: GLM, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply without a limit starts with little memory; it must not start anew each time it takes more."""
    prompt = random_ids(7, 9).tolist()
    expected = run(model, prompt, max_tokens=30, logprobs=1)
    monkeypatch.setattr(module, "FIRST_ROOM", room)
    grown = run(model, prompt, max_tokens=30, logprobs=1)
    assert grown == expected


def test_the_cache_is_never_larger_than_the_request() -> None:
    """A context of 128K tokens must not be allocated for a reply of 20."""
    sizes: list[int] = []
    wide = random_model(seed=21, max_positions=100_000)
    original = wide.new_cache

    def new_cache(batch: int, capacity: int) -> Any:
        sizes.append(capacity)
        return original(batch, capacity)

    wide.new_cache = new_cache  # type: ignore[method-assign]
    next(iter(generate(wide, [1, 2, 3], SamplingParams(max_tokens=20), (), 100_000)))
    next(iter(generate(wide, [1, 2, 3], SamplingParams(), (), 100_000)))
    assert sizes[0] == 23
    assert sizes[1] <= 3 + module.FIRST_ROOM


def test_positions_are_counted_as_far_as_the_cache_goes(model: GLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config.json may claim a context of two billion, whose numbers alone would take 16 GB."""
    counted: list[int] = []
    original = model.positions
    monkeypatch.setattr(model, "positions", lambda ids, n_new=0: counted.append(n_new) or original(ids, n_new))
    steps = generate(model, [1, 2, 3], SamplingParams(temperature=0), (), 2**31 - 1)
    for _ in range(module.FIRST_ROOM + 2):
        next(steps)
    assert max(counted) == 2 * module.FIRST_ROOM + 3


def test_only_the_last_rows_head_is_computed(model: GLM) -> None:
    """151,552 logits for each of a hundred thousand prompt tokens would be 60 GB."""
    rows: list[int] = []
    handle = model.lm_head.register_forward_hook(lambda _, args, out: rows.append(out.numel() // TINY.vocab_size))
    run(model, random_ids(1, 90).tolist(), max_tokens=4)
    handle.remove()
    assert rows == [1, 1, 1, 1]


def test_a_stop_id_ends_it_and_is_yielded(model: GLM) -> None:
    """The first of them that comes; nothing is computed after it."""
    prompt = random_ids(2, 9).tolist()
    free = ids(run(model, prompt, max_tokens=12))
    for at in (0, 3, 11):
        first = free.index(free[at])
        steps = run(model, prompt, (free[at], 999), max_tokens=12)
        assert ids(steps) == free[: first + 1]
        assert [step.finish_reason for step in steps] == [None] * first + ["stop"]


def test_ignore_eos_leaves_stop_token_ids_in_force(model: GLM) -> None:
    """It is about the checkpoint's own end tokens only."""
    prompt = random_ids(2, 9).tolist()
    free = ids(run(model, prompt, max_tokens=12))
    steps = run(model, prompt, (free[0], free[5]), max_tokens=12, ignore_eos=True)
    assert ids(steps) == free
    assert steps[-1].finish_reason == "length"
    later = next(i for i, token in enumerate(free) if i >= 4 and token not in free[:i])
    for ignore in (True, False):
        steps = run(model, prompt, (), max_tokens=12, ignore_eos=ignore, stop_token_ids=[free[later]])
        assert ids(steps) == free[: later + 1]
        assert steps[-1].finish_reason == "stop"


def test_stopping_at_the_very_last_token_is_a_stop(model: GLM) -> None:
    """Both reasons hold; the reply is complete."""
    prompt = random_ids(2, 9).tolist()
    free = ids(run(model, prompt, max_tokens=12))
    n = next(i for i, token in enumerate(free) if token not in free[:i] and i > 2) + 1
    assert run(model, prompt, (free[n - 1],), max_tokens=n)[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    ("length", "max_tokens", "expected"), [(10, 5, 5), (10, None, 20), (29, None, 1), (25, 100, 5)]
)
def test_max_tokens_and_the_end_of_the_context(model: GLM, length: int, max_tokens: int | None, expected: int) -> None:
    """Prompt and reply together never exceed the context; the last step says length."""
    steps = run(model, random_ids(3, length).tolist(), context=30, max_tokens=max_tokens)
    assert [step.finish_reason for step in steps] == [None] * (expected - 1) + ["length"]


def test_it_is_computed_as_it_is_asked_for(model: GLM) -> None:
    """Closing the iterator ends the work; two of them interleave without touching each other."""
    calls: list[int] = []
    handle = model.register_forward_pre_hook(lambda _, args: calls.append(args[0].shape[1]))
    steps = generate(model, [1, 2, 3], SamplingParams(temperature=0, max_tokens=50), (), CONTEXT)
    first = [next(steps).token_id for _ in range(3)]
    steps.close()
    handle.remove()
    assert calls == [3, 1, 1]

    params = SamplingParams(temperature=0, max_tokens=3)
    both = zip(generate(model, [1, 2, 3], params, (), CONTEXT), generate(model, [9], params, (), CONTEXT), strict=True)
    pairs = [(a.token_id, b.token_id) for a, b in both]
    assert [a for a, _ in pairs] == first
    assert [b for _, b in pairs] == ids(run(model, [9], max_tokens=3))


def test_gradients_and_inference_mode_do_not_leak_out(model: GLM) -> None:
    """Between two tokens the caller's own torch code runs as usual."""
    for _ in generate(model, [1, 2], SamplingParams(max_tokens=2, seed=0), (), CONTEXT):
        assert not torch.is_inference_mode_enabled()
        assert torch.ones(1, requires_grad=True).mul(2).requires_grad


def test_a_seed_repeats_a_sampled_reply(model: GLM) -> None:
    """Whatever came before it."""
    one, again, other = (ids(run(model, [5, 6], temperature=1.0, seed=seed, max_tokens=20)) for seed in (3, 3, 4))
    assert one == again != other


@pytest.mark.parametrize("damage", [float("nan"), float("inf")])
def test_broken_weights_are_an_error_and_no_lasting_one(damage: float) -> None:
    """The next request, on mended weights, runs as if nothing had been."""
    model = random_model(seed=22)
    before = ids(run(model, [1, 2, 3], max_tokens=5))
    weight = model.layers[0].mlp.down_proj.weight
    good = weight.clone()
    weight[0, 0] = damage
    with pytest.raises(GenerationError, match="not numbers"):
        run(model, [1, 2, 3], max_tokens=5)
    weight.copy_(good)
    assert ids(run(model, [1, 2, 3], max_tokens=5)) == before


def test_broken_only_later(model: GLM) -> None:
    """Tokens before the overflow have been handed out; then the error."""
    broken = random_model(seed=21)
    free = ids(run(model, [1, 2, 3], max_tokens=6))
    at = next(i for i, token in enumerate(free) if token not in free[:i] and i >= 2)
    broken.embed_tokens.weight[free[at]] = float("nan")
    steps = generate(broken, [1, 2, 3], SamplingParams(temperature=0, max_tokens=6), (), CONTEXT)
    assert [next(steps).token_id for _ in range(at + 1)] == free[: at + 1]
    with pytest.raises(GenerationError):
        next(steps)
