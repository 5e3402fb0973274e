"""Questions about scenes, and their one right answer, computed from what was drawn.

Each kind is a function that asks about one scene (`ASKERS`) or several (`ASKERS_OF_SEVERAL`); it returns None where the
scene gives nothing to ask, or an answer that one could argue about: places near the border between two thirds,
sizes too alike, shapes that are not the only one of their name.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

from tools.default_model.sample import Language, fill, vary

from . import wording
from .asking import Asking, Exchange, kind_of, only
from .pictures import COLOURS, SHAPES, Scene, Thing


def ask_colour(a: Asking) -> Exchange | None:
    if a.rng.random() < 0.12:  # of something that is not there
        absent = sorted(set(SHAPES) - {t.shape for t in a.scene.things})
        if not absent:
            return None
        name = a.shape(a.rng.choice(absent))
        return a.ask("colour", s=name), _none(a, name)
    unique = only(a.scene.things, lambda t: t.shape)
    if not unique:
        return None
    thing = a.rng.choice(unique)
    return a.ask("colour", s=a.shape(thing.shape)), _is_coloured(a, a.shape(thing.shape), thing.colour)


def _is_coloured(a: Asking, name: str, colour: str) -> str:
    return f"{name}是{a.colour(colour)}的。" if a.zh else f"The {name} is {colour}."


def _none(a: Asking, name: str) -> str:
    return f"没有{name}。" if a.zh else f"There is no {name}."


def ask_shape(a: Asking) -> Exchange | None:
    unique = only(a.scene.things, lambda t: t.colour)
    if not unique:
        return None
    thing = a.rng.choice(unique)
    return a.ask("shape", c=a.colour(thing.colour)), _is_shaped(a, thing)


def _is_shaped(a: Asking, thing: Thing) -> str:
    if a.zh:
        return f"{a.colour(thing.colour)}的是{a.shape(thing.shape)}。"
    return f"The {thing.colour} shape is a {thing.shape}."


def _there_are(a: Asking, n: int, name: str) -> str:
    if a.zh:
        return f"有{n}个{name}。" if n else f"没有{name}。"
    if n < 2:
        return f"There is 1 {name}." if n else f"There are no {wording.plural(name)}."
    return f"There are {n} {wording.plural(name)}."


def ask_count(a: Asking) -> Exchange | None:
    if not a.scene.things and a.rng.random() < 0.5:
        return None
    return a.ask("count"), _there_are(a, len(a.scene.things), "形状" if a.zh else "shape")


def ask_count_of(a: Asking) -> Exchange | None:
    things = a.scene.things
    if len(things) < 2 and a.rng.random() < 0.7:
        return None
    if a.rng.random() < 0.5:
        pool = [t.shape for t in things] if things and a.rng.random() < 0.85 else SHAPES
        shape = a.rng.choice(pool)
        name = a.shape(shape)
        return a.ask("count_shape", s=name, ss=wording.plural(name)), _there_are(
            a, sum(t.shape == shape for t in things), name
        )
    pool = [t.colour for t in things] if things and a.rng.random() < 0.85 else list(COLOURS)
    colour = a.rng.choice(pool)
    name = f"{a.colour(colour)}形状" if a.zh else f"{colour} shape"
    return a.ask("count_colour", c=a.colour(colour)), _there_are(a, sum(t.colour == colour for t in things), name)


def _place(a: Asking, thing: Thing) -> str | None:
    if thing.cell is None:
        return None
    where = wording.CELLS[a.language][thing.cell]
    return f"它在{where}。" if a.zh else f"It is {where}."


def _short_name(a: Asking, thing: Thing) -> str:
    """The shape alone where that says enough."""
    if a.rng.random() < 0.4 and sum(t.shape == thing.shape for t in a.scene.things) == 1:
        return a.shape(thing.shape)
    return a.named(thing)


def ask_position(a: Asking) -> Exchange | None:
    known = [t for t in only(a.scene.things, kind_of) if t.cell is not None]
    if not known:
        return None
    thing = a.rng.choice(known)
    place = _place(a, thing)
    return None if place is None else (a.ask("position", t=_short_name(a, thing)), place)


def ask_what_at(a: Asking) -> Exchange | None:
    if any(t.cell is None for t in a.scene.things):
        return None
    alone = only(a.scene.things, lambda t: t.cell)
    if not alone or a.scene.word is not None:
        return None
    thing = a.rng.choice(alone)
    if thing.cell is None:
        return None
    name = a.one(a.named(thing))
    return a.ask("what_at", p=wording.CELLS[a.language][thing.cell]), name[0].upper() + name[1:] + (
        "。" if a.zh else "."
    )


def _pair(a: Asking) -> tuple[Thing, Thing] | None:
    unique = only(a.scene.things, kind_of)
    if len(unique) < 2:
        return None
    one, other = a.rng.sample(unique, 2)
    return one, other


def ask_side(a: Asking) -> Exchange | None:
    """Left or right, above or below; only where the two are well apart that way."""
    pair = _pair(a)
    if pair is None:
        return None
    t, u = pair
    names = {"t": _short_name(a, t), "u": _short_name(a, u)}
    if a.rng.random() < 0.5:
        if abs(t.x - u.x) < 0.12:
            return None
        left = t.x < u.x
        if a.rng.random() < 0.25:
            first = a.named(t if left else u)
            return a.ask("further_left", **names), f"{first}更靠左。" if a.zh else f"The {first} is further left."
        kind = a.rng.choice(("side", "side_right"))
        where = ("左边" if a.zh else "on the left") if left else ("右边" if a.zh else "on the right")
        yes = left == (kind == "side")
    else:
        if abs(t.y - u.y) < 0.12:
            return None
        above = t.y < u.y
        kind = a.rng.choice(("above", "below"))
        where = ("上面" if a.zh else "above") if above else ("下面" if a.zh else "below")
        yes = above == (kind == "above")
    if a.zh:
        return a.ask(kind, **names), f"{'是的' if yes else '不是'}，它在{where}。"
    return a.ask(kind, **names), f"{'Yes' if yes else 'No'}, it is {where}."


def ask_larger(a: Asking) -> Exchange | None:
    if len(a.scene.things) > 1 and a.rng.random() < 0.3:
        second, first = sorted(a.scene.things, key=lambda t: t.size)[-2:]
        if first.size < 1.25 * second.size or first not in only(a.scene.things, kind_of):
            return None
        return a.ask("largest"), _is_most(a, first, "the largest", "最大")
    pair = _pair(a)
    if pair is None:
        return None
    t, u = pair
    if max(t.size, u.size) < 1.25 * min(t.size, u.size):
        return None
    asked = a.ask("larger", t=_short_name(a, t), u=_short_name(a, u))
    return asked, _is_most(a, t if t.size > u.size else u, "larger", "更大")


def _is_most(a: Asking, thing: Thing, english: str, chinese: str) -> str:
    return f"{a.named(thing)}{chinese}。" if a.zh else f"The {a.named(thing)} is {english}."


def ask_exists(a: Asking) -> Exchange | None:
    """Half yes, half no; a third of the things that are not there differ from one that is in colour alone, a third in
    shape alone."""
    rng, things = a.rng, a.scene.things
    shown = {kind_of(t) for t in things}
    if rng.random() < 0.5:
        if not things:
            return None
        kind = rng.choice(sorted(shown))
    else:
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        draw = rng.random()
        if things and draw < 0.67:
            near = rng.choice(things)
            colour, shape = (near.colour, shape) if draw < 0.33 else (colour, near.shape)
        kind = (colour, shape)
    with_colour = rng.random() < 0.75
    name = a.colour(kind[0]) + ("" if a.zh else " ") + a.shape(kind[1]) if with_colour else a.shape(kind[1])
    yes = kind in shown if with_colour else kind[1] in {t.shape for t in things}
    thing = f"一个{name}" if a.zh and rng.random() < 0.3 else a.one(name)
    if a.zh:
        return a.ask("exists", a=thing), f"有，图里有{name}。" if yes else f"没有，图里没有{name}。"
    return a.ask("exists", a=thing), f"Yes, there is {a.one(name)}." if yes else f"No, there is no {name}."


def ask_background(a: Asking) -> Exchange | None:
    name = "背景" if a.zh else "background"
    return a.ask("background"), _is_coloured(a, name, a.scene.background)


def ask_read(a: Asking) -> Exchange | None:
    if a.scene.word is None:
        if a.rng.random() < 0.85:
            return None
        return a.ask("read"), "图里没有字。" if a.zh else "There is no word."
    return a.ask("read"), f"写着{a.scene.word.text}。" if a.zh else f"It says {a.scene.word.text}."


def ask_word_colour(a: Asking) -> Exchange | None:
    if a.scene.word is None:
        return None
    return a.ask("word_colour"), _is_coloured(a, "字" if a.zh else "word", a.scene.word.colour)


def ask_describe(a: Asking) -> Exchange | None:
    """The word first, then the shapes from left to right, which must be clear."""
    things = a.scene.things
    if any(right.x - left.x < 0.03 for left, right in pairwise(things)):
        return None
    parts = [a.one(a.named(thing)) for thing in things]
    if a.scene.word is not None:
        parts.insert(0, f"文字{a.scene.word.text}" if a.zh else f"the word {a.scene.word.text}")
    listed = wording.join(parts, a.language)
    listed = listed[0].upper() + listed[1:]
    if a.zh:
        return a.ask("describe"), f"{a.colour(a.scene.background)}背景上有{listed}。"
    return a.ask("describe"), f"{listed} on {a.one(a.scene.background)} background."


ASKERS: dict[str, Callable[[Asking], Exchange | None]] = {
    "colour": ask_colour,
    "shape": ask_shape,
    "count": ask_count,
    "count_of": ask_count_of,
    "position": ask_position,
    "what_at": ask_what_at,
    "side": ask_side,
    "larger": ask_larger,
    "exists": ask_exists,
    "background": ask_background,
    "read": ask_read,
    "word_colour": ask_word_colour,
    "describe": ask_describe,
}


def ask_which(rng: random.Random, language: Language, scenes: Sequence[Scene]) -> Exchange | None:
    """Which of several pictures it is."""
    a = Asking(rng, language, scenes[0])

    def asked(kind: str, **values: str) -> str:
        return fill(vary(rng, rng.choice(wording.QUESTIONS[kind][language])), **values)

    def answer(index: int) -> str:
        ordinal = wording.ORDINALS[language][index]
        return f"{ordinal}图。" if a.zh else f"The {ordinal} picture."

    def where(test: Callable[[Scene], bool]) -> int | None:
        found = [index for index, scene in enumerate(scenes) if test(scene)]
        return found[0] if len(found) == 1 else None

    kind = rng.choice(
        ("which_shows", "which_shows", "which_says", "which_background", "which_more", "how_many_pictures")
    )
    if kind == "how_many_pictures":
        n = len(scenes)
        return asked(kind), f"有{n}张图。" if a.zh else f"There {'are' if n > 1 else 'is'} {n} picture{'s' * (n > 1)}."
    wanted = rng.choice(scenes)
    index: int | None = None
    values: dict[str, str] = {}
    if kind == "which_shows" and wanted.things:
        thing = rng.choice(wanted.things)
        index = where(lambda scene: any(kind_of(t) == kind_of(thing) for t in scene.things))
        values = {"a": a.one(a.named(thing))}
        if rng.random() < 0.4:
            index = where(lambda scene: any(t.shape == thing.shape for t in scene.things))
            values = {"a": a.one(a.shape(thing.shape))}
    elif kind == "which_says" and wanted.word is not None:
        text = wanted.word.text
        index = where(lambda scene: scene.word is not None and scene.word.text == text)
        values = {"w": text}
    elif kind == "which_background":
        index = where(lambda scene: scene.background == wanted.background)
        values = {"c": a.colour(wanted.background)}
    elif kind == "which_more":
        counts = [len(scene.things) for scene in scenes]
        index = counts.index(max(counts)) if counts.count(max(counts)) == 1 else None
    return None if index is None else (asked(kind, **values), answer(index))


def follow_up(a: Asking) -> list[Exchange] | None:
    """A question, and one that only makes sense after it."""
    rng, things = a.rng, a.scene.things

    def then(kind: str, **values: str) -> str:
        return fill(vary(rng, rng.choice(wording.FOLLOW_UPS[kind][a.language])), **values)

    kind = rng.choice(("and_the", "and_how_many", "its_colour", "its_place", "its_shape"))
    if kind == "and_how_many":
        one, other = rng.sample([t.shape for t in things] or list(SHAPES), 1)[0], rng.choice(SHAPES)
        if one == other:
            return None
        name, next_name = a.shape(one), a.shape(other)
        asked = a.ask("count_shape", s=name, ss=wording.plural(name))
        answer = _there_are(a, sum(t.shape == other for t in things), next_name)
        following = then(kind, s=next_name, ss=wording.plural(next_name)), answer
        return [(asked, _there_are(a, sum(t.shape == one for t in things), name)), following]
    by_shape, by_colour = only(things, lambda t: t.shape), only(things, lambda t: t.colour)
    if kind == "and_the":
        if len(by_shape) < 2:
            return None
        t, u = rng.sample(by_shape, 2)
        first = a.ask("colour", s=a.shape(t.shape)), _is_coloured(a, a.shape(t.shape), t.colour)
        return [first, (then(kind, s=a.shape(u.shape)), _is_coloured(a, a.shape(u.shape), u.colour))]
    pool = by_colour if kind == "its_shape" or (kind == "its_place" and rng.random() < 0.5) else by_shape
    placed = [t for t in pool if t.cell is not None]
    if not placed:
        return None
    t = rng.choice(placed)
    place = _place(a, t)
    if place is None:
        return None
    coloured = a.ask("colour", s=a.shape(t.shape)), _is_coloured(a, a.shape(t.shape), t.colour)
    shaped = a.ask("shape", c=a.colour(t.colour)), _is_shaped(a, t)
    if kind == "its_place":
        return [shaped if pool is by_colour else coloured, (then(kind), place)]
    if kind == "its_colour":
        return [(a.ask("position", t=a.shape(t.shape)), place), (then(kind), coloured[1])]
    one = f"{a.colour(t.colour)}的形状" if a.zh else f"{t.colour} shape"
    return [(a.ask("position", t=one), place), (then(kind), shaped[1])]


def without_picture(rng: random.Random, language: Language, scene: Scene) -> Exchange:
    """A question about a picture that was never sent."""
    a = Asking(rng, language, scene)
    while True:
        asked = rng.choice(list(ASKERS.values()))(a)
        if asked is not None:
            return asked[0], wording.NO_PICTURE[language]
