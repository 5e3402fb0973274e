"""The training mix and the held-out questions, all from seeds.

`conversation(rng)` is one conversation of the mix; `question(rng, kind, language)` ends where the model has to answer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tools.default_model import smalltalk
from tools.default_model.sample import Language, Message, Split, assistant, fill, vary

from . import wording
from .asking import Asking, Exchange
from .pictures import Scene, letters, paint, scene
from .questions import ASKERS, ask_describe, ask_which, follow_up, without_picture

WEIGHTS = {
    "colour": 2,
    "shape": 2,
    "count": 2,
    "count_of": 3,
    "position": 3,
    "what_at": 1.5,
    "side": 3,
    "larger": 2.5,
    "exists": 2.5,
    "background": 1,
    "read": 3,
    "word_colour": 0.7,
    "describe": 2,
}
KINDS = (*ASKERS, "several", "which", "later", "follow_up", "no_picture", "talk")


@dataclass
class Pictured:
    """A conversation, its pictures' scenes in order, and from `question` the answer that is expected next."""

    kind: str
    language: Language
    messages: list[Message] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    expected: str | None = None

    def show(self, question: str, *scenes: Scene) -> None:
        """The user sends pictures with a question."""
        self.scenes += scenes
        parts: list[Message] = [{"type": "image", "image": paint(one)} for one in scenes]
        content: object = [*parts, {"type": "text", "text": question}] if scenes else question
        self.messages.append({"role": "user", "content": content})

    def exchange(self, exchange: Exchange, *scenes: Scene) -> None:
        """A question, perhaps with pictures, and its answer."""
        self.show(exchange[0], *scenes)
        self.messages.append(assistant(exchange[1]))

    def cut(self) -> Pictured:
        """End before the last answer, which is then expected."""
        self.expected = str(self.messages.pop()["content"])
        return self


def conversation(rng: random.Random, pictures: int = 1, split: Split = "train", most: int = 6) -> Pictured:
    """One conversation of the mix.

    Args:
        pictures: how many it shows, 0 to 3.
        most: shapes a picture may show.
    """
    language: Language = rng.choice(("en", "zh"))
    if pictures == 0:
        return _text(rng, language, split, rng.randint(1, 4))
    if pictures == 1:
        return _one(rng, language, split, rng.randint(3, 6), most)
    if pictures == 2 and rng.random() < 0.4:
        return _later(rng, language, split, rng.randint(4, 7), most)
    return _several(rng, language, split, pictures, rng.randint(3, 6), most)


def _any(a: Asking, kinds: Sequence[str] = tuple(WEIGHTS)) -> Exchange:
    """Some question about a scene. There is always its background to ask about."""
    while True:
        kind = a.rng.choices(kinds, [WEIGHTS[name] for name in kinds])[0]
        exchange = ASKERS[kind](a)
        if exchange is not None:
            return exchange


def _one(rng: random.Random, language: Language, split: Split, turns: int, most: int) -> Pictured:
    made = Pictured("one", language)
    if rng.random() < 0.12:
        made.exchange(_talk(rng, language, split))
    shown = scene(rng, split, most)
    a = Asking(rng, language, shown)
    pending: list[Scene] = [shown]
    for _ in range(turns):
        more = follow_up(a) if rng.random() < 0.15 else None
        small = _talk(rng, language, split) if not pending and rng.random() < 0.03 else None
        for exchange in more or [small or _any(a)]:
            made.exchange(exchange, *pending)
            pending = []
    # Nothing teaches to look like a description; at the end, so that no question can be answered from it instead.
    whole = ask_describe(a) if rng.random() < 0.6 else None
    if whole is not None:
        made.exchange(whole, *pending)
    return made


def _several(rng: random.Random, language: Language, split: Split, pictures: int, turns: int, most: int) -> Pictured:
    """Two or three pictures in one message."""
    made = Pictured("several", language)
    scenes = [scene(rng, split, most) for _ in range(pictures)]
    for turn in range(turns):
        exchange = ask_which(rng, language, scenes) if turns > 1 and rng.random() < 0.35 else None
        which = rng.randrange(len(scenes))
        exchange = exchange or _any(Asking(rng, language, scenes[which], which))
        made.exchange(exchange, *(scenes if turn == 0 else ()))
    return made


def _later(rng: random.Random, language: Language, split: Split, turns: int, most: int) -> Pictured:
    """A picture, questions, another picture, questions: about the last one, unless they say which."""
    made = Pictured("later", language)
    scenes = [scene(rng, split, most), scene(rng, split, most)]
    for index in range(2):
        for turn in range(max(1, turns // 2)):
            a = Asking(rng, language, scenes[index])
            if index == 1 and turn > 0 and rng.random() < 0.5:
                which = rng.randrange(2)
                a = Asking(rng, language, scenes[which], which)
            made.exchange(_any(a), *(scenes[index : index + 1] if turn == 0 else ()))
    return made


def _text(rng: random.Random, language: Language, split: Split, turns: int) -> Pictured:
    made = Pictured("text", language)
    for _ in range(turns):
        blind = rng.random() < 0.5
        made.exchange(without_picture(rng, language, scene(rng, split)) if blind else _talk(rng, language, split))
    return made


def _talk(rng: random.Random, language: Language, split: Split) -> Exchange:
    """Small talk in the default model's words, but for what differs."""
    intent = rng.choice(wording.INTENTS)
    questions, answer = smalltalk.wordings(language, intent)
    if intent in wording.TALK:
        more, answer = wording.TALK[intent][language]
        questions = [*questions, *more]
    return fill(vary(rng, rng.choice(questions)), x=letters(rng, split)), answer


def question(rng: random.Random, kind: str, language: Language, split: Split = "test") -> Pictured:
    """A conversation that ends in a question of the kind; the answer is in `expected`."""
    while True:
        made = Pictured(kind, language)
        if kind in ("no_picture", "talk"):
            if rng.random() < 0.3:
                made.exchange(_talk(rng, language, split))
            blind = kind == "no_picture"
            made.exchange(without_picture(rng, language, scene(rng, split)) if blind else _talk(rng, language, split))
            return made.cut()
        if kind == "several":
            return _several(rng, language, split, rng.choice((2, 2, 3)), 1, 6).cut()
        if kind == "later":
            return _later(rng, language, split, 4, 6).cut()
        if _ask(made, rng, split):
            return made.cut()


def _ask(made: Pictured, rng: random.Random, split: Split) -> bool:
    """Fill a conversation that ends in a question of its kind; False where the pictures drawn allow none."""
    kind, language = made.kind, made.language
    if kind == "which":
        scenes = [scene(rng, split) for _ in range(rng.choice((2, 2, 3)))]
        found = ask_which(rng, language, scenes)
        if found is not None:
            made.exchange(found, *scenes)
        return found is not None
    shown = scene(rng, split, word_share=0.9 if kind in ("read", "word_colour") else 0.3)
    a = Asking(rng, language, shown)
    if kind == "follow_up":
        both = follow_up(a)
    else:
        last = ASKERS[kind](a)
        both = None if last is None else [last]
        if both is not None and rng.random() < 0.3:
            both.insert(0, _any(a))
    for index, exchange in enumerate(both or ()):
        made.exchange(exchange, *((shown,) if index == 0 else ()))
    return both is not None
