"""SamplingParams: what is accepted is kept, what is not is refused with its name and value."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glm4.errors import InputError
from glm4.sampling import SamplingParams, defaults_from

# name -> (least, most, whether the least itself is allowed)
NUMBERS = {
    "temperature": (0, math.inf, True),
    "top_p": (0, 1, False),
    "min_p": (0, 1, True),
    "repetition_penalty": (0, math.inf, False),
    "presence_penalty": (-2, 2, True),
    "frequency_penalty": (-2, 2, True),
}
INTEGERS = {"top_k": (-1, 2**31 - 1), "max_tokens": (1, 2**31 - 1), "n": (1, 128), "logprobs": (0, 100)}
SEEDS = (-(2**63), 2**63 - 1)
MAY_BE_NONE = {"max_tokens", "seed", "logprobs"}

not_a_number = (
    st.text(max_size=5) | st.booleans() | st.binary(max_size=3) | st.lists(st.floats(), max_size=2)
    | st.complex_numbers()
    | st.sampled_from([math.nan, math.inf, -math.inf, "0.5", {}, object(), int, 10**400, -(10**400)])
)  # fmt: skip
not_an_integer = (
    st.text(max_size=5) | st.booleans() | st.floats() | st.binary(max_size=3) | st.lists(st.integers(), max_size=2)
    | st.sampled_from(["5", 1.0, 5.5, math.nan, {}, object(), int, 2**31, 2**63, 10**400, -2, -(10**400)])
)  # fmt: skip


def refused(name: str, value: Any) -> None:
    """Both ways of making one refuse the value, naming it and the parameter. To `updated`, None means no change."""
    ways = [lambda: SamplingParams(**{name: value}), lambda: SamplingParams().updated({name: value})]
    for make in ways[: 1 if value is None else 2]:
        with pytest.raises(InputError) as caught:
            make()
        assert str(caught.value).startswith(f"{name} is "), f"{name} is not named first: {caught.value}"
        assert repr(value)[:40] in str(caught.value)
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", NUMBERS)
@given(value=not_a_number)
@example(value=None)
@example(value=math.nan)
@example(value=True)
@example(value="0.7")
@example(value=10**400)
def test_not_a_number(name: str, value: Any) -> None:
    """NaN compares false with every bound, and True is 1 to Python."""
    refused(name, value)


@pytest.mark.parametrize("name", NUMBERS)
@given(value=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60))
def test_numbers_inside_and_outside_the_bounds(name: str, value: float) -> None:
    """Exactly the documented range is accepted, and kept as it is."""
    least, most, closed = NUMBERS[name]
    if least <= value <= most and (closed or value != least):
        assert getattr(SamplingParams(**{name: value}), name) == value
    else:
        refused(name, value)


@pytest.mark.parametrize("name", [*INTEGERS, "seed"])
@given(value=not_an_integer)
@example(value=True)
@example(value=1.0)
@example(value="5")
def test_not_an_integer(name: str, value: Any) -> None:
    """Floats of integral value too: they come from arithmetic that went wrong."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    least, most = INTEGERS.get(name, SEEDS)
    if is_integer and least <= value <= most:
        return
    refused(name, value)


@pytest.mark.parametrize("name", [*INTEGERS, "seed"])
def test_integers_at_their_bounds(name: str) -> None:
    """The first and the last that are accepted, and the neighbours that are not; None only where it means something."""
    least, most = INTEGERS.get(name, SEEDS)
    for value in (least, most):
        assert getattr(SamplingParams(**{name: value}), name) == value
    for value in (least - 1, most + 1):
        refused(name, value)
    if name in MAY_BE_NONE:
        assert getattr(SamplingParams(**{name: None}), name) is None
    else:
        refused(name, None)


@pytest.mark.parametrize("value", [0, 1, "yes", None, [], math.nan])
def test_ignore_eos_is_a_bool(value: Any) -> None:
    """The string "False" is true to Python."""
    refused("ignore_eos", value)


@pytest.mark.parametrize(
    "value", ["", [""], ["a", ""], [1], 5, b"END", [b"END"], [None], {"a": ""}, math.nan, 0, False]
)
def test_bad_stop_strings(value: Any) -> None:
    """An empty string would stop at once; a number is no iterable of strings."""
    refused("stop", value)


@pytest.mark.parametrize("value", [5, "12", ["1"], [-1], [True], [1.0], [None], [[1]], b"ab", math.nan, 0, False])
def test_bad_stop_ids(value: Any) -> None:
    """Nothing but a sequence of ids."""
    refused("stop_token_ids", value)


