"""Rotary embedding: which pairs rotate, by how much, and that the angles keep float32's accuracy at long contexts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.glm_forward import rotate

from glm4.models.rope import rotary_angles, rotate_interleaved

THETAS = [1e4, 5e6, 1e8]  # GLM-4-9B, -Chat, -Chat-1M


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("head_dim", [8, 16, 128])
def test_equals_pair_by_pair_rotation(head_dim: int, theta: float) -> None:
    """Rotating halves instead of neighbours, or the whole head, has the right shape and the wrong values."""
    generator = torch.Generator().manual_seed(head_dim)
    x = torch.randn(2, 3, 5, head_dim, generator=generator)
    positions = torch.tensor([[0, 1, 2, 3, 4], [7, 7, 100, 63, 1000]])
    out = rotate_interleaved(x, *rotary_angles(positions, head_dim // 2, theta))
    for b, n, t in np.ndindex(2, 3, 5):
        expected = rotate(x[b, n, t].double().numpy(), int(positions[b, t]), theta)
        np.testing.assert_allclose(out[b, n, t].numpy(), expected, atol=2e-4, rtol=0)


def test_position_zero_and_the_second_half_pass_through() -> None:
    """Dimensions past rotary_dim must come out as the very same bits."""
    x = torch.randn(1, 2, 3, 16, generator=torch.Generator().manual_seed(1))
    out = rotate_interleaved(x, *rotary_angles(torch.tensor([[0, 5, 9]]), 8, 1e4))
    assert torch.equal(out[..., 8:], x[..., 8:])
    assert torch.equal(out[:, :, 0], x[:, :, 0])
    assert not torch.equal(out[:, :, 1, :8], x[:, :, 1, :8])


@pytest.mark.parametrize("theta", THETAS)
def test_scores_depend_on_distance_alone(theta: float) -> None:
    """q at p + d against k at p: the same for every p, which a wrong pairing of sine and cosine breaks."""
    q, k = torch.randn(2, 1, 1, 1, 32, generator=torch.Generator().manual_seed(2)).double()
    scores = []
    for p in (0, 3, 50, 700):
        cos_q, sin_q = rotary_angles(torch.tensor([[p + 11]]), 16, theta)
        cos_k, sin_k = rotary_angles(torch.tensor([[p]]), 16, theta)
        rotated_q, rotated_k = rotate_interleaved(q, cos_q, sin_q), rotate_interleaved(k, cos_k, sin_k)
        scores.append(float((rotated_q * rotated_k).sum()))
    assert scores == pytest.approx([scores[0]] * 4, abs=1e-3)


@pytest.mark.parametrize("theta", THETAS)
def test_angles_equal_the_originals_float32_table(theta: float) -> None:
    """At the far end of a million tokens too: an angle taken in bfloat16 is off by many turns there."""
    table_theta = 1.0 / (theta ** (torch.arange(0, 64, 2, dtype=torch.float32) / 64))
    for position in (0, 1, 1023, 131_071, 1_048_575):
        cos, sin = rotary_angles(torch.tensor([[position]]), 64, theta)
        angle = torch.tensor([float(position)]) * table_theta
        torch.testing.assert_close(cos[0, 0, 0], angle.cos(), atol=1e-6, rtol=0)
        torch.testing.assert_close(sin[0, 0, 0], angle.sin(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_once(dtype: torch.dtype) -> None:
    """The result is the float32 rotation of the given values, rounded: no intermediate in half precision."""
    x = torch.randn(1, 2, 4, 16, generator=torch.Generator().manual_seed(3)).to(dtype)
    rotary = rotary_angles(torch.tensor([[0, 1, 500, 8191]]), 8, 1e4)
    out = rotate_interleaved(x, *rotary)
    assert out.dtype == dtype
    assert torch.equal(out, rotate_interleaved(x.float(), *rotary).to(dtype))
