"""One request's choice of the next token, on the device the logits are on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import GenerationError
from ..sampling import SamplingParams, TokenLogprob

GREEDY_BELOW = 1e-5  # as in vLLM: dividing by less overflows float32, and the likeliest token is certain long before


class Sampler:
    """Holds what one request's sampling depends on: its random generator and how often each token has occurred.

    Args:
        params: what to apply.
        vocab_size: V, the number of logits.
        prompt: the prompt's ids; the repetition penalty counts them.
        device: where the logits will be.
    """

    def __init__(self, params: SamplingParams, vocab_size: int, prompt: Sequence[int], device: torch.device) -> None:
        self.params = params
        self._counts = torch.zeros(vocab_size, device=device)  # of each token, in the reply
        self._in_prompt = torch.zeros(vocab_size, dtype=torch.bool, device=device)
        self._in_prompt[torch.tensor(list(prompt), dtype=torch.long, device=device)] = True
        self._generator = torch.Generator(device)
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed)

    def sample(self, logits: Tensor) -> tuple[int, TokenLogprob | None]:
        """Choose the next token and remember it.

        Args:
            logits: float32 [V].

        Raises:
            GenerationError: a logit is not a number, or none is finite.
        """
        params = self.params
        adjusted = self._penalised(logits)
        if params.temperature < GREEDY_BELOW:
            choice = adjusted.argmax()
        else:
            probabilities = self._truncated(adjusted / params.temperature).softmax(-1)
            # Exponential races: argmax(p / Exp(1)) is a draw from p, without torch.multinomial's host sync.
            noise = torch.empty_like(probabilities).exponential_(generator=self._generator)
            choice = (probabilities / noise).argmax()
        # The largest is NaN if any is; and infinite where all are ruled out, or one overflowed.
        unusable = ~adjusted.max().isfinite()
        token, broken = torch.stack((choice, unusable.to(choice.dtype))).tolist()
        if broken:
            raise GenerationError(
                "the model's logits are not numbers (NaN or infinite). "
                'The weights are damaged, or overflow in float16: try dtype="bfloat16" or "float32"'
            )
        self._counts[token] += 1
        return token, self._logprob(logits, token)

    def _penalised(self, logits: Tensor) -> Tensor:
        params = self.params
        if params.repetition_penalty != 1:
            seen = self._in_prompt | (self._counts > 0)
            scaled = torch.where(logits > 0, logits / params.repetition_penalty, logits * params.repetition_penalty)
            logits = torch.where(seen, scaled, logits)
        if params.presence_penalty or params.frequency_penalty:
            logits = logits - params.presence_penalty * (self._counts > 0) - params.frequency_penalty * self._counts
        return logits

    def _truncated(self, logits: Tensor) -> Tensor:
        """Logits with the tokens dropped by min_p, top_k and top_p at minus infinity. The likeliest always stays."""
        params = self.params
        if params.min_p > 0:
            probabilities = logits.softmax(-1)
            logits = logits.masked_fill(probabilities < params.min_p * probabilities.max(), -torch.inf)
        if params.top_k <= 0 and params.top_p == 1:
            return logits
        ordered, order = logits.sort(descending=True, stable=True)
        keep = torch.ones_like(ordered, dtype=torch.bool)
        if params.top_k > 0:
            keep[params.top_k :] = False  # by rank, so that ties with the k-th do not stay too
        if params.top_p < 1:
            probabilities = ordered.masked_fill(~keep, -torch.inf).softmax(-1)
            before = probabilities.cumsum(-1) - probabilities
            keep &= before < params.top_p
            keep[0] = True
        return torch.empty_like(logits).scatter_(0, order, ordered.masked_fill(~keep, -torch.inf))

    def _logprob(self, logits: Tensor, token: int) -> TokenLogprob | None:
        if self.params.logprobs is None:
            return None
        logprobs = logits.log_softmax(-1)
        values, ids = logprobs.topk(min(self.params.logprobs, len(logprobs)))
        return TokenLogprob(token, float(logprobs[token]), dict(zip(ids.tolist(), values.tolist(), strict=True)))
