"""Who asks what about which picture, and how things are called then."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tools.default_model.sample import Language, fill, vary

from . import wording
from .pictures import Scene, Thing

Exchange = tuple[str, str]  # what the user says, and the answer


@dataclass(frozen=True)
class Asking:
    """Who asks what about which picture."""

    rng: random.Random
    language: Language
    scene: Scene
    which: int | None = None  # 0 for "the first picture"; None where there is no doubt

    @property
    def zh(self) -> bool:
        return self.language == "zh"

    def colour(self, name: str) -> str:
        return wording.COLOURS_ZH[name] if self.zh else name

    def shape(self, name: str) -> str:
        return wording.SHAPES_ZH[name] if self.zh else name

    def named(self, thing: Thing) -> str:
        """ "red circle"."""
        return self.colour(thing.colour) + ("" if self.zh else " ") + self.shape(thing.shape)

    def one(self, name: str) -> str:
        """ "a red circle"."""
        if self.zh:
            return name
        return ("an " if name[0] in "aeiou" else "a ") + name

    def ask(self, kind: str, **values: str) -> str:
        """One of the wordings of a kind of question."""
        rng, language = self.rng, self.language
        if self.which is None:
            inside, picture = rng.choice(wording.IN_PICTURE[language]), rng.choice(wording.PICTURE[language])
        elif self.zh:
            picture = wording.ORDINALS["zh"][self.which] + rng.choice(("图", "图片"))
            inside = picture + rng.choice(("里", "中"))
        else:
            picture = f"the {wording.ORDINALS['en'][self.which]} {rng.choice(('picture', 'image'))}"
            inside = " in " + picture
        template = rng.choice(wording.QUESTIONS[kind][language])
        asked = fill(vary(rng, template), **{**values, "in": inside, "pic": picture})
        return asked.removeprefix("的")  # "图里的…", where no picture is named


def only(things: Sequence[Thing], of: Callable[[Thing], object]) -> list[Thing]:
    """Those of which there is no second one by `of`."""
    counts = Counter(of(thing) for thing in things)
    return [thing for thing in things if counts[of(thing)] == 1]


def kind_of(thing: Thing) -> tuple[str, str]:
    return thing.colour, thing.shape
