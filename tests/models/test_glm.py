"""The decoder: every way of computing the same tokens gives the same logits, and they are the right ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from random_models import logits, random_checkpoint, random_ids, random_model
from reference import glm_forward
from torch import Tensor

from glm4.models.glm import GLM

# What differs in the family: rotary base, how many query heads share a key/value head, whether qkv has a bias.
VARIANTS = {
    "base": {"rope_theta": 1e4, "n_heads": 4, "n_kv_heads": 2},
    "chat": {"rope_theta": 5e6, "n_heads": 8, "n_kv_heads": 2, "n_layers": 3},
    "chat-1m": {"rope_theta": 1e8, "n_heads": 8, "n_kv_heads": 4},
    "one group": {"n_heads": 4, "n_kv_heads": 1},
    "ungrouped": {"n_heads": 4, "n_kv_heads": 4, "qkv_bias": False, "head_dim": 8, "rotary_dim": 4},
}
EXACT = {"atol": 1e-4, "rtol": 0}  # float32 sums in another order, on logits of about 10


@pytest.fixture(params=VARIANTS)
def model(request: pytest.FixtureRequest) -> GLM:
    """Each of the variants."""
    return random_model(seed=11, **VARIANTS[request.param])


@torch.inference_mode()
def cached(model: GLM, ids: Tensor, chunks: list[int], positions: Tensor | None = None) -> Tensor:
    """Logits of all tokens, computed in chunks of the given sizes through one cache."""
    positions = torch.arange(ids.shape[1]).expand_as(ids) if positions is None else positions
    cache = model.new_cache(batch=ids.shape[0], capacity=ids.shape[1])
    pieces = [
        logits(model, chunk, position, cache=cache)
        for chunk, position in zip(ids.split(chunks, dim=1), positions.split(chunks, dim=1), strict=True)
    ]
    assert cache.length == ids.shape[1]
    return torch.cat(pieces, dim=1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_float64_rewrite(variant: str, tmp_path: Path) -> None:
    """The whole forward pass, at positions that are given and not simply counted."""
    random_checkpoint(tmp_path, seed=12, **VARIANTS[variant])
    model = random_model(seed=12, **VARIANTS[variant])
    ids, positions = random_ids(13, 9), [0, 1, 2, 2, 2, 3, 40, 41, 255]
    expected = torch.from_numpy(glm_forward.forward(*glm_forward.load(tmp_path), ids.tolist(), positions))
    assert expected.abs().max() > 5, "logits too small for the comparison to mean anything"
    out = logits(model, ids[None], torch.tensor([positions]))[0]
    torch.testing.assert_close(out.double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("chunks", [[1] * 20, [20], [7, 13], [19, 1], [1, 18, 1], [5, 1, 1, 5, 8]], ids=str)
def test_cached_and_chunked_equal_whole(model: GLM, chunks: list[int]) -> None:
    """Token by token, in one go, and anything between."""
    ids = random_ids(14, 2, 20)
    torch.testing.assert_close(cached(model, ids, chunks), logits(model, ids), **EXACT)


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_a_padded_batch_equals_each_alone(model: GLM, side: str) -> None:
    """Whatever ids and positions the padding has."""
    sequences = [random_ids(20 + n, n) for n in (9, 4, 1, 6)]
    width = 12
    for seed in (0, 1):
        ids, positions = random_ids(seed, 4, width), random_ids(seed, 4, width)
        valid = torch.zeros(4, width, dtype=torch.bool)
        for row, sequence in enumerate(sequences):
            n = len(sequence)
            start = {"left": width - n, "right": 0, "both": (width - n) // 2}[side]
            ids[row, start : start + n] = sequence
            positions[row, start : start + n] = torch.arange(n)
            valid[row, start : start + n] = True
        out = logits(model, ids, positions, valid=valid)
        for row, sequence in enumerate(sequences):
            alone = logits(model, sequence[None])[0]
            torch.testing.assert_close(out[row, valid[row]], alone, **EXACT, msg=f"row {row}, padding seed {seed}")


def test_a_left_padded_batch_decodes_through_the_cache(model: GLM) -> None:
    """Prompt of unequal lengths in one batch, then token by token: slots and positions differ from then on."""
    lengths, n_new = [5, 2, 7], 4
    sequences = [random_ids(30 + n, n + n_new) for n in lengths]
    width = max(lengths)
    ids = torch.zeros(3, width + n_new, dtype=torch.long)
    valid = torch.zeros(3, width + n_new, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, -len(sequence) :] = sequence
        valid[row, -len(sequence) :] = True
    positions = (valid.cumsum(1) - 1).clamp(min=0)
    cache = model.new_cache(batch=3, capacity=width + n_new)
    out = [logits(model, ids[:, :width], positions[:, :width], cache=cache, valid=valid[:, :width])]
    for t in range(width, width + n_new):
        step = slice(t, t + 1)
        out.append(logits(model, ids[:, step], positions[:, step], cache=cache, valid=valid[:, : t + 1]))
    for row, sequence in enumerate(sequences):
        alone = logits(model, sequence[None])[0]
        torch.testing.assert_close(torch.cat(out, 1)[row, -len(sequence) :], alone, **EXACT, msg=f"row {row}")


def test_rewinding_forgets(model: GLM) -> None:
    """Other tokens after a rewind: as if the first ones had never been, which a mask over stale slots would miss."""
    prompt, wrong, right = random_ids(40, 1, 6), random_ids(41, 1, 5), random_ids(42, 1, 3)
    cache = model.new_cache(batch=1, capacity=11)
    logits(model, torch.cat((prompt, wrong), 1), cache=cache)
    cache.rewind(5)
    after = logits(model, right, torch.tensor([[6, 7, 8]]), cache=cache)
    torch.testing.assert_close(after, logits(model, torch.cat((prompt, right), 1))[:, 6:], **EXACT)
    cache.rewind(9)
    torch.testing.assert_close(logits(model, right, cache=cache), logits(model, right), **EXACT)


@pytest.mark.parametrize("chunks", [[12], [4, 8], [1] * 12], ids=str)
def test_positions_are_given_never_counted(model: GLM, chunks: list[int]) -> None:
    """Strided, repeated (an image's patches share one) and shifted positions come through the cache unchanged."""
    ids = random_ids(50, 1, 12)
    counted = logits(model, ids)
    strided = torch.arange(12)[None] * 20
    repeated = torch.tensor([[0, 1, 2, 2, 2, 2, 2, 2, 3, 4, 5, 6]])
    for positions in (strided, repeated):
        whole = logits(model, ids, positions)
        assert (whole - counted).abs().max() > 0.1, "positions made no difference"
        torch.testing.assert_close(cached(model, ids, chunks, positions), whole, **EXACT)
    shifted = logits(model, ids, torch.arange(12)[None] + 100)
    torch.testing.assert_close(shifted, counted, atol=1e-3, rtol=0)  # only distances count; float32 angles of 100


def test_later_tokens_change_nothing_before_them(model: GLM) -> None:
    """Causality, bit for bit in what the mask hides."""
    ids = random_ids(60, 1, 10)
    changed = ids.clone()
    changed[0, 6:] = random_ids(61, 4)
    before, after = logits(model, ids), logits(model, changed)
    torch.testing.assert_close(before[:, :6], after[:, :6], **EXACT)
    assert (before[:, 6:] - after[:, 6:]).abs().max() > 0.1


def test_logits_of_some_rows_are_those_rows(model: GLM) -> None:
    """A prompt's head is computed for its last row only; it must be the same row."""
    ids = random_ids(70, 2, 6)
    hidden = model(model.embed(ids), torch.arange(6).expand(2, 6))
    torch.testing.assert_close(model.logits(hidden[:, -1]), model.logits(hidden)[:, -1], **EXACT)
    assert model.logits(hidden.bfloat16().float()).dtype == torch.float32


def test_a_cache_of_the_models_dtype_and_size() -> None:
    """G heads, not N: an expanded cache would cost N / G times the memory."""
    model = random_model(dtype=torch.bfloat16)
    cache = model.new_cache(batch=3, capacity=10)
    ids = random_ids(80, 3, 10)
    model(model.embed(ids), torch.arange(10).expand(3, 10), cache)
    cache.rewind(10)
    new = torch.zeros(3, model.config.n_kv_heads, 10, model.config.head_dim)
    for buffer in cache.layer(0).update(new, new):
        assert buffer.dtype == torch.bfloat16
    assert cache.capacity == 10
