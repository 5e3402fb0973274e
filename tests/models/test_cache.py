"""The key/value cache as a container."""

from __future__ import annotations

import pytest
import torch

from glm4.models.cache import KVCache


def new_cache(capacity: int = 6) -> KVCache:
    """Two layers, batch 2, 3 key/value heads of 4."""
    return KVCache(n_layers=2, batch=2, n_kv_heads=3, capacity=capacity, head_dim=4)


def test_layers_keep_apart_and_order_is_kept() -> None:
    """What is read back is what was written, layer by layer, in the order of writing."""
    cache = new_cache()
    written: list[list[torch.Tensor]] = [[], []]
    for n_new in (3, 1, 2):
        for layer in (0, 1):
            k = torch.randn(2, 3, n_new, 4)
            written[layer].append(k)
            keys, values = cache.layer(layer).update(k, -k)
            assert torch.equal(keys, torch.cat(written[layer], dim=2))
            assert torch.equal(values, -torch.cat(written[layer], dim=2))
        cache.advance(n_new)
    assert cache.length == 6


def test_update_allocates_nothing_and_copies_nothing_old() -> None:
    """The views that attention reads lie in the one buffer: a growing copy per token would be quadratic."""
    cache = new_cache()
    first, _ = cache.layer(0).update(torch.ones(2, 3, 2, 4), torch.ones(2, 3, 2, 4))
    cache.advance(2)
    second, _ = cache.layer(0).update(torch.ones(2, 3, 1, 4), torch.ones(2, 3, 1, 4))
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()


def test_a_full_cache_says_how_much_is_needed() -> None:
    """Writing past the end must not wrap, cut or broadcast."""
    cache = new_cache(capacity=3)
    cache.layer(0).update(torch.zeros(2, 3, 3, 4), torch.zeros(2, 3, 3, 4))
    cache.advance(3)
    with pytest.raises(ValueError, match="holds 3 slots, 4 are needed"):
        cache.layer(0).update(torch.zeros(2, 3, 1, 4), torch.zeros(2, 3, 1, 4))
    assert cache.length == 3


def test_growing_keeps_what_was_written_and_makes_room() -> None:
    """And only that: what lies behind the filled slots is not worth moving."""
    cache = new_cache(capacity=3)
    k = torch.randn(2, 3, 3, 4, generator=torch.Generator().manual_seed(1))
    for layer in (0, 1):
        cache.layer(layer).update(k + layer, -k - layer)
    cache.advance(3)
    cache.rewind(1)
    cache.grow(7)
    assert (cache.capacity, cache.length) == (7, 2)
    more = torch.ones(2, 3, 5, 4)
    for layer in (0, 1):
        keys, values = cache.layer(layer).update(more, more)
        assert torch.equal(keys, torch.cat((k[:, :, :2] + layer, more), dim=2))
        assert torch.equal(values, torch.cat((-k[:, :, :2] - layer, more), dim=2))


def test_growing_before_anything_is_written() -> None:
    """There is nothing to move yet; the room is there all the same."""
    cache = new_cache(capacity=1)
    cache.grow(2)
    keys, _ = cache.layer(1).update(torch.ones(2, 3, 2, 4), torch.ones(2, 3, 2, 4))
    assert keys.shape == (2, 3, 2, 4)


def test_each_layer_lies_where_it_computes() -> None:
    """In the dtype and on the device of what it writes first, after growing too; "meta" is the second device here."""
    cache = new_cache(capacity=2)
    kinds = [("cpu", torch.bfloat16), ("meta", torch.float32)]
    for capacity in (2, 5):
        cache.grow(capacity)
        for layer, (device, dtype) in enumerate(kinds):
            new = torch.ones(2, 3, 1, 4, device=device, dtype=dtype)
            for buffer in cache.layer(layer).update(new, new):
                assert (buffer.device.type, buffer.dtype) == (device, dtype)
        cache.advance(1)


@pytest.mark.parametrize("n", [-1, 4])
def test_rewind_refuses_what_was_never_written(n: int) -> None:
    """A negative rewind would expose uninitialised memory."""
    cache = new_cache()
    cache.advance(3)
    with pytest.raises(ValueError, match=f"rewind {n} slots of a cache that holds 3"):
        cache.rewind(n)
    cache.rewind(3)
    assert cache.length == 0
