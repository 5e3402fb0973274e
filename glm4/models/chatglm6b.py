"""ChatGLM-6B: a prompt whose tokens see each other in both directions, and a reply that grows behind it.

What sets it apart from its successors: every token has two positions, one that counts the prompt and stands still in
the reply, and one that is 0 in the prompt and counts the reply; the second tells which tokens everybody may look at.
Residuals add to the *normalised* input, scaled by a constant. LayerNorm and GELU, biases everywhere, no grouped heads,
one table for embedding and head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache import KVCache, LayerCache
from .language_model import PictureFormat
from .ops import attend
from .rope import rotate_two_rows, two_row_angles

# sqrt(2 * 28), whatever the number of layers: the original's blocks are never told how many there are and keep their
# default. Only small models, such as those of tests, notice.
RESIDUAL_SCALE = math.sqrt(56)


@dataclass(frozen=True)
class ChatGLM6BConfig:
    """Every fact the forward pass depends on. None has a default: a checkpoint states it or does not load."""

    vocab_size: int  # rows of the table of embeddings, padding rows included
    hidden_size: int
    ffn_size: int
    n_layers: int
    n_heads: int
    norm_eps: float
    rope_theta: float
    max_positions: int  # context length the weights were trained for, in tokens
    begin_id: int  # <sop>: from it on, tokens see only what is before them
    mask_id: int  # [MASK] and [gMASK]: the prompt has one of them, where the reply's first position stands still
    gmask_id: int
    weight_bits: int  # of the blocks' linear layers as they lie on disk: 4 and 8 packed, 0 not packed

    @property
    def n_kv_heads(self) -> int:
        """As many as heads."""
        return self.n_heads

    @property
    def head_dim(self) -> int:
        """D, of which one half rotates by each of a token's positions."""
        return self.hidden_size // self.n_heads


class Attention(nn.Module):
    """Self-attention; q, k and v come from one product whose rows are, head by head, [D of q | D of k | D of v]."""

    def __init__(self, config: ChatGLM6BConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, cache: LayerCache | None
    ) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        heads = self.qkv_proj(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # [B, N, T, 3D]
        q, k, v = heads.chunk(3, dim=-1)  # [B, N, T, D] each
        q, k = rotate_two_rows(q, *rotary), rotate_two_rows(k, *rotary)
        if cache is not None:
            k, v = cache.update(k, v)  # [B, N, S, D]
        # The original divides q by the layer's number and multiplies the scores by it, against overflow in float16.
        # The fused kernels keep scores in float32, so there is nothing to guard.
        out = attend(q, k, v, mask)  # [B, N, T, D]
        projected: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return projected


class MLP(nn.Module):
    """down(gelu(up(x))), with the tanh approximation of GELU."""

    def __init__(self, config: ChatGLM6BConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.ffn_size)
        self.down_proj = nn.Linear(config.ffn_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        out: Tensor = self.down_proj(F.gelu(self.up_proj(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """x = norm(x); x = scale * x + attention(x); then the same with the MLP. x itself is not carried past a norm."""

    def __init__(self, config: ChatGLM6BConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, cache: LayerCache | None
    ) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        x = self.input_layernorm(x)
        x = RESIDUAL_SCALE * x + self.self_attn(x, rotary, mask, cache)
        x = self.post_attention_layernorm(x)
        out: Tensor = RESIDUAL_SCALE * x + self.mlp(x)
        return out


class TiedEmbedding(nn.Embedding):
    """One table for both ends of the model: ids [B, T] to hidden states [B, T, H], and these to logits [B, T, V].

    Both are calls of the module, so that a table which is on another device, or comes from the disk, is there for both.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Integers are looked up, floating-point numbers multiplied."""
        return F.linear(x, self.weight) if x.is_floating_point() else super().forward(x)


class ChatGLM6B(nn.Module):
    """Token ids to logits in three steps: `embed`, `forward`, `logits` (see `LanguageModel`)."""

    takes_chunks = False  # a token of the prompt sees those behind it
    angle_dtype = torch.float32
    """Set to torch.float16 to rotate as the original does on a GPU (see `two_row_angles`)."""

    def __init__(self, config: ChatGLM6BConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = TiedEmbedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.hidden_size, config.norm_eps)

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
        """Both positions of a prompt [T] and of `n_new` tokens after it: [2, T + n_new].

        The first row counts up to `<sop>` and from there on stays at the place of the mask token, which the reply
        stands for; the second is 0 before `<sop>` and counts from 1 there.

        Example: ids 5 6 7 8 [gMASK] <sop> 9 10 have positions 0 1 2 3 4 4 4 4 and 0 0 0 0 0 1 2 3.

        Raises:
            ValueError: the prompt has no `<sop>`, or no mask token.
        """
        config, tokens = self.config, ids.tolist()
        if config.begin_id not in tokens or not {config.gmask_id, config.mask_id} & set(tokens):
            lacks = "<sop>" if config.begin_id not in tokens else "mask token"
            raise ValueError(
                f"the prompt of {len(tokens)} ids has no {lacks}: end it with [gMASK] and <sop>, ids {config.gmask_id} "
                f"and {config.begin_id}, as the tokenizer's encode does"
            )
        begin = tokens.index(config.begin_id)
        mask = tokens.index(config.gmask_id if config.gmask_id in tokens else config.mask_id)
        slots = torch.arange(len(tokens) + n_new, device=ids.device)
        return torch.stack((torch.where(slots < begin, slots, mask), (slots - begin + 1).clamp(min=0)))

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
            hidden: [B, T, H]. A prompt must come whole.
            positions: integers [B, 2, T], from `positions`; 0 and 0 on padding.
            cache: holds the tokens before these, and receives these.
            valid: bool [B, S] over all slots, False on padding.

        Returns:
            [B, T, H].
        """
        n_new, n_seen = hidden.shape[1], cache.length if cache is not None else 0
        rotary = two_row_angles(positions, self.config.head_dim, self.config.rope_theta, self.angle_dtype)
        mask = prefix_mask(positions, n_seen, valid)
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden, rotary, mask, cache.layer(index) if cache is not None else None)
        if cache is not None:
            cache.advance(n_new)
        out: Tensor = self.norm(hidden)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Final hidden states [..., H] -> float32 logits [..., V]. Pass only the rows that are needed."""
        out: Tensor = self.embed_tokens(hidden).float()
        return out

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache for `batch` sequences of up to `capacity` tokens."""
        return KVCache(
            n_layers=self.config.n_layers,
            batch=batch,
            n_kv_heads=self.config.n_heads,
            capacity=capacity,
            head_dim=self.config.head_dim,
        )


def prefix_mask(positions: Tensor, n_seen: int, valid: Tensor | None) -> Tensor | None:
    """Who may look at whom: a slot sees itself, the slots before it, and the whole prompt. None for a single new token,
    which sees everything.

    Args:
        positions: [B, 2, T]; the second row is 0 on a prompt's tokens.
        n_seen: slots filled before this call.
        valid: bool [B, S], False on padding slots; None when nothing is padded.

    Returns:
        bool [B, 1, T, S], True = visible; or None. A padding slot's own row sees everything, lest it be NaN.
    """
    batch, _, n_new = positions.shape
    if n_new == 1 and valid is None:
        return None
    visible = torch.ones(batch, n_new, n_seen + n_new, dtype=torch.bool, device=positions.device).tril(diagonal=n_seen)
    visible[:, :, n_seen:] |= positions[:, 1, None, :] == 0
    if valid is not None:
        visible = (visible & valid[:, None, :]) | ~valid[:, n_seen:, None]
    return visible[:, None]
