"""A request's pictures to the features that a model splices in, each picture computed once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from .errors import InputError
from .models.language_model import LanguageModel

KEPT_BYTES = 512 * 1024**2  # of features: 39 pictures of GLM-4V-9B


class PictureEncoder:
    """The model's tower behind a cache, so that the pictures of a conversation are not computed again every turn.

    A picture is known by its pixels, whatever it was loaded from. The least recently used are forgotten first.
    """

    def __init__(self, model: LanguageModel, name: str) -> None:
        self._model, self._name = model, name
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()

    def pixels(self, images: Any, n_places: int, where: str) -> Tensor | None:
        """Pictures in any form `images.as_pixels` takes -> normalised [N, 3, S, S]; None for none at all.

        Raises:
            InputError: one that cannot be read, pictures for a model that cannot see, or not as many as places; none is
                decoded then.
        """
        if images is None or (isinstance(images, (list, tuple)) and not images):
            if n_places:
                from .images import check_number

                check_number(0, n_places)
            return None
        wanted = self._model.pictures
        if wanted is None:
            raise InputError(f"{self._name} cannot see: it is a text model; leave the pictures out, or load GLM-4V-9B")
        from .images import as_pixels  # only here: a text model never needs Pillow

        return as_pixels(images, wanted, where, n_places)

    @torch.inference_mode()
    def features(self, pixels: Tensor | None) -> Tensor | None:
        """Normalised pictures [N, 3, S, S] -> features [N, P, H]; those seen before come from memory, the others are
        computed together."""
        if pixels is None:
            return None
        keys = [hashlib.sha256(picture.contiguous().cpu().numpy().tobytes()).digest() for picture in pixels]
        unseen = {key: index for index, key in enumerate(keys) if key not in self._known}
        if unseen:
            computed = self._model.see(pixels[list(unseen.values())])
            # Copies: a view would keep the features of all the others alive when they are forgotten.
            self._known.update((key, row.clone()) for key, row in zip(unseen, computed, strict=True))
        features = torch.stack([self._known[key] for key in keys])
        self._forget(keys)
        return features

    def _forget(self, used: list[bytes]) -> None:
        for key in used:
            self._known.move_to_end(key)
        held = sum(features.numel() * features.element_size() for features in self._known.values())
        while held > KEPT_BYTES and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            held -= oldest.numel() * oldest.element_size()
