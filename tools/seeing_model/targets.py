"""What the tower is also taught directly: which shape, colour and letter has its middle in each patch.

Sentences say this too, but late and thinly; with it the tower learns to see in a fraction of the time. The heads that
read it off the features belong to the training alone and are not part of the model.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .pictures import CHARACTERS, COLOURS, SHAPES, Scene

_SHAPES, _COLOURS = {name: i + 1 for i, name in enumerate(SHAPES)}, {name: i + 1 for i, name in enumerate(COLOURS)}
_CHARACTERS = {name: i + 1 for i, name in enumerate(CHARACTERS)}
_SIZES = (0.2, 0.24, 0.29, 0.36)  # bounds between five classes of size
CLASSES = (len(SHAPES) + 1, len(COLOURS) + 1, len(CHARACTERS) + 1, len(_SIZES) + 2, len(COLOURS) + 1)
NOTHING_WEIGHT = 0.05  # most patches show nothing


def targets(scene: Scene, grid: int) -> Tensor:
    """[5, grid, grid]: shape, colour, letter, size and the background's colour; 0 for nothing."""
    out = torch.zeros(len(CLASSES), grid, grid, dtype=torch.uint8)
    out[4] = _COLOURS[scene.background]
    for thing in scene.things:
        row, column = int(thing.y * grid), int(thing.x * grid)
        size = 1 + sum(thing.size > bound for bound in _SIZES)
        out[:2, row, column] = torch.tensor((_SHAPES[thing.shape], _COLOURS[thing.colour]), dtype=torch.uint8)
        out[3, row, column] = size
    if scene.word is not None:
        for letter, (x, y) in zip(scene.word.text, scene.word.centres(), strict=True):
            row, column = int(y * grid), min(grid - 1, max(0, int(x * grid)))
            out[2, row, column] = _CHARACTERS[letter]
            out[1, row, column] = _COLOURS[scene.word.colour]
    return out


class Guide(nn.Module):
    """A linear reading of every slot: the four patches that were joined in it, five classes each."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = nn.Linear(size, 4 * sum(CLASSES))
        nn.init.normal_(self.heads.weight, std=size**-0.5, generator=generator)
        nn.init.zeros_(self.heads.bias)

    def loss(self, features: Tensor, wanted: Tensor) -> Tensor:
        """Features [N, P, H] of the patches, without begin and end, scaled to about 1; targets [N, 5, grid, grid]."""
        side = wanted.shape[-1] // 2
        read = self.heads(features).unflatten(1, (side, side)).unflatten(-1, (2, 2, -1))  # [N, side, side, 2, 2, C]
        read = read.permute(0, 1, 3, 2, 4, 5).flatten(0, 4).float()  # in the order of the targets
        total: Tensor = read.new_zeros(())
        for part, logits in enumerate(read.split(CLASSES, dim=-1)):
            losses = F.cross_entropy(logits, wanted[:, part].flatten().long(), reduction="none")
            weights = (wanted[:, part].flatten() > 0).float().clamp(min=NOTHING_WEIGHT)
            total = total + (losses * weights).sum() / weights.sum()
        return total
