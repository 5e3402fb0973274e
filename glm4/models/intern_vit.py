"""InternViT: the vision tower of InternVL-Chat-V1-1, InternViT-6B-448px, up to the layer whose output is taken.

Letters here: N pictures, S pixels a side, g patches a side, T = g*g + 1 tokens (the class token first), C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ops import RMSNorm


@dataclass(frozen=True)
class InternViTConfig:
    """Every fact the forward pass depends on."""

    image_size: int  # S, a multiple of patch_size
    patch_size: int
    stored_grid: int  # patches a side that the checkpoint's position embedding is for; resized where g differs
    hidden_size: int
    ffn_size: int
    n_layers: int  # blocks computed; those behind them only fed layers whose output nobody takes
    n_stored_layers: int  # blocks in the checkpoint
    n_heads: int
    norm_eps: float

    @property
    def grid(self) -> int:
        """g."""
        return self.image_size // self.patch_size


class VisionAttention(nn.Module):
    """Self-attention of every patch to every patch. q and k are normalised over all heads together."""

    def __init__(self, config: InternViTConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.q_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.k_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, C] -> [N, T, C]."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        # [N, heads, T, C / heads] each; the norms see all of C, before the heads part
        heads = [y.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for y in (self.q_norm(q), self.k_norm(k), v)]
        out = F.scaled_dot_product_attention(*heads)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return projected


class VisionMLP(nn.Module):
    """fc2(gelu(fc1(x))), with the exact (erf) gelu."""

    def __init__(self, config: InternViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.ffn_size)
        self.fc2 = nn.Linear(config.ffn_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, C] -> [N, T, C]."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class VisionBlock(nn.Module):
    """x += ls1 * attention(norm1(x)); x += ls2 * mlp(norm2(x))."""

    def __init__(self, config: InternViTConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.hidden_size, config.norm_eps)
        self.attn = VisionAttention(config)
        self.ls1 = nn.Parameter(torch.ones(config.hidden_size))
        self.norm2 = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = VisionMLP(config)
        self.ls2 = nn.Parameter(torch.ones(config.hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, C] -> [N, T, C]."""
        x = x + self.ls1 * self.attn(self.norm1(x))
        out: Tensor = x + self.ls2 * self.mlp(self.norm2(x))
        return out


class InternViT(nn.Module):
    """Pictures to patch features. There is no norm behind the last block, whichever it is."""

    def __init__(self, config: InternViTConfig) -> None:
        super().__init__()
        self.config = config
        self.class_embedding = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position_embedding = nn.Parameter(torch.zeros(1, config.stored_grid**2 + 1, config.hidden_size))
        self.patch_embedding = nn.Conv2d(3, config.hidden_size, config.patch_size, stride=config.patch_size)
        self.layers = nn.ModuleList(VisionBlock(config) for _ in range(config.n_layers))

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [N, 3, S, S] -> features of their patches, row by row, [N, g*g, C]."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # [N, g*g, C]
        x = torch.cat((self.class_embedding.expand(pixels.shape[0], -1, -1), patches), dim=1)
        x = x + self._positions()
        for layer in self.layers:
            x = layer(x)
        return x[:, 1:]

    def _positions(self) -> Tensor:
        """The position embedding [1, T, C] of this size of picture."""
        stored, grid = self.config.stored_grid, self.config.grid
        if stored == grid:
            return self.position_embedding
        of_class, of_patches = self.position_embedding[:, :1], self.position_embedding[:, 1:]
        image = of_patches.float().unflatten(1, (stored, stored)).permute(0, 3, 1, 2)  # [1, C, stored, stored]
        image = F.interpolate(image, size=(grid, grid), mode="bicubic", align_corners=False)
        resized = image.flatten(2).transpose(1, 2).to(of_class.dtype)  # [1, g*g, C]
        return torch.cat((of_class, resized), dim=1)
