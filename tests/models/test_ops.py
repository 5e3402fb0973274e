"""Norm, SwiGLU, masks and attention against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glm4.models.ops import RMSNorm, SwiGLU, attend, causal_mask


def attend_expanded(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """Attention with every key/value head repeated for its query heads, softmax written out, in float64."""
    repeats = q.shape[1] // k.shape[1]
    k, v = (x.double().repeat_interleave(repeats, dim=1) for x in (k, v))
    scores = q.double() @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    return weights @ v


def random_heads(seed: int, n_heads: int, n_kv_heads: int, n_new: int, n_all: int) -> tuple[Tensor, Tensor, Tensor]:
    """q [2, N, T, 8] and k, v [2, G, S, 8]."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(2, n_heads, n_new, 8, generator=generator) * 2
    k = torch.randn(2, n_kv_heads, n_all, 8, generator=generator)
    return q, k, torch.randn(2, n_kv_heads, n_all, 8, generator=generator)


@pytest.mark.parametrize(("n_heads", "n_kv_heads"), [(4, 4), (4, 1), (8, 2), (8, 4), (6, 3)])
@pytest.mark.parametrize(("n_new", "n_seen"), [(7, 0), (1, 0), (1, 9), (4, 9)])
def test_grouped_heads_equal_expanded_heads(n_heads: int, n_kv_heads: int, n_new: int, n_seen: int) -> None:
    """Query head n reads key/value head n // (N / G): interleaving the groups instead gives other values."""
    q, k, v = random_heads(n_heads * 10 + n_new, n_heads, n_kv_heads, n_new, n_seen + n_new)
    visible = torch.tensor([[s <= n_seen + t for s in range(n_seen + n_new)] for t in range(n_new)])
    out = attend(q, k, v, causal_mask(n_new, n_seen, None, torch.device("cpu")))
    torch.testing.assert_close(out.double(), attend_expanded(q, k, v, visible), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("n_new", "n_seen"), [(7, 0), (1, 6), (3, 4)])
def test_padding_is_never_seen_by_tokens(n_new: int, n_seen: int) -> None:
    """With padding on the left, on the right and in the middle; rows of padding see everything, as in the original."""
    valid = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1, 0]], dtype=torch.bool)
    mask = causal_mask(n_new, n_seen, valid, torch.device("cpu"))
    assert mask is not None
    for b in range(2):
        for t in range(n_new):
            is_token = bool(valid[b, n_seen + t])
            expected = [not is_token or (s <= n_seen + t and bool(valid[b, s])) for s in range(7)]
            assert mask[b, 0, t].tolist() == expected, f"row {b}, token {t}"
    q, k, v = random_heads(n_new, 4, 2, n_new, 7)
    torch.testing.assert_close(attend(q, k, v, mask).double(), attend_expanded(q, k, v, mask), atol=1e-5, rtol=0)


def test_a_sequence_of_padding_alone_stays_finite() -> None:
    """A row that sees nothing would be NaN, and NaN spreads through the batch's products."""
    valid = torch.tensor([[False, False, False], [True, True, True]])
    q, k, v = random_heads(1, 4, 2, 3, 3)
    assert attend(q, k, v, causal_mask(3, 0, valid, torch.device("cpu"))).isfinite().all()


def test_rms_norm_is_taken_in_float32() -> None:
    """Squares of large float16 values overflow, and small eps vanishes, unless the sum is float32."""
    norm = RMSNorm(4, 1.5625e-07).to(torch.float16)
    norm.weight.data = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.float16)
    x = torch.tensor([[60000.0, -300.0, 0.0, 1.0], [1e-4, -1e-4, 2e-4, 0.0]], dtype=torch.float16)
    out = norm(x)
    assert out.dtype == torch.float16
    expected = x.double() / (x.double().square().mean(-1, keepdim=True) + 1.5625e-07).sqrt() * norm.weight.double()
    torch.testing.assert_close(out.double(), expected, atol=1e-7, rtol=1e-3)


def test_rms_norm_multiplies_by_the_weight_before_rounding() -> None:
    """Rounding x to bfloat16 first and multiplying then (as Llama does) differs in the last bit."""
    generator = torch.Generator().manual_seed(5)
    norm = RMSNorm(64, 1e-5).to(torch.bfloat16)
    norm.weight.data = torch.randn(64, generator=generator).bfloat16()
    x = torch.randn(50, 64, generator=generator).bfloat16()
    exact = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-5)
    assert torch.equal(norm(x), (exact * norm.weight.float()).bfloat16())
    assert not torch.equal(norm(x), exact.bfloat16() * norm.weight)


def test_swiglu_gates_with_the_first_half() -> None:
    """silu on the second half has the same shape."""
    mlp = SwiGLU(6, 10)
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(6))
    gate, up = mlp.gate_up_proj.weight[:10].double(), mlp.gate_up_proj.weight[10:].double()
    g, u = x.double() @ gate.T, x.double() @ up.T
    expected = (g * g.sigmoid() * u) @ mlp.down_proj.weight.double().T
    torch.testing.assert_close(mlp(x).double(), expected, atol=1e-6, rtol=0)
