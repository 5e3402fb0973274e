"""The choice of a token against its definition in plain floats: which tokens stay, how often each comes, penalties."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from reference import sampling as reference
from torch import Tensor

from glm4.engine.sampler import Sampler
from glm4.errors import GenerationError
from glm4.sampling import SamplingParams

V = 40
CPU = torch.device("cpu")


def sampler(prompt: list[int] | None = None, vocab_size: int = V, **params: Any) -> Sampler:
    """A request's sampler."""
    return Sampler(SamplingParams(**params), vocab_size, prompt or [0], CPU)


def random_logits(seed: int, vocab_size: int = V, spread: float = 2.0) -> Tensor:
    """Normal ones; every third has a twin, so that ties happen."""
    logits = torch.randn(vocab_size, generator=torch.Generator().manual_seed(seed)) * spread
    logits[2::3] = logits[1::3][: len(logits[2::3])]
    return logits


def kept(logits: Tensor, **params: Any) -> dict[int, float]:
    """The tokens that truncation leaves, with their probabilities. The only look behind the sampler's front here: by
    drawing alone, a token of probability 1e-9 that ought to stay cannot be told from one that is gone."""
    one = sampler(vocab_size=len(logits), **params)
    probabilities = one._truncated(logits / one.params.temperature).softmax(-1)
    return {token: float(p) for token, p in enumerate(probabilities) if p > 0}


TRUNCATIONS: list[dict[str, Any]] = [
    {}, {"top_k": 1}, {"top_k": 5}, {"top_k": 39}, {"top_k": 40}, {"top_k": 1000}, {"top_k": -1}, {"top_p": 0.5},
    {"top_p": 0.9}, {"top_p": 0.999}, {"top_p": 1e-9}, {"min_p": 0.1}, {"min_p": 0.5}, {"min_p": 1.0}, {"min_p": 1e-6},
    {"top_k": 8, "top_p": 0.7}, {"top_k": 3, "min_p": 0.3}, {"top_p": 0.8, "min_p": 0.05},
    {"top_k": 12, "top_p": 0.85, "min_p": 0.02},
]  # fmt: skip


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("params", TRUNCATIONS, ids=str)
def test_the_set_that_stays(params: dict[str, Any], temperature: float) -> None:
    """Exactly these tokens and shares: top_k of what min_p left, top_p of what top_k left, ties by id."""
    for seed in range(20):
        logits = random_logits(seed)
        expected = reference.distribution(logits.tolist(), temperature=temperature, **params)
        got = kept(logits, temperature=temperature, **params)
        assert got.keys() == {t for t, p in expected.items() if p > 1e-40}, f"seed {seed}"
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-12), f"seed {seed}"


@pytest.mark.parametrize("params", [{"top_k": 3}, {"top_p": 0.3}, {"top_k": 3, "top_p": 0.9}, {"min_p": 1.0}], ids=str)
def test_all_logits_equal(params: dict[str, Any]) -> None:
    """A tie with the last one kept does not let all in; the mass is exactly what was asked for."""
    logits = torch.zeros(10)
    assert kept(logits, **params) == pytest.approx(reference.distribution(logits.tolist(), **params))


@pytest.mark.parametrize("params", TRUNCATIONS, ids=str)
def test_tokens_ruled_out_beforehand_stay_out(params: dict[str, Any]) -> None:
    """Logits of minus infinity are how a vocabulary mask arrives; padding rows of a head too."""
    logits = random_logits(3)
    logits[::2] = -math.inf
    assert all(token % 2 for token in kept(logits, **params))
    assert all(sampler(seed=s, **params).sample(logits)[0] % 2 for s in range(20))


def test_temperature_zero_is_the_largest_logit() -> None:
    """Whatever else is asked for; and no temperature is too small to be honoured."""
    for seed in range(20):
        logits = torch.randn(V, generator=torch.Generator().manual_seed(seed)) * 5
        best = int(logits.argmax())
        for temperature in (0, 0.0, 1e-45, 1e-320, 1e-38, 1e-30, 1e-9):
            assert sampler(temperature=temperature, top_k=7, top_p=0.6, seed=1).sample(logits)[0] == best, temperature


def chi_square(draws: Counter[int], expected: dict[int, float]) -> float:
    """In standard deviations above what chance gives (Wilson and Hilferty's approximation)."""
    n = draws.total()
    assert draws.keys() <= expected.keys(), "a token was drawn that should have been dropped"
    statistic = sum((draws[token] - n * p) ** 2 / (n * p) for token, p in expected.items())
    df = len(expected) - 1
    return float(((statistic / df) ** (1 / 3) - (1 - 2 / (9 * df))) / math.sqrt(2 / (9 * df)))


@pytest.mark.parametrize(
    ("n_draws", "params"),
    [
        (20_000, {"temperature": 1.0}),
        (5_000, {"temperature": 0.7, "top_p": 0.9}),
        (5_000, {"temperature": 1.5, "top_k": 6}),
        (5_000, {"temperature": 3.0, "min_p": 0.4}),
    ],
    ids=str,
)
def test_draws_follow_the_distribution(n_draws: int, params: dict[str, Any]) -> None:
    """20,000 draws against softmax, and 5,000 each against what truncation leaves of it."""
    logits = random_logits(5, vocab_size=12, spread=1.0)
    one = sampler(vocab_size=12, seed=2024, **params)
    draws = Counter(one.sample(logits)[0] for _ in range(n_draws))
    assert chi_square(draws, reference.distribution(logits.tolist(), **params)) < 4


