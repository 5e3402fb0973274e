"""transformers' caches of keys and values behind the model's own seam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ..models.cache import KVCache


class BorrowedCache(KVCache):
    """Whichever kind `generate` made: it goes on being transformers' to reorder, crop and move."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self.length = int(cache.get_seq_length())

    def write(self, index: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """`LayerCache.update`; a cache of a fixed size gives back all of it, of which the filled slots are wanted."""
        end = self.length + k.shape[2]
        layers = getattr(self._cache, "layers", [self._cache] * (index + 1))  # 4.46 has none
        room = getattr(layers[index], "max_cache_len", None) if index < len(layers) else None
        if room is not None and room < end:
            raise ValueError(
                f"the cache has {room} slots and {end} are needed: a prompt with pictures has more slots than ids; "
                "generate without cache_implementation"
            )
        slots = torch.arange(self.length, end, device=k.device)
        keys, values = self._cache.update(k, v, index, {"cache_position": slots})
        return keys[:, :, :end], values[:, :, :end]


def cache_of_pairs(pairs: Iterable[tuple[Tensor, Tensor]]) -> DynamicCache:
    """(keys, values) [B, G, S, D] of each layer, as older callers have them, in a cache."""
    cache = DynamicCache()
    for index, (keys, values) in enumerate(pairs):
        cache.update(keys, values, index)
    return cache
