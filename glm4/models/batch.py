"""Prompts of different lengths side by side in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

PAD_POSITION = 0  # what a padding slot rotates by; nothing reads the slot, so any number would do


def pad_prompts(
    prompts: Sequence[tuple[Tensor, Tensor]], side: Literal["left", "right"] = "left"
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Make one batch of prompts that were embedded alone: with pictures spliced in, a prompt's ids no longer say how
    many slots it has, so it is the slots that are padded.

    Args:
        prompts: (hidden [T, H], positions [T] or [2, T]) of each, T its own number of slots.
        side: where the padding goes. On the left, all prompts end in the last slot, where decoding continues.

    Returns:
        hidden [B, W, H] and positions [B, W] or [B, 2, W], W the largest T; and valid, bool [B, W], False on padding,
        or None where nothing is padded, as `causal_mask` wants it.

    Raises:
        ValueError: no prompts.
    """
    if not prompts:
        raise ValueError("there is no prompt to make a batch of")
    first_hidden, first_positions = prompts[0]
    lengths = [hidden.shape[0] for hidden, _ in prompts]
    width = max(lengths)
    hidden = first_hidden.new_zeros(len(prompts), width, first_hidden.shape[-1])
    positions = first_positions.new_full((len(prompts), *first_positions.shape[:-1], width), PAD_POSITION)
    valid = first_hidden.new_zeros(len(prompts), width, dtype=torch.bool)
    for row, (one_hidden, one_positions) in enumerate(prompts):
        start = width - lengths[row] if side == "left" else 0
        here = slice(start, start + lengths[row])
        hidden[row, here] = one_hidden
        positions[row, ..., here] = one_positions
        valid[row, here] = True
    return hidden, positions, valid if min(lengths) < width else None
