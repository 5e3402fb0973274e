"""The operations that several families share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in float32, cast to x's dtype at the very end."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., H] -> [..., H]."""
        x32 = x.float()
        x32 = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return (x32 * self.weight.float()).to(x.dtype)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), gate and up computed by one product whose rows are [gate | up]."""

    def __init__(self, hidden_size: int, ffn_size: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(hidden_size, 2 * ffn_size, bias=False)
        self.down_proj = nn.Linear(ffn_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        out: Tensor = self.down_proj(F.silu(gate) * up)
        return out


def causal_mask(n_new: int, n_seen: int, valid: Tensor | None, device: torch.device) -> Tensor | None:
    """Who may look at whom: slot i sees the slots up to i. None where `attend` needs no mask to say so.

    Args:
        n_new: T, the tokens of this call; they fill the last T of S = n_seen + T slots.
        n_seen: slots filled before this call.
        valid: bool [B, S], False on padding slots; None when nothing is padded.

    Returns:
        bool, True = visible: [T, S], or [B, 1, T, S] when there is padding; or None.

    A padding token's own row sees every slot, as in the original's get_masks. What it computes is never used; a row
    that saw nothing would be NaN and poison its neighbours.
    """
    if valid is None and (n_seen == 0 or n_new == 1):
        return None
    n_all = n_seen + n_new
    mask = torch.ones(n_new, n_all, dtype=torch.bool, device=device).tril(diagonal=n_seen)
    if valid is None:
        return mask
    query_is_padding = ~valid[:, None, n_seen:, None]  # [B, 1, T, 1]
    return (mask & valid[:, None, None, :]) | query_is_padding


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention with grouped key/value heads, never expanded to the query heads' number.

    Args:
        q: [B, N, T, D]; k, v: [B, G, S, D] with N a multiple of G. Query head n reads key/value head n // (N / G).
        mask: from `causal_mask`; None means causal where T == S, and everything visible where T == 1.

    Returns:
        [B, N, T, D].
    """
    n_heads, n_new = q.shape[1], q.shape[2]
    n_kv_heads = k.shape[1]
    if n_new == 1:
        # One new token: the query heads of a group become rows of one product with the group's keys, so that each key
        # is read once. torch's own grouped path reads it N / G times on the CPU.
        rows = q.squeeze(2).unflatten(1, (n_kv_heads, n_heads // n_kv_heads))  # [B, G, N/G, D]
        return F.scaled_dot_product_attention(rows, k, v, attn_mask=mask).flatten(1, 2).unsqueeze(2)
    grouped = n_heads != n_kv_heads
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped)
