"""What the engine and the library ask of a family's model: the one seam between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .cache import KVCache


@dataclass(frozen=True)
class PictureFormat:
    """What a vision tower wants of a picture: RGB, `size` pixels a side, (value / 255 - mean) / std."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def input_device(model: Any) -> torch.device:
    """Where a model takes its ids, and gives its logits.

    A model that is spread over devices says so in its hook (accelerate's), or its embedding does: the weights may lie
    elsewhere, or nowhere as long as they are not used.
    """
    for module in (model, model.embed_tokens):
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    weights: torch.device = model.embed_tokens.weight.device
    return weights


class LanguageModel(Protocol):
    """Token ids, and perhaps pictures, to logits in three steps: `embed`, `forward`, `logits`.

    A *slot* is one column of the hidden states and of the cache. Text has a slot a token; a picture has many, whatever
    the number of ids that stand for it in the prompt. A slot's *position* is what rotates its queries and keys.
    """

    config: Any
    """A frozen dataclass, at least `vocab_size`, `hidden_size`, `n_layers` and `max_positions`."""
    takes_chunks: bool
    """Whether a prompt may be computed piece by piece: not where its tokens see each other in both directions."""
    pictures: PictureFormat | None
    """None where the model cannot see."""

    def embed(self, ids: Tensor, features: Tensor | None = None) -> Tensor:
        """Ids [B, T] and the features [N, P, H] of the pictures they hold, in order -> hidden [B, slots, H].

        Raises:
            ValueError: not as many pictures as places for them.
        """
        ...

    def positions(self, ids: Tensor, n_new: int = 0) -> Tensor:
        """Positions of a prompt's slots and of `n_new` tokens after it: [slots + n_new], or [2, slots + n_new] where
        the family counts in two rows.

        Args:
            ids: one prompt, [T].

        Raises:
            ValueError: the prompt lacks what the family's prompts must hold.
        """
        ...

    def forward(
        self, hidden: Tensor, positions: Tensor, cache: KVCache | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Hidden [B, T, H] at positions [B, T] or [B, 2, T] -> final hidden states [B, T, H], normalised."""
        ...

    def __call__(
        self, hidden: Tensor, positions: Tensor, cache: KVCache | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """`forward`."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Final hidden states [..., H] -> float32 logits [..., V]."""
        ...

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache for `batch` sequences of up to `capacity` slots."""
        ...

    def n_pictures(self, ids: Tensor) -> int:
        """Places for pictures in one prompt [T].

        Raises:
            ValueError: a place that is not as the family writes it.
        """
        ...

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [N, 3, S, S] -> their features [N, P, H], in the tower's dtype and place."""
        ...
