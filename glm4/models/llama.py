"""The LLaMA-2 decoder, which InternVL-Chat-V1-1 speaks with.

It differs from GLM's in three places: all dimensions of a head rotate, pairs lie half a head apart, and there are no
biases. The ids of a prompt are text only; models/internvl.py puts pictures in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .cache import KVCache, LayerCache
from .language_model import PictureFormat
from .ops import RMSNorm, SwiGLU, attend, causal_mask
from .rope import rotary_angles, rotate_halves


@dataclass(frozen=True)
class LlamaConfig:
    """Every fact the forward pass depends on. None has a default: a checkpoint states it or does not load."""

    vocab_size: int  # rows of the embedding and of the head
    hidden_size: int
    ffn_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    rope_theta: float
    norm_eps: float
    max_positions: int  # context length the weights were trained for, in tokens


class Attention(nn.Module):
    """Self-attention; q, k and v come from one product whose rows are [N*D of q | G*D of k | G*D of v]."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        qkv_size = (config.n_heads + 2 * config.n_kv_heads) * config.head_dim
        self.qkv_proj = nn.Linear(config.hidden_size, qkv_size, bias=False)
        self.o_proj = nn.Linear(config.n_heads * config.head_dim, config.hidden_size, bias=False)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, cache: LayerCache | None
    ) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        heads = self.qkv_proj(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # [B, N+2G, T, D]
        q, k, v = heads.split((self.n_heads, self.n_kv_heads, self.n_kv_heads), dim=1)
        q, k = rotate_halves(q, *rotary), rotate_halves(k, *rotary)
        if cache is not None:
            k, v = cache.update(k, v)  # [B, G, S, D]
        out = attend(q, k, v, mask)  # [B, N, T, D]
        projected: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return projected


class Block(nn.Module):
    """x += attention(norm(x)); x += mlp(norm(x))."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = SwiGLU(config.hidden_size, config.ffn_size)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, cache: LayerCache | None
    ) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        x = x + self.self_attn(self.input_layernorm(x), rotary, mask, cache)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Llama(nn.Module):
    """Token ids to logits in three steps: `embed`, `forward`, `logits` (see `LanguageModel`)."""

    takes_chunks = True

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def pictures(self) -> PictureFormat | None:
        """None: it cannot see."""
        return None

    def embed(self, ids: Tensor, features: Tensor | None = None) -> Tensor:
        """Token ids [B, T] -> hidden [B, T, H].

        Raises:
            ValueError: there are features.
        """
        if features is not None:
            raise ValueError("the model has no vision tower, so there is no place for pictures")
        hidden: Tensor = self.embed_tokens(ids)
        return hidden

    def positions(self, ids: Tensor, n_new: int = 0) -> Tensor:
        """0, 1, 2, ... for a prompt [T] and `n_new` tokens after it: [T + n_new]."""
        return torch.arange(ids.shape[0] + n_new, device=ids.device)

    def n_pictures(self, ids: Tensor) -> int:
        """0: no id stands for a picture."""
        return 0

    def see(self, pixels: Tensor) -> Tensor:
        """Raises ValueError: it cannot see."""
        raise ValueError("the model has no vision tower")

    def forward(
        self, hidden: Tensor, positions: Tensor, cache: KVCache | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Embedded tokens -> final hidden states, normalised.

        Args:
            hidden: [B, T, H].
            positions: integers [B, T].
            cache: holds the tokens before these, and receives these.
            valid: bool [B, S] over all slots, False on padding.

        Returns:
            [B, T, H].
        """
        n_new, n_seen = hidden.shape[1], cache.length if cache is not None else 0
        rotary = rotary_angles(positions, self.config.head_dim, self.config.rope_theta)
        mask = causal_mask(n_new, n_seen, valid, hidden.device)
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden, rotary, mask, cache.layer(index) if cache is not None else None)
        if cache is not None:
            cache.advance(n_new)
        out: Tensor = self.norm(hidden)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Final hidden states [..., H] -> float32 logits [..., V]. Pass only the rows that are needed."""
        out: Tensor = self.lm_head(hidden).float()
        return out

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache for `batch` sequences of up to `capacity` tokens."""
        return KVCache(
            n_layers=self.config.n_layers,
            batch=batch,
            n_kv_heads=self.config.n_kv_heads,
            capacity=capacity,
            head_dim=self.config.head_dim,
        )
