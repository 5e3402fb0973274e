"""Rotary position embedding: the only file that knows how the rotated pairs lie in a head.

GLM rotates the first `rotary_dim` (half) of each head's D dimensions and passes the rest through. Rotated pairs are
neighbours, (0, 1), (2, 3), ..., unlike Llama's (0, rotary_dim/2), (1, rotary_dim/2 + 1), ...

The angles of the positions asked for are computed in float32 once per forward pass and shared by all layers. Nothing
is tabulated, so there is no length at which a table ends and no buffer to load, move or cast.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_angles(positions: Tensor, rotary_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of position * theta^(-2i / rotary_dim) for each rotated pair i.

    Args:
        positions: integer positions [B, T].
        rotary_dim: how many dimensions of a head rotate (even).
        theta: base of the frequencies; 10000 * rope_ratio in the original configuration.

    Returns:
        (cos, sin), each float32 [B, 1, T, rotary_dim / 2], ready to broadcast over heads.
    """
    exponent = torch.arange(0, rotary_dim, 2, dtype=torch.float32, device=positions.device) / rotary_dim
    angles = positions[:, None, :, None].float() * (1.0 / theta**exponent)
    return angles.cos(), angles.sin()


def rotate_interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the leading dimensions of each head, pair by pair.

    Args:
        x: queries or keys [B, heads, T, D].
        cos, sin: from `rotary_angles`, [B, 1, T, rotary_dim / 2].

    Returns:
        [B, heads, T, D] in x's dtype. The products are taken in float32, whatever the dtype of x: rounding the
        cosines to bfloat16, as the original does, costs accuracy and saves nothing.
    """
    rotary_dim = 2 * cos.shape[-1]
    pairs = x[..., :rotary_dim].float().unflatten(-1, (-1, 2))  # [B, heads, T, rotary_dim/2, 2]
    even, odd = pairs.unbind(-1)
    rotated = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
    return torch.cat((rotated.to(x.dtype), x[..., rotary_dim:]), dim=-1)


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As `rotate_interleaved`, with the pairs half the rotating width apart: (0, rotary_dim/2), (1, rotary_dim/2 + 1),
    ..., as Llama and ChatGLM-6B have it.

    Args:
        x: queries or keys [B, heads, T, D].
        cos, sin: from `rotary_angles`, [B, 1, T, rotary_dim / 2].

    Returns:
        [B, heads, T, D] in x's dtype.
    """
    half = cos.shape[-1]
    first, second = x[..., :half].float(), x[..., half : 2 * half].float()
    rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return torch.cat((rotated.to(x.dtype), x[..., 2 * half :]), dim=-1)


def two_row_angles(
    positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Cosine and sine for ChatGLM-6B, whose heads have two halves: the first rotates by a token's position in the
    prompt, the second by its position behind the prompt.

    The frequencies are rounded to float16, as the original rounds them when it is built: the lowest but one is 0.75,
    not 0.74989, which moves position 2000 by 0.2.

    Args:
        positions: integer positions [B, 2, T].
        head_dim: D, a multiple of 4.
        theta: base of the frequencies, 10000.
        dtype: in which position times frequency is rounded. float32 is what the original computes with on a CPU;
            float16 what it computes with on a GPU, where far positions are off by up to a third of a turn.

    Returns:
        (cos, sin), each float32 [B, 1, T, 2, D / 4], for `rotate_two_rows`.
    """
    half = head_dim // 2
    exponent = torch.arange(0, half, 2, dtype=torch.float32, device=positions.device) / half
    frequencies = (1.0 / theta**exponent).half().to(dtype)
    angles = positions.transpose(1, 2)[:, None, :, :, None].to(dtype) * frequencies  # [B, 1, T, 2, D/4]
    return angles.float().cos(), angles.float().sin()


def rotate_two_rows(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotate_halves` on each half of a head by itself.

    Args:
        x: queries or keys [B, heads, T, D].
        cos, sin: from `two_row_angles`, [B, 1, T, 2, D / 4].

    Returns:
        [B, heads, T, D] in x's dtype.
    """
    return rotate_halves(x.unflatten(-1, (2, -1)), cos, sin).flatten(-2)
