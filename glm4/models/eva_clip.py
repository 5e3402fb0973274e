"""GLM-4V's eyes: an EVA2-CLIP transformer, and the adapter that turns its patches into slots of the language model.

Its blocks are post-norm: a sublayer's result is normalised before it is added, and nothing is normalised at the end.
The picture's square of patches is halved in both directions by a convolution, widened to the language model's size,
put between two learned vectors that mark its begin and end, and scaled down.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ops import SwiGLU

ADAPTER_NORM_EPS = 1e-5  # torch's default, which the original leaves as it is


@dataclass(frozen=True)
class EVAConfig:
    """Every fact of the tower. None has a default: a checkpoint states it or does not load."""

    image_size: int  # pixels a side
    patch_size: int  # pixels a side
    hidden_size: int
    ffn_size: int
    n_layers: int
    n_heads: int
    norm_eps: float
    scaling_factor: float  # features are divided by it
    out_size: int  # the language model's hidden size
    out_ffn_size: int  # inner size of the adapter, which is the language model's

    @property
    def grid(self) -> int:
        """Patches a side, before they are halved."""
        return self.image_size // self.patch_size

    @property
    def n_patches(self) -> int:
        """Features of a picture, without the two that mark its begin and end. An odd grid's last row is dropped."""
        return (self.grid // 2) ** 2


class PatchEmbedding(nn.Module):
    """Pixels to patches, one more (the class token) in front, each with its place's embedding added."""

    def __init__(self, config: EVAConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size)
        self.cls_embedding = nn.Parameter(torch.empty(1, config.hidden_size))
        self.position_embedding = nn.Parameter(torch.empty(config.grid**2 + 1, config.hidden_size))

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> [N, 1 + grid * grid, H]."""
        patches = self.proj(pixels).flatten(2).transpose(1, 2)  # [N, grid * grid, H], row by row
        cls = self.cls_embedding.expand(patches.shape[0], -1, -1)
        return torch.cat((cls, patches), dim=1) + self.position_embedding


class Attention(nn.Module):
    """Everything sees everything; q, k and v come from one product whose rows are [q | k | v]."""

    def __init__(self, config: EVAConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, H] -> [N, T, H]."""
        q, k, v = self.qkv_proj(x).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)  # [N, heads, T, D]
        out = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return projected


class MLP(nn.Module):
    """fc2(gelu(fc1(x))), the exact GELU."""

    def __init__(self, config: EVAConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.ffn_size)
        self.fc2 = nn.Linear(config.ffn_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, H] -> [N, T, H]."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """x += norm(attention(x)); x += norm(mlp(x)). Checkpoints call the first one input_layernorm all the same."""

    def __init__(self, config: EVAConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.mlp = MLP(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, config.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, H] -> [N, T, H]."""
        x = x + self.attention_norm(self.attention(x))
        out: Tensor = x + self.mlp_norm(self.mlp(x))
        return out


class Adapter(nn.Module):
    """A projection with a norm and a GELU behind it, then a gated MLP. Nothing is added to its input."""

    def __init__(self, config: EVAConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.out_size, config.out_size, bias=False)
        self.norm = nn.LayerNorm(config.out_size, ADAPTER_NORM_EPS)
        self.mlp = SwiGLU(config.out_size, config.out_ffn_size)

    def forward(self, x: Tensor) -> Tensor:
        """[N, P, H] -> [N, P, H], of the language model's size."""
        out: Tensor = self.mlp(F.gelu(self.norm(self.proj(x))))
        return out


class EVACLIP(nn.Module):
    """Normalised pictures to what the language model is given in the place of tokens."""

    def __init__(self, config: EVAConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = PatchEmbedding(config)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.conv = nn.Conv2d(config.hidden_size, config.out_size, kernel_size=2, stride=2)
        self.adapter = Adapter(config)
        self.boi = nn.Parameter(torch.empty(1, 1, config.out_size))
        self.eoi = nn.Parameter(torch.empty(1, 1, config.out_size))

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S], in the tower's dtype -> [N, 1 + n_patches + 1, out_size]."""
        x = self.patch_embedding(pixels)
        for layer in self.layers:
            x = layer(x)
        square = x[:, 1:].transpose(1, 2).unflatten(2, (self.config.grid, self.config.grid))  # [N, H, grid, grid]
        halved = self.conv(square).flatten(2).transpose(1, 2)  # [N, n_patches, out_size]
        begin, end = (mark.expand(x.shape[0], -1, -1) for mark in (self.boi, self.eoi))
        return torch.cat((begin, self.adapter(halved), end), dim=1) / self.config.scaling_factor