def test_seeds() -> None:
    """A seed repeats a request whatever else draws random numbers; two seeds differ; none at all differs each time."""

    def draw(seed: int | None) -> list[int]:
        one = sampler(seed=seed, vocab_size=1000)
        return [one.sample(torch.zeros(1000))[0] for _ in range(10)]

    torch.manual_seed(1)
    first = draw(7)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert draw(7) == first
    assert draw(8) != first
    for seed in (0, -1, 2**63 - 1, -(2**63), 2**32):
        assert draw(seed) == draw(seed), seed
    torch.manual_seed(1)
    unseeded = draw(None)
    assert torch.equal(torch.get_rng_state(), state), "sampling moved torch's global generator"
    torch.manual_seed(1)
    assert draw(None) != unseeded, "no seed must not mean the global one"


def test_two_requests_do_not_disturb_each_other() -> None:
    """Interleaved, as a server would run them."""
    logits = torch.zeros(1000)
    alone = [sampler(seed=s, vocab_size=1000) for s in (1, 2)]
    expected = [[one.sample(logits)[0] for _ in range(5)] for one in alone]
    together = [sampler(seed=s, vocab_size=1000) for s in (1, 2)]
    rounds = [[one.sample(logits)[0] for one in together] for _ in range(5)]
    assert [list(column) for column in zip(*rounds, strict=True)] == expected


PENALTIES: list[dict[str, float]] = [
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"presence_penalty": 1.5},
    {"presence_penalty": -2.0},
    {"frequency_penalty": 0.8},
    {"frequency_penalty": -0.3},
    {"repetition_penalty": 1.2, "presence_penalty": 0.4, "frequency_penalty": 0.6},
]


@pytest.mark.parametrize("params", PENALTIES, ids=str)
def test_penalties_as_vllm_defines_them(params: dict[str, float]) -> None:
    """Greedy, forty steps: repetition counts prompt and reply, presence and frequency the reply alone."""
    changed = 0
    for seed in range(5):
        prompt = [3, 3, 8, 20]
        one = sampler(prompt, temperature=0, **params)
        base = torch.randn(V, generator=torch.Generator().manual_seed(seed)) * 2
        output: list[int] = []
        for step in range(40):
            logits = base + torch.randn(V, generator=torch.Generator().manual_seed(1000 * seed + step)) * 0.5
            expected = reference.penalised(
                logits.tolist(), prompt, output,
                repetition=params.get("repetition_penalty", 1.0),
                presence=params.get("presence_penalty", 0.0),
                frequency=params.get("frequency_penalty", 0.0),
            )  # fmt: skip
            best = max(range(V), key=expected.__getitem__)
            token, _ = one.sample(logits)
            assert token == best, f"seed {seed}, step {step}"
            changed += best != int(logits.argmax())
            output.append(token)
    assert changed > 10, "the penalty hardly mattered, so the test shows little"


def test_penalties_come_before_temperature_and_truncation() -> None:
    """top_k 1 of the penalised logits, not a penalty on the one token left."""
    logits = torch.tensor([2.0, 1.9, 0.0])
    one = sampler([0], vocab_size=3, repetition_penalty=1.5, top_k=1, temperature=0.5)
    assert [one.sample(logits)[0] for _ in range(3)] == [1, 0, 0]  # 1.33 < 1.9; then 1.33 > 1.27


@pytest.mark.parametrize("k", [0, 1, 5, 100])
def test_logprobs_are_the_models_own(k: int) -> None:
    """Of the raw logits: neither temperature nor truncation nor penalties show in them; the likeliest come first."""
    for seed in range(5):
        logits = torch.randn(V, generator=torch.Generator().manual_seed(seed)) * 3
        expected = reference.log_softmax(logits.tolist())
        one = sampler([1, 2], logprobs=k, temperature=0.5, top_k=3, repetition_penalty=1.9, seed=seed)
        token, entry = one.sample(logits)
        assert entry is not None
        assert entry.token_id == token
        assert entry.logprob == pytest.approx(expected[token], abs=1e-5)
        best = sorted(range(V), key=lambda t: -expected[t])[:k]
        assert list(entry.top) == best
        assert entry.top == pytest.approx({t: expected[t] for t in best}, abs=1e-5)


def test_no_logprobs_unless_asked_for() -> None:
    """They cost a softmax over the vocabulary each step."""
    assert sampler().sample(random_logits(1))[1] is None


def broken_logits() -> dict[str, Tensor]:
    """What damaged weights or an overflow hand to the sampler."""
    one_nan, one_inf = random_logits(1), random_logits(1)
    one_nan[7] = math.nan
    one_inf[7] = math.inf
    all_out = torch.full((V,), -math.inf)
    return {"one NaN": one_nan, "all NaN": torch.full((V,), math.nan), "one +inf": one_inf, "all -inf": all_out}


@pytest.mark.parametrize("params", [{"temperature": 0}, {}, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.2}], ids=str)
@pytest.mark.parametrize("kind", broken_logits())
def test_logits_that_cannot_be_sampled_from(kind: str, params: dict[str, Any]) -> None:
    """An error that says what may be wrong: a token drawn from NaN is token 0, again and again."""
    one = sampler(seed=1, **params)
    with pytest.raises(GenerationError, match=r"weights are damaged, or overflow in float16.*bfloat16"):
        one.sample(broken_logits()[kind])
    logits = random_logits(2)
    assert one.sample(logits)[0] in reference.distribution(
        logits.tolist(), **({} if "temperature" in params else params)
    )
