"""Keys and values of the tokens seen so far. Storage only: when to allocate or rewind is the engine's business."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


class KVCache:
    """One buffer [B, G, capacity, D] of keys and one of values a layer.

    A layer's buffers are allocated when it first writes, in the dtype and on the device of what it writes: its keys and
    values then lie where its attention computes, wherever each layer of a model that is spread over devices may be.

    `length` counts the slots filled, the same for every row of the batch. A slot is not a position: padding, images
    and prefixes make the two differ, so positions are always given to the model beside the cache.

    Example: after a prompt of 5 tokens, length is 5. A step of one token writes slot 5 of each layer through
    `layer(i).update` and is committed by `advance(1)`; `rewind(1)` forgets it again.
    """

    def __init__(self, *, n_layers: int, batch: int, n_kv_heads: int, capacity: int, head_dim: int) -> None:
        self._batch, self._n_kv_heads, self._head_dim = batch, n_kv_heads, head_dim
        self._buffers: list[tuple[Tensor, Tensor] | None] = [None] * n_layers  # (keys, values)
        self.capacity = capacity
        self.length = 0

    def layer(self, index: int) -> LayerCache:
        """What one attention layer writes to and reads from."""
        return LayerCache(self, index)

    def advance(self, n: int) -> None:
        """Commit n slots that every layer has written."""
        self.length += n

    def grow(self, capacity: int) -> None:
        """Move to buffers of a larger capacity, one layer after the other: at no time are all of them there twice.

        Views that `update` returned before are of the old buffers.
        """
        self.capacity = capacity
        for index, pair in enumerate(self._buffers):
            if pair is not None:
                self._buffers[index] = (self._moved(pair[0]), self._moved(pair[1]))

    def _moved(self, old: Tensor) -> Tensor:
        new = self._empty(old)
        new[:, :, : self.length] = old[:, :, : self.length]
        return new

    def _empty(self, like: Tensor) -> Tensor:
        return like.new_empty((self._batch, self._n_kv_heads, self.capacity, self._head_dim))

    def write(self, index: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """`LayerCache.update` of the layer `index`."""
        end = self.length + k.shape[2]
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} slots, {end} are needed: allocate a larger one")
        pair = self._buffers[index]
        if pair is None:
            pair = self._buffers[index] = (self._empty(k), self._empty(v))
        keys, values = pair
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end], values[:, :, :end]

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
    """One layer's part of a cache."""

    cache: KVCache
    index: int

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write k and v [B, G, T, D] behind the filled slots.

        Returns:
            Views of everything up to and including them, [B, G, length + T, D] each.

        Raises:
            ValueError: the buffers have no room for T more.
        """
        return self.cache.write(self.index, k, v)
