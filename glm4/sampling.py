"""SamplingParams: how to draw a reply. Checked when made, standard library only.

Names and meaning are vLLM's, with two differences: the defaults come from the checkpoint, and without max_tokens a
reply may fill the context (vLLM stops after 16 tokens).
"""

from __future__ import annotations

import difflib
import math
import operator
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from typing import Any

from .errors import InputError

ELSEWHERE = {  # what people bring along from other libraries
    "do_sample": "temperature=0 is greedy, anything above samples",
    "stream": "call stream() for a reply piece by piece",
    "history": "pass the earlier turns in messages",
    "max_length": "max_tokens counts the new tokens only; the context is max_context of load_model",
    "best_of": "n draws several replies",
    "num_beams": "there is no beam search; n draws several replies",
    "eos_token_id": "stop_token_ids adds end tokens, ignore_eos ignores the checkpoint's",
}
MAX_LOGPROBS = 100
MAX_N = 128


@dataclass(frozen=True)
class TokenLogprob:
    """A chosen token's natural log-probability under the model itself, and those of the likeliest tokens."""

    token_id: int
    logprob: float
    top: dict[int, float]  # token id -> log-probability, likeliest first


@dataclass(frozen=True)
class SamplingParams:
    """One request's sampling parameters.

    Applied in this order: penalties on the logits, temperature, then min_p, top_k and top_p each drop tokens from what
    is left.

    Attributes:
        temperature: 0 takes the most likely token each time; 1 samples the model's own distribution.
        top_p: keep the most likely tokens that together reach this probability, in (0, 1].
        top_k: keep this many of the most likely tokens; 0 or -1 for all.
        min_p: drop tokens less likely than this share of the most likely one, in [0, 1].
        max_tokens: at most this many new tokens; None for as many as the context has room for.
        stop: strings that end the reply, themselves left out of it.
        stop_token_ids: ids that end the reply besides the checkpoint's own end tokens.
        seed: of this request's random generator; None for a fresh one each time.
        repetition_penalty: divides positive and multiplies negative logits of tokens in the prompt or the reply so far;
            1 is off.
        presence_penalty: subtracted from the logit of each token in the reply so far, in [-2, 2].
        frequency_penalty: the same, times how often it occurred, in [-2, 2].
        ignore_eos: go on past the checkpoint's end tokens (stop and stop_token_ids still end the reply).
        logprobs: report each token's log-probability and those of the k most likely, before any of the above is
            applied; 0 for the token alone; None for nothing.
        n: how many replies to draw, independently; reply i is drawn with seed + i.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int | None = None
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    seed: int | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    ignore_eos: bool = False
    logprobs: int | None = None
    n: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be honoured, and bring `stop` and `stop_token_ids` into tuples."""
        _number(self, "temperature", 0, math.inf)
        _number(self, "top_p", 0, 1, open_below=True)
        _number(self, "min_p", 0, 1)
        _number(self, "repetition_penalty", 0, math.inf, open_below=True)
        _number(self, "presence_penalty", -2, 2)
        _number(self, "frequency_penalty", -2, 2)
        _integer(self, "top_k", -1, 2**31 - 1)
        _integer(self, "n", 1, MAX_N)
        _integer(self, "max_tokens", 1, 2**31 - 1, optional=True)
        _integer(self, "logprobs", 0, MAX_LOGPROBS, optional=True)
        _integer(self, "seed", -(2**63), 2**63 - 1, optional=True)
        if not isinstance(self.ignore_eos, bool):
            raise InputError(f"ignore_eos is {self.ignore_eos!r}, it must be True or False")
        stop = (self.stop,) if isinstance(self.stop, str) else _items(self.stop)
        if stop is None or not all(isinstance(s, str) and s for s in stop):
            raise InputError(f"stop is {self.stop!r}, it must be a string or several, none of them empty")
        ids = [_index(i) for i in _items(self.stop_token_ids) or ()]
        if _items(self.stop_token_ids) is None or any(i is None or i < 0 for i in ids):
            raise InputError(f"stop_token_ids is {self.stop_token_ids!r}, it must be token ids, 0 or more each")
        object.__setattr__(self, "stop", stop)
        object.__setattr__(self, "stop_token_ids", tuple(ids))

    def updated(self, changes: Mapping[str, Any]) -> SamplingParams:
        """A copy with some parameters changed; a value of None leaves one as it is.

        Raises:
            InputError: an unknown parameter (the nearest known one is named), or a value that cannot be honoured.
        """
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                guess = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                raise InputError(f"there is no sampling parameter {name!r}; {ELSEWHERE.get(name, guess)}")
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def singles(self) -> list[SamplingParams]:
        """n requests for one reply each; where a seed is given, reply i gets seed + i, wrapped around 64 bits."""
        seeds = [None if self.seed is None else (self.seed + i + 2**63) % 2**64 - 2**63 for i in range(self.n)]
        return [replace(self, n=1, seed=seed) for seed in seeds]


def defaults_from(generation_config: Mapping[str, Any]) -> SamplingParams:
    """The defaults that a checkpoint's generation_config.json states.

    `do_sample: false` means greedy, as in transformers. Keys that are not sampling parameters are left to others.
    """
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    values = {name: generation_config[name] for name in names if generation_config.get(name) is not None}
    if generation_config.get("do_sample") is False:
        values["temperature"] = 0.0
    return SamplingParams(**values)


def _items(value: Any) -> tuple[Any, ...] | None:
    """What a sequence or set holds; nothing for None; None for anything else."""
    if value is None:
        return ()
    several = isinstance(value, (Sequence, Set)) and not isinstance(value, (str, bytes, bytearray))
    return tuple(value) if several else None


def _number(params: SamplingParams, name: str, low: float, high: float, *, open_below: bool = False) -> None:
    value = getattr(params, name)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if not is_number or not low <= value <= high or (open_below and value == low):
        bound = f"above {low:g}" if open_below else f"{low:g} or more"
        bound += "" if high == math.inf else f" and at most {high:g}"
        raise InputError(f"{name} is {value!r}, it must be a finite number, {bound}")


def _integer(params: SamplingParams, name: str, low: int, high: int, *, optional: bool = False) -> None:
    value = getattr(params, name)
    if optional and value is None:
        return
    integer = _index(value)
    if integer is None or not low <= integer <= high:
        raise InputError(f"{name} is {value!r}, it must be an integer from {low} to {high}{' or None' * optional}")
    object.__setattr__(params, name, integer)


def _index(value: object) -> int | None:
    """The integer that a value is (numpy's too); None for anything else, True and 1.0 included."""
    try:
        return None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
