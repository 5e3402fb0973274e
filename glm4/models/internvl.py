"""InternVL-Chat-V1-1: InternViT, a pixel shuffle and two linear layers in front of a LLaMA-2 decoder.

In a prompt a picture stands as P equal ids, `<IMG_CONTEXT>` P times, between `<img>` and `</img>`; the picture's P
features take the places of their embeddings, so that a prompt is no longer with its pictures than without. P is 256 for
448 pixels a side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from .intern_vit import InternViT, InternViTConfig
from .language_model import PictureFormat
from .llama import Llama, LlamaConfig

# ImageNet's, not CLIP's, although the checkpoint's preprocessor_config.json names CLIP's processor.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

SEEN_AT_ONCE = 8  # pictures that go through the tower together: bounds its memory, whatever the length of a video


@dataclass(frozen=True)
class InternVLConfig(LlamaConfig):
    """The decoder's facts and, beside them, the tower's and what joins the two."""

    vision: InternViTConfig
    merged: int  # k: patches a side that the pixel shuffle makes one token of
    shuffle: Literal["v1", "v2"]
    img_context_id: int | None  # the id of <IMG_CONTEXT>: the tokenizer knows it. None: looked for in each prompt

    @property
    def tokens_per_picture(self) -> int:
        """P."""
        return (self.vision.grid // self.merged) ** 2


def pixel_shuffle(patches: Tensor, merged: int, version: Literal["v1", "v2"]) -> Tensor:
    """Put the channels of k x k neighbouring patches side by side.

    Args:
        patches: [N, g*g, C], row by row.
        merged: k.
        version: "v2" goes through the squares row by row; "v1", which the weights of V1-1 were trained with, column by
            column: its token t holds the square in row t % (g/k) and column t // (g/k). In both, the patches of one
            square follow each other row by row.

    Returns:
        [N, (g/k)^2, k*k*C].
    """
    grid = int(patches.shape[1] ** 0.5)
    squares = patches.unflatten(1, (grid // merged, merged, grid // merged, merged))  # [N, row, k, column, k, C]
    order = (0, 3, 1, 2, 4, 5) if version == "v1" else (0, 1, 3, 2, 4, 5)
    out: Tensor = squares.permute(order).flatten(3).flatten(1, 2)
    return out


class InternVL(Llama):
    """The decoder with eyes; see `LanguageModel` for the methods' contracts."""

    config: InternVLConfig

    def __init__(self, config: InternVLConfig) -> None:
        super().__init__(config)
        self.vision_model = InternViT(config.vision)
        shuffled = config.merged**2 * config.vision.hidden_size
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(shuffled),
            nn.Linear(shuffled, config.hidden_size),
            nn.GELU(),
            nn.Linear(config.hidden_size, config.hidden_size),
        )

    @property
    def pictures(self) -> PictureFormat:
        """What the tower wants."""
        return PictureFormat(self.config.vision.image_size, MEAN, STD)

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [N, 3, S, S] -> their features [N, P, H].

        Raises:
            ValueError: pictures of another shape.
        """
        size = self.config.vision.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, size, size):
            raise ValueError(
                f"pictures of shape {list(pixels.shape)} are given, the tower takes [N, 3, {size}, {size}]"
            )
        weight = self.vision_model.patch_embedding.weight
        pixels = pixels.to(weight.dtype if weight.is_meta else weight)  # meta: weights offloaded, their hook moves it
        return torch.cat([self._project(self.vision_model(some)) for some in pixels.split(SEEN_AT_ONCE)])

    def _project(self, patches: Tensor) -> Tensor:
        """[N, g*g, C] -> [N, P, H]."""
        features: Tensor = self.mlp1(pixel_shuffle(patches, self.config.merged, self.config.shuffle))
        return features

    def embed(self, ids: Tensor, features: Tensor | None = None) -> Tensor:
        """Ids [B, T] and the features [N, P, H] of all rows' pictures, row by row -> hidden [B, T, H].

        Raises:
            ValueError: not as many pictures as places for them, or features of another shape.
        """
        hidden: Tensor = self.embed_tokens(ids)
        per_picture = self.config.tokens_per_picture
        if features is None and ids.shape[1] < max(2, per_picture):
            return hidden  # no room for a picture, or the next token of a reply, which stands for itself
        n_places = sum(self.n_pictures(row) for row in ids)
        n_pictures = 0 if features is None else features.shape[0]
        if n_places != n_pictures:
            raise ValueError(f"the prompt has places for {n_places} pictures, {n_pictures} are given")
        if features is None or not n_pictures:
            return hidden
        expected = (per_picture, self.config.hidden_size)
        if features.shape[1:] != expected:
            raise ValueError(f"a picture's features have shape {list(features.shape[1:])}, expected {list(expected)}")
        at = torch.stack([row == self._context_id(row) for row in ids])  # [B, T]
        return hidden.masked_scatter(at[:, :, None], features.to(hidden.device, hidden.dtype))

    def n_pictures(self, ids: Tensor) -> int:
        """Places for pictures in a prompt [T].

        Raises:
            ValueError: a place that is not as long as a whole number of pictures.
        """
        context_id = self._context_id(ids)
        per_picture = self.config.tokens_per_picture
        values, lengths = torch.unique_consecutive(ids, return_counts=True)
        n_pictures = 0
        for length in lengths[values == context_id].tolist():
            if length % per_picture:
                raise ValueError(
                    f"the id {context_id} (<IMG_CONTEXT>) stands {length} times in a row; a picture takes {per_picture}"
                )
            n_pictures += length // per_picture
        return n_pictures

    def _context_id(self, ids: Tensor) -> int:
        """The id that stands for pictures in a prompt [T]; -1, which is no id, where none does.

        A checkpoint without its tokenizer does not say which id that is. It is then the one that stands P times in a
        row, 256 times in practice, which no text does.

        Raises:
            ValueError: the checkpoint does not say, and the prompt leaves it open.
        """
        if self.config.img_context_id is not None:
            return self.config.img_context_id
        values, lengths = torch.unique_consecutive(ids, return_counts=True)
        long = values[lengths >= self.config.tokens_per_picture].unique().tolist()
        if len(long) > 1:
            raise ValueError(
                f"the ids {long} each stand {self.config.tokens_per_picture} times in a row or more, and without its "
                "tokenizer the checkpoint does not say which of them is <IMG_CONTEXT>"
            )
        return int(long[0]) if long else -1
