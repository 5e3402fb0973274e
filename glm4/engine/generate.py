"""The obvious loop: one request, one token at a time. Every faster path must give what this gives."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..models.language_model import LanguageModel, input_device
from ..sampling import SamplingParams, TokenLogprob
from .sampler import Sampler

PROMPT_CHUNK = 2048  # tokens of the prompt computed at a time: bounds activations, changes no result
FIRST_ROOM = 1024  # tokens of the reply to allocate the cache for at first; a context of 128K would take 5 GB at once


@dataclass(frozen=True)
class Step:
    """One new token, and why it is the last one if it is."""

    token_id: int
    logprob: TokenLogprob | None
    finish_reason: Literal["stop", "length"] | None


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompt: Sequence[int],
    params: SamplingParams,
    stop_ids: Collection[int],
    context: int,
    features: Tensor | None = None,
) -> Iterator[Step]:
    """Yield new tokens until an end token (yielded too), `max_tokens`, or the end of the context.

    Args:
        prompt: token ids, at least one, of fewer slots than `context`.
        stop_ids: the checkpoint's end tokens; `params.stop_token_ids` come on top.
        context: how many slots prompt and reply may have together.
        features: of the prompt's pictures, [N, P, H].
    """
    ids = torch.tensor([list(prompt)], device=input_device(model))  # [1, T]
    n_slots = model.positions(ids[0]).shape[-1]
    limit = min(params.max_tokens or context, context - n_slots)
    stops = set(params.stop_token_ids) | (set() if params.ignore_eos else set(stop_ids))
    prompt_ids, room = ids[0], min(limit, FIRST_ROOM)
    positions = model.positions(prompt_ids, room)[None]  # [1, slots + room] or [1, 2, slots + room]
    cache = model.new_cache(batch=1, capacity=n_slots + room)
    sampler = Sampler(params, model.config.vocab_size, prompt, ids.device)
    for count in range(1, limit + 1):
        if cache.length == cache.capacity:
            cache.grow(min(2 * cache.capacity, n_slots + limit))
            positions = model.positions(prompt_ids, cache.capacity - n_slots)[None]
        for piece in _embedded(model, ids, features if count == 1 else None):
            hidden = model(piece, positions[..., cache.length : cache.length + piece.shape[1]], cache)
        token, logprob = sampler.sample(model.logits(hidden[0, -1]))
        reason: Literal["stop", "length"] | None = "stop" if token in stops else "length" if count == limit else None
        yield Step(token, logprob, reason)
        if reason:
            return
        ids = torch.tensor([[token]], device=ids.device)


def _embedded(model: LanguageModel, ids: Tensor, features: Tensor | None) -> Iterator[Tensor]:
    """Hidden states to compute at a time, [1, up to PROMPT_CHUNK, H]: embedded piece by piece where no picture and no
    mask needs the whole prompt."""
    if not model.takes_chunks:
        yield model.embed(ids, features)
    elif features is not None:
        yield from model.embed(ids, features).split(PROMPT_CHUNK, dim=1)
    else:
        for chunk in ids.split(PROMPT_CHUNK, dim=1):
            yield model.embed(chunk)
