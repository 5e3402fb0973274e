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
GRID = 12  # patches a side
# Shape, colour and letter that lie there; size, where a shape has its middle; background; row; column. 0 for nothing.
CLASSES = (
    len(SHAPES) + 1,
    len(COLOURS) + 1,
    len(CHARACTERS) + 1,
    len(_SIZES) + 2,
    len(COLOURS) + 1,
    GRID + 1,
    GRID + 1,
)
NOTHING_WEIGHT = 0.1  # most patches show nothing


def targets(scene: Scene) -> Tensor:
    """What each patch shows, [7, GRID, GRID], as in CLASSES.

    Row and column are taught because the language model gives all patches one position: where a feature comes from is
    only in the feature.
    """
    out = torch.zeros(len(CLASSES), GRID, GRID, dtype=torch.uint8)
    out[4] = _COLOURS[scene.background]
    out[5], out[6] = torch.meshgrid(*[torch.arange(1, GRID + 1, dtype=torch.uint8)] * 2, indexing="ij")
    short = min(scene.width, scene.height)
    for thing in scene.things:
        reach = 0.4 * thing.size * short
        rows, columns = _patches(thing.y, reach / scene.height), _patches(thing.x, reach / scene.width)
        out[0, rows, columns], out[1, rows, columns] = _SHAPES[thing.shape], _COLOURS[thing.colour]
        out[3, int(thing.y * GRID), int(thing.x * GRID)] = 1 + sum(thing.size > bound for bound in _SIZES)
    if scene.word is not None:
        reach = 0.4 * scene.word.width / len(scene.word.text)
        for letter, (x, y) in zip(scene.word.text, scene.word.centres(), strict=True):
            rows, columns = _patches(y, 0.4 * scene.word.height), _patches(x, reach)
            out[2, rows, columns], out[1, rows, columns] = _CHARACTERS[letter], _COLOURS[scene.word.colour]
    return out


def _patches(middle: float, reach: float) -> slice:
    """The patches whose middles lie within reach, at least the one in the middle."""
    here = min(GRID - 1, max(0, int(middle * GRID)))
    first, last = round((middle - reach) * GRID), round((middle + reach) * GRID) - 1
    return slice(max(0, min(first, here)), max(last, here) + 1)


class Guide(nn.Module):
    """A linear reading of every slot: the four patches that were joined in it."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = nn.Linear(size, 4 * sum(CLASSES))
        nn.init.normal_(self.heads.weight, std=size**-0.5, generator=generator)
        nn.init.zeros_(self.heads.bias)

    def loss(self, features: Tensor, wanted: Tensor) -> Tensor:
        """Features [N, P, H] of the patches, without begin and end, scaled to about 1; targets [N, 7, grid, grid]."""
        side = wanted.shape[-1] // 2
        read = self.heads(features).unflatten(1, (side, side)).unflatten(-1, (2, 2, -1))  # [N, side, side, 2, 2, C]
        read = read.permute(0, 1, 3, 2, 4, 5).flatten(0, 4).float()  # in the order of the targets
        total: Tensor = read.new_zeros(())
        for part, logits in enumerate(read.split(CLASSES, dim=-1)):
            losses = F.cross_entropy(logits, wanted[:, part].flatten().long(), reduction="none")
            weights = (wanted[:, part].flatten() > 0).float().clamp(min=NOTHING_WEIGHT)
            total = total + (losses * weights).sum() / weights.sum()
        return total
