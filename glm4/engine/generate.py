"""The obvious loop: one request, one token at a time. Every faster path must give what this gives."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ..models.glm import GLM
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
    model: GLM, prompt: Sequence[int], params: SamplingParams, stop_ids: Collection[int], context: int
) -> Iterator[Step]:
    """Yield new tokens until an end token (yielded too), `max_tokens`, or the end of the context.

    Args:
        prompt: token ids, at least one and fewer than `context`.
        stop_ids: the checkpoint's end tokens; `params.stop_token_ids` come on top.
        context: how many tokens prompt and reply may have together.
    """
    device = model.embed_tokens.weight.device
    limit = min(params.max_tokens or context, context - len(prompt))
    stops = set(params.stop_token_ids) | (set() if params.ignore_eos else set(stop_ids))
    cache = model.new_cache(batch=1, capacity=len(prompt) + min(limit, FIRST_ROOM))
    sampler = Sampler(params, model.config.vocab_size, prompt, device)
    new = torch.tensor([list(prompt)], device=device)  # [1, T]
    for count in range(1, limit + 1):
        if cache.length == cache.capacity:
            cache.grow(min(2 * cache.capacity, len(prompt) + limit))
        for chunk in new.split(PROMPT_CHUNK, dim=1):
            positions = torch.arange(cache.length, cache.length + chunk.shape[1], device=device)[None]
            hidden = model(model.embed(chunk), positions, cache)
        token, logprob = sampler.sample(model.logits(hidden[0, -1]))
        reason: Literal["stop", "length"] | None = "stop" if token in stops else "length" if count == limit else None
        yield Step(token, logprob, reason)
        if reason:
            return
        new = torch.tensor([[token]], device=device)
