"""The GLM-4 decoder: GLM-4-9B, GLM-4-9B-Chat, GLM-4-9B-Chat-1M, GLM-4-0414 and GLM-Z1, in one forward pass.

The first three differ in numbers only: context length, rotary base, and how many key/value heads the query heads share.
The last two have two more norms a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .cache import KVCache, LayerCache
from .language_model import PictureFormat
from .ops import RMSNorm, SwiGLU, attend, causal_mask
from .rope import rotary_angles, rotate_interleaved


@dataclass(frozen=True)
class GLMConfig:
    """Every fact the forward pass depends on. None has a default: a checkpoint states it or does not load."""

    vocab_size: int  # rows of the embedding and of the head, padding rows included
    hidden_size: int
    ffn_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    rotary_dim: int  # leading dimensions of a head that rotate
    rope_theta: float
    norm_eps: float
    qkv_bias: bool
    sandwich_norms: bool  # GLM-4-0414 and GLM-Z1 also normalise what a sublayer gives back, before it is added
    max_positions: int  # context length the weights were trained for, in tokens


class Attention(nn.Module):
    """Self-attention; q, k and v come from one product whose rows are [N*D of q | G*D of k | G*D of v]."""

    def __init__(self, config: GLMConfig) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        qkv_size = (config.n_heads + 2 * config.n_kv_heads) * config.head_dim
        self.qkv_proj = nn.Linear(config.hidden_size, qkv_size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(config.n_heads * config.head_dim, config.hidden_size, bias=False)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, cache: LayerCache | None
    ) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        heads = self.qkv_proj(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # [B, N+2G, T, D]
        q, k, v = heads.split((self.n_heads, self.n_kv_heads, self.n_kv_heads), dim=1)
        q, k = rotate_interleaved(q, *rotary), rotate_interleaved(k, *rotary)
        if cache is not None:
            k, v = cache.update(k, v)  # [B, G, S, D]
        out = attend(q, k, v, mask)  # [B, N, T, D]
        projected: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return projected


class Block(nn.Module):
    """x += attention(norm(x)); x += mlp(norm(x)). With sandwich norms: x += norm(attention(norm(x))), and so on.

    The names are transformers' (Glm4DecoderLayer), where `post_attention_layernorm` is the one before the MLP.
    """

    def __init__(self, config: GLMConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = SwiGLU(config.hidden_size, config.ffn_size)
        self.sandwich_norms = config.sandwich_norms
        if config.sandwich_norms:
            self.post_self_attn_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
            self.post_mlp_layernorm = RMSNorm(config.hidden_size, config.norm_eps)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, cache: LayerCache | None
    ) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        attended = self.self_attn(self.input_layernorm(x), rotary, mask, cache)
        x = x + (self.post_self_attn_layernorm(attended) if self.sandwich_norms else attended)
        fed = self.mlp(self.post_attention_layernorm(x))
        out: Tensor = x + (self.post_mlp_layernorm(fed) if self.sandwich_norms else fed)
        return out


class GLM(nn.Module):
    """Token ids to logits in three steps, so that images can be spliced in after the first and rows dropped before
    the last: `embed`, `forward`, `logits`."""

    takes_chunks = True

    def __init__(self, config: GLMConfig) -> None:
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
            positions: integers [B, T]. Always given: padding shifts them and images repeat them, so neither the
                token's index nor the cache's length would do.
            cache: holds the tokens before these, and receives these.
            valid: bool [B, S] over all slots, False on padding.

        Returns:
            [B, T, H].
        """
        n_new, n_seen = hidden.shape[1], cache.length if cache is not None else 0
        rotary = rotary_angles(positions, self.config.rotary_dim, self.config.rope_theta)
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
