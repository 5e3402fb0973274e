"""What sampling parameters mean, in plain Python floats: which tokens stay, and with what probability."""

from __future__ import annotations

import math
from collections.abc import Sequence


def log_softmax(logits: Sequence[float]) -> list[float]:
    """Natural log-probabilities."""
    largest = max(logits)
    total = math.fsum(math.exp(x - largest) for x in logits)
    return [x - largest - math.log(total) for x in logits]


def penalised(
    logits: Sequence[float],
    prompt: Sequence[int],
    output: Sequence[int],
    *,
    repetition: float = 1.0,
    presence: float = 0.0,
    frequency: float = 0.0,
) -> list[float]:
    """vLLM's definition: repetition counts prompt and output, presence and frequency the output alone."""
    out = []
    for token, logit in enumerate(logits):
        if token in prompt or token in output:
            logit = logit / repetition if logit > 0 else logit * repetition
        logit -= frequency * list(output).count(token)
        logit -= presence * (token in output)
        out.append(logit)
    return out


def distribution(
    logits: Sequence[float], *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> dict[int, float]:
    """Token -> probability of those that stay: temperature, then min_p, top_k and top_p, each on what is left.

    Of tokens with the same logit, the one with the lower id ranks first.
    """
    scaled = [x / temperature for x in logits]
    kept = list(range(len(scaled)))
    probabilities = _shares(scaled, kept)
    kept = [t for t in kept if probabilities[t] >= min_p * max(probabilities.values())]
    kept.sort(key=lambda t: (-scaled[t], t))
    if top_k > 0:
        kept = kept[:top_k]
    probabilities = _shares(scaled, kept)
    chosen: list[int] = []
    so_far = 0.0
    for token in kept:
        if chosen and so_far >= top_p:
            break
        chosen.append(token)
        so_far += probabilities[token]
    return _shares(scaled, chosen)


def _shares(logits: Sequence[float], tokens: Sequence[int]) -> dict[int, float]:
    largest = max(logits[t] for t in tokens)
    powers = {t: math.exp(logits[t] - largest) for t in tokens}
    total = math.fsum(powers.values())
    return {t: p / total for t, p in powers.items()}
