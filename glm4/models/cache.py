"""Keys and values of the tokens seen so far. Storage only: when to allocate or rewind is the engine's business."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class KVCache:
    """One buffer [B, G, capacity, D] of keys and one of values a layer, allocated at once.

    `length` counts the slots filled, the same for every row of the batch. A slot is not a position: padding, images
    and prefixes make the two differ, so positions are always given to the model beside the cache.

    Example: after a prompt of 5 tokens, length is 5. A step of one token writes slot 5 of each layer through
    `layer(i).update` and is committed by `advance(1)`; `rewind(1)` forgets it again.
    """

    def __init__(
        self,
        *,
        n_layers: int,
        batch: int,
        n_kv_heads: int,
        capacity: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (n_layers, batch, n_kv_heads, capacity, head_dim)
        self._keys = torch.empty(shape, dtype=dtype, device=device)
        self._values = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Slots there is memory for."""
        return self._keys.shape[3]

    def layer(self, index: int) -> LayerCache:
        """The view that one attention layer reads and writes."""
        return LayerCache(self._keys[index], self._values[index], self.length)

    def advance(self, n: int) -> None:
        """Commit n slots that every layer has written."""
        self.length += n

    def grow(self, capacity: int) -> None:
        """Move to buffers of a larger capacity. Views made by `layer` before are stale."""
        self._keys = self._moved(self._keys, capacity)
        self._values = self._moved(self._values, capacity)

    def _moved(self, old: Tensor, capacity: int) -> Tensor:
        new = old.new_empty((*old.shape[:3], capacity, old.shape[4]))
        new[:, :, :, : self.length] = old[:, :, :, : self.length]
        return new

    def rewind(self, n: int) -> None:
        """Forget the last n slots.

        Raises:
            ValueError: n is negative or more than was written.
        """
        if not 0 <= n <= self.length:
            raise ValueError(f"cannot rewind {n} slots of a cache that holds {self.length}")
        self.length -= n


@dataclass(frozen=True)
class LayerCache:
    """One layer's keys and values, [B, G, capacity, D] each, of which the first `length` slots are filled."""

    keys: Tensor
    values: Tensor
    length: int

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write k and v [B, G, T, D] behind the filled slots.

        Returns:
            Views of everything up to and including them, [B, G, length + T, D] each.

        Raises:
            ValueError: the buffers have no room for T more.
        """
        end = self.length + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError(f"the cache holds {self.keys.shape[2]} slots, {end} are needed: allocate a larger one")
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        return self.keys[:, :, :end], self.values[:, :, :end]
