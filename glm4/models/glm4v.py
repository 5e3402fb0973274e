"""GLM-4V-9B: the GLM-4 decoder with an EVA2-CLIP tower whose features take the place of three of its tokens.

In a prompt a picture is written begin-of-image, a placeholder, end-of-image. The embeddings of these three are not
used: the tower's features, 1 + n_patches + 1 of them, stand in their slots. All patches share one position, the
placeholder's, so that the text behind a picture is numbered as if the picture were a single token.

The weights were trained on one picture a conversation, in its first message; the original refuses a second one. Here
each picture stands at its own place, whatever their number, and what the model makes of several is its own affair.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .eva_clip import EVACLIP, EVAConfig
from .glm import GLM, GLMConfig
from .language_model import PictureFormat

# Of CLIP's training pictures; the original has them in its tokenizer's code, not in config.json.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

IDS_OF_A_PICTURE = 3  # begin, placeholder, end


@dataclass(frozen=True)
class GLM4VConfig(GLMConfig):
    """The decoder's facts and the tower's."""

    vision: EVAConfig
    boi_token_id: int
    eoi_token_id: int


class GLM4V(GLM):
    """Token ids and pictures to logits. The tower may be in another dtype than the decoder, and on another device."""

    config: GLM4VConfig

    def __init__(self, config: GLM4VConfig) -> None:
        super().__init__(config)
        self.vision = EVACLIP(config.vision)

    @property
    def pictures(self) -> PictureFormat:
        """What `see` wants."""
        return PictureFormat(self.config.vision.image_size, MEAN, STD)

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [N, 3, S, S] -> features [N, 1 + n_patches + 1, H], in the tower's dtype.

        One picture at a time: the activations of one, at full size, are hundreds of megabytes.

        Raises:
            ValueError: pictures of another shape.
        """
        size = self.config.vision.image_size
        if tuple(pixels.shape[1:]) != (3, size, size):
            raise ValueError(f"pictures have shape {list(pixels.shape)}, the tower takes [N, 3, {size}, {size}]")
        weight = self.vision.patch_embedding.proj.weight
        pixels = pixels.to(weight.dtype if weight.is_meta else weight)  # meta: weights offloaded, their hook moves it
        if not len(pixels):
            return pixels.new_empty(0, self.config.vision.n_patches + 2, self.config.hidden_size)
        return torch.cat([self.vision(picture[None]) for picture in pixels])

    def embed(self, ids: Tensor, features: Tensor | None = None) -> Tensor:
        """Ids [B, T] and the features [N, P, H] of the pictures in them, row by row -> hidden [B, slots, H].

        Every row must hold as many pictures as the others; rows that do not are embedded one by one and joined by
        `batch.pad_prompts`. A begin or end of image on its own, as the model may generate it, is an ordinary token
        where there are no features.

        Raises:
            ValueError: not as many pictures as places for them, or not as many in each row; a malformed place; features
                of another shape than the tower's.
        """
        hidden = super().embed(ids)
        if features is None:
            # Fewer than three ids, as when decoding: nothing to look for, and no waiting for the device to say so.
            if ids.shape[1] >= IDS_OF_A_PICTURE and self._holds_a_place(ids):
                raise ValueError("the prompt has places for pictures, and no pictures are given")
            return hidden
        places = [self._places(row) for row in ids]
        counts = [len(row) for row in places]
        if sum(counts) != features.shape[0]:
            raise ValueError(f"{features.shape[0]} pictures are given, the prompt has places for {sum(counts)}")
        if len(set(counts)) > 1:
            raise ValueError(f"the rows of one batch hold {counts} pictures: embed them alone and pad the results")
        expected = (self.config.vision.n_patches + 2, self.config.hidden_size)
        if tuple(features.shape[1:]) != expected:
            raise ValueError(f"features have shape {list(features.shape)}, expected {[sum(counts), *expected]}")
        features = features.to(hidden)  # the tower's dtype and device need not be the decoder's
        per_row = features.reshape(ids.shape[0], counts[0], *expected)
        return torch.stack([_splice(*row) for row in zip(hidden, places, per_row, strict=True)])

    def positions(self, ids: Tensor, n_new: int = 0) -> Tensor:
        """0, 1, 2, ... with the placeholder's repeated for every patch, then `n_new` more: [slots + n_new].

        Raises:
            ValueError: a malformed place.
        """
        repeats = torch.ones_like(ids)
        repeats[self._places(ids)] = self.config.vision.n_patches
        counted = torch.arange(ids.shape[0] + n_new, device=ids.device)
        return torch.cat((counted[: ids.shape[0]].repeat_interleave(repeats), counted[ids.shape[0] :]))

    def n_pictures(self, ids: Tensor) -> int:
        """Places for pictures in one prompt [T].

        Raises:
            ValueError: a malformed place.
        """
        return len(self._places(ids))

    def _holds_a_place(self, ids: Tensor) -> bool:
        begins, ends = ids == self.config.boi_token_id, ids == self.config.eoi_token_id
        return bool((begins[:, :-2] & ends[:, 2:]).any())

    def _places(self, ids: Tensor) -> list[int]:
        """Indices of the placeholders in one prompt [T]. Like the original, it does not ask which token they are."""
        begins = (ids == self.config.boi_token_id).nonzero().flatten().tolist()
        ends = (ids == self.config.eoi_token_id).nonzero().flatten().tolist()
        well_formed = ends == [begin + 2 for begin in begins] and not {begin + 1 for begin in begins} & {*begins, *ends}
        if not well_formed:
            boi, eoi = self.config.boi_token_id, self.config.eoi_token_id
            raise ValueError(
                f"a picture's place is three ids: begin of image ({boi}), a placeholder, end of image ({eoi}); "
                f"the prompt has its begins at {_some(begins)} and its ends at {_some(ends)}"
            )
        return [begin + 1 for begin in begins]


def _splice(hidden: Tensor, places: list[int], features: Tensor) -> Tensor:
    """One prompt's [T, H], the three slots around each place replaced by its picture's of [pictures, P, H]."""
    pieces, start = [], 0
    for place, picture in zip(places, features, strict=True):
        pieces += [hidden[start : place - 1], picture]
        start = place + 2
    return torch.cat((*pieces, hidden[start:]))


def _some(indices: list[int]) -> str:
    return str(indices) if len(indices) <= 10 else f"[{', '.join(map(str, indices[:10]))}, ...]"
