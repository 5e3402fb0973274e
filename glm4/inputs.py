"""Token ids, masks and positions as callers pass them: checked, and said in words what is wrong with them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .errors import InputError


@dataclass(frozen=True)
class Prompt:
    """A prompt that can be computed."""

    ids: list[int]
    n_slots: int  # columns it takes in the cache: more than ids where pictures widen it
    pixels: Tensor | None = None  # its pictures, normalised, [N, 3, S, S]


def plain(prompt: Any) -> Any:
    """A tensor's or an array's numbers as lists; anything else as it is."""
    return prompt.tolist() if hasattr(prompt, "tolist") else prompt


def is_integer(value: object) -> bool:
    """Whether a value is an integer, numpy's included, and no bool."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def is_one_prompt(values: Any) -> bool:
    """Whether this is text or a sequence of ids, and no list of such."""
    return isinstance(values, (str, bytes)) or (isinstance(values, Sequence) and bool(values) and is_integer(values[0]))


def token_ids(prompt: Any, vocab_size: int) -> list[int]:
    """The ids of one prompt.

    Raises:
        InputError: no sequence, empty, or an id that is none or out of range.
    """
    if not isinstance(prompt, Sequence) or isinstance(prompt, (str, bytes)):
        raise InputError(f"the prompt is {prompt!r}; pass text or token ids")
    if not prompt:
        raise InputError("the prompt is empty; pass at least one token id")
    for i in prompt:
        if not is_integer(i) or not 0 <= i < vocab_size:
            raise InputError(f"the prompt holds {i!r}; token ids of this model are from 0 to {vocab_size - 1}")
    return [operator.index(i) for i in prompt]


def integer_rows(name: str, values: Any, *, upper: int, like: Tensor | None = None) -> Tensor:
    """A rectangle of integers [B, T] from 0 to upper - 1; one row [T] is a batch of one.

    Args:
        name: of the argument, for the message.
        like: what the shape must agree with.

    Raises:
        InputError: anything else.
    """
    try:
        tensor = torch.as_tensor(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{name} is not a rectangle of integers: {error}") from error
    tensor = tensor[None] if tensor.ndim == 1 else tensor
    is_whole = not tensor.is_floating_point() and not tensor.is_complex()
    is_whole &= tensor.dtype != torch.bool or name == "attention_mask"
    if tensor.ndim != 2 or not tensor.numel() or not is_whole:
        raise InputError(f"{name} must be integers [B, T], not {tensor.dtype} of shape {list(tensor.shape)}")
    if like is not None and tensor.shape != like.shape:
        raise InputError(f"{name} has shape {list(tensor.shape)}, the ids have {list(like.shape)}")
    tensor = tensor.long()  # torch finds no minimum of unsigned integers
    low, high = int(tensor.min()), int(tensor.max())
    if low < 0 or high >= upper:
        raise InputError(f"{name} holds {low if low < 0 else high}; it must be from 0 to {upper - 1}")
    return tensor


def padded_side(valid: Tensor) -> Literal["left", "right"]:
    """On which side of its rows a mask, bool [B, T], has its padding; "right" where there is none.

    Raises:
        InputError: on both, or in the middle.
    """
    steps = valid.int().diff(dim=1)
    if (steps <= 0).all():
        return "right"
    if (steps >= 0).all():
        return "left"
    raise InputError("beside pictures, attention_mask must pad all rows on one side, the left or the right")