@pytest.mark.parametrize(
    ("name", "given_value", "kept"),
    [
        ("stop", "END", ("END",)), ("stop", ["a", "b"], ("a", "b")), ("stop", (), ()), ("stop", None, ()),
        ("stop", [], ()), ("stop", "\n", ("\n",)), ("stop_token_ids", [1, 2], (1, 2)), ("stop_token_ids", None, ()),
        ("stop_token_ids", range(3), (0, 1, 2)),
    ],
)  # fmt: skip
def test_stops_become_tuples(name: str, given_value: Any, kept: tuple[Any, ...]) -> None:
    """One string is one stop string, not its letters; a list changed afterwards changes nothing."""
    params = SamplingParams(**{name: given_value})
    assert getattr(params, name) == kept
    hash(params)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("temprature", "temperature"), ("topp", "top_p"), ("max_new_tokens", "max_tokens"), ("top-k", "top_k"),
        ("repetition_penality", "repetition_penalty"), ("stop_tokens", "stop_token_ids"), ("Seed", "seed"),
    ],
)  # fmt: skip
def test_an_unknown_name_suggests_the_nearest(wrong: str, right: str) -> None:
    """A misspelt parameter that is swallowed is an hour of somebody's life."""
    with pytest.raises(InputError, match=f"no sampling parameter '{wrong}'; did you mean '{right}'"):
        SamplingParams().updated({wrong: 1})


def test_an_unknown_name_like_none_lists_all() -> None:
    """Where nothing is near."""
    with pytest.raises(InputError) as caught:
        SamplingParams().updated({"zzz": 1})
    assert all(field.name in str(caught.value) for field in fields(SamplingParams))


def test_updated_leaves_the_original() -> None:
    """The checkpoint's defaults are shared by every call."""
    defaults = SamplingParams(temperature=0.8, top_p=0.8)
    assert defaults.updated({"temperature": 0}) == SamplingParams(temperature=0, top_p=0.8)
    assert defaults == SamplingParams(temperature=0.8, top_p=0.8)
    with pytest.raises(FrozenInstanceError):
        defaults.temperature = 1.0  # type: ignore[misc]


def test_none_leaves_a_default_in_force() -> None:
    """A server or a command line passes what was not given as None."""
    defaults = SamplingParams(temperature=0.8, max_tokens=7, seed=3)
    assert defaults.updated({"temperature": None, "max_tokens": None, "seed": None, "n": None}) == defaults


def test_numpys_integers_are_integers() -> None:
    """They come out of arrays of seeds and ids; kept as Python's own, which JSON can hold."""
    params = SamplingParams(seed=np.int64(5), max_tokens=np.uint8(7), stop_token_ids=[np.int32(2)])  # type: ignore
    assert (params.seed, params.max_tokens, params.stop_token_ids) == (5, 7, (2,))
    assert [type(v) for v in (params.seed, params.max_tokens, *params.stop_token_ids)] == [int] * 3


def test_singles() -> None:
    """n requests for one reply each, seeds counted on and wrapped around 64 bits, which is what a generator takes."""
    params = SamplingParams(n=3, seed=2**63 - 2, top_p=0.5)
    seeds = [2**63 - 2, 2**63 - 1, -(2**63)]
    assert params.singles() == [SamplingParams(n=1, seed=seed, top_p=0.5) for seed in seeds]
    assert SamplingParams(n=2).singles() == [SamplingParams()] * 2


def test_vllms_defaults() -> None:
    """As far as the two share names."""
    params = SamplingParams()
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (1.0, 1.0, 0, 0.0)
    assert (params.repetition_penalty, params.presence_penalty, params.frequency_penalty) == (1.0, 0.0, 0.0)
    assert (params.n, params.seed, params.logprobs, params.ignore_eos) == (1, None, None, False)


def test_defaults_from_a_checkpoint() -> None:
    """What generation_config.json says; do_sample false is greedy, as in transformers."""
    published = {"eos_token_id": [1, 2], "pad_token_id": 1, "do_sample": True, "temperature": 0.8, "max_length": 128000,
                 "top_p": 0.8, "transformers_version": "4.44.0"}  # fmt: skip
    assert defaults_from(published) == SamplingParams(temperature=0.8, top_p=0.8)
    assert defaults_from({**published, "do_sample": False}).temperature == 0
    assert defaults_from({"top_k": 40, "repetition_penalty": 1.1, "min_p": 0.1, "top_p": None}) == SamplingParams(
        top_k=40, repetition_penalty=1.1, min_p=0.1
    )
    assert defaults_from({}) == SamplingParams()
    with pytest.raises(InputError, match="temperature is 'hot'"):
        defaults_from({"temperature": "hot"})
