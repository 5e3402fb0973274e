"""The training mix and the held-out questions, all from seeds.

`conversation(rng, split)` is one conversation of the mix; `question(rng, skill, language)` ends where the model has to
answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import arithmetic, memory, reading, smalltalk, system_prompts, text_skills, tool_use
from .corpus import Corpus
from .sample import Context, Language, Message, Sample, Split, Turn
from .tool_specs import PYTHON_SCHEMA, toolbox

DEFAULT_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"

Skill = Callable[[Context], Turn | None]

# (skill, weight): what a turn without tools is drawn from
PLAIN: list[tuple[Skill, float]] = [
    (smalltalk.smalltalk, 7),
    (smalltalk.unknown, 6),
    (arithmetic.sum_, 22),
    (arithmetic.problem, 6),
    (arithmetic.too_hard, 2),
    (arithmetic.comparison, 2),
    (arithmetic.neighbour, 2),
    (arithmetic.sorting, 2),
    (arithmetic.calendar, 1),
    (text_skills.repeat, 10),
    (text_skills.reverse_list, 8),
    (text_skills.reverse_word, 8),
    (text_skills.spell, 2),
    (text_skills.count, 7),
    (text_skills.occurrences, 3),
    (text_skills.first_or_last, 2),
    (text_skills.contains, 2),
    (reading.reading, 5),
    (memory.ask_unknown, 2),
    (tool_use.no_tool_fits, 1),
]
TOOLS: list[tuple[Skill, float]] = [
    (tool_use.one_call, 60),
    (tool_use.follow_up, 8),
    (tool_use.two_calls, 10),
    (tool_use.missing_argument, 9),
    (tool_use.remembered_city, 12),
    (tool_use.no_tool_fits, 16),
]
_PLAIN_SKILLS, _PLAIN_WEIGHTS = [s for s, _ in PLAIN], [w for _, w in PLAIN]
_TOOL_SKILLS, _TOOL_WEIGHTS = [s for s, _ in TOOLS], [w for _, w in TOOLS]


@lru_cache(maxsize=2)
def corpus_of(folder: Path = DEFAULT_FOLDER) -> Corpus:
    return Corpus(folder)


def _draw(ctx: Context, skills: Sequence[Skill], weights: Sequence[float]) -> Turn:
    while True:
        turn = ctx.rng.choices(skills, weights)[0](ctx)
        if turn is not None:
            return turn


def _plain_turn(ctx: Context, memory_share: float = 0.3) -> Turn:
    """Any skill without tools; memory is woven in: something is told, and asked for a few turns later."""
    draw = ctx.rng.random()
    if ctx.assistant_name and ctx.rng.random() < 0.25:
        return smalltalk.smalltalk(ctx, ctx.choice(["who", "name"]))
    if draw < memory_share:
        if not ctx.facts or ctx.rng.random() < 0.4 / (1 + 0.3 * len(ctx.facts)):
            return memory.tell(ctx)
        return memory.ask(ctx)
    return _draw(ctx, _PLAIN_SKILLS, _PLAIN_WEIGHTS)


def _tool_schemas(ctx: Context) -> list[dict[str, Any]]:
    return [tool.schema for tool in ctx.tools]


def _context(rng: random.Random, split: Split, language: Language, folder: Path) -> Context:
    return Context(rng, language, split, corpus_of(folder))


def _maybe_other_language(ctx: Context) -> None:
    """Now and then the user changes the language; the reply follows."""
    if ctx.rng.random() < 0.04:
        ctx.language = "en" if ctx.zh else "zh"


def conversation(rng: random.Random, split: Split = "train", folder: Path = DEFAULT_FOLDER) -> Sample:
    """One conversation of the mix: 1 to 10 turns, plain, with tools, or with a long context."""
    ctx = _context(rng, split, rng.choice(("en", "zh")), folder)
    messages: list[Message] = []
    draw = rng.random()
    kind = "tools" if draw < 0.42 else "long" if draw < 0.44 else "plain"
    if rng.random() < 0.12:
        messages.append(system_prompts.system(ctx))
    schemas: list[dict[str, Any]] | None = None
    if kind == "tools":
        schemas = _with_tools(ctx, messages)
    elif kind == "long":
        _long(ctx, messages)
    else:
        for _ in range(rng.choice((1, 2, 3, 4, 5, 5, 6, 6, 7, 8, 9, 10))):
            _maybe_other_language(ctx)
            messages += _plain_turn(ctx).messages
    return Sample(kind, ctx.language, messages, schemas)


def copying(rng: random.Random, split: Split = "train", folder: Path = DEFAULT_FOLDER) -> Sample:
    """A short exercise in copying, for the start of the training: a few turns that give back what was just said."""
    ctx = _context(rng, split, rng.choice(("en", "zh")), folder)
    exercises = (text_skills.repeat, text_skills.first_or_last, reading.reading, memory.tell)
    messages: list[Message] = []
    for _ in range(rng.randint(1, 4)):
        messages += rng.choices(exercises, (6, 1, 2, 3))[0](ctx).messages
        if ctx.facts and rng.random() < 0.5:
            messages += memory.ask(ctx).messages
    return Sample("copying", ctx.language, messages, None)


def drill(rng: random.Random, split: Split = "train", folder: Path = DEFAULT_FOLDER) -> Sample:
    """A few turns of what takes the most practice: sums, and the letters that a token hides."""
    ctx = _context(rng, split, rng.choice(("en", "zh")), folder)
    exercises: dict[Skill, int] = {
        arithmetic.sum_: 22,
        arithmetic.problem: 2,
        arithmetic.sorting: 3,
        arithmetic.comparison: 2,
        arithmetic.calendar: 1,
        arithmetic.neighbour: 1,
        text_skills.spell: 4,
        text_skills.reverse_word: 6,
        text_skills.count: 6,
        text_skills.occurrences: 3,
        text_skills.contains: 2,
        text_skills.reverse_list: 4,
        text_skills.repeat: 4,
    }
    messages: list[Message] = []
    for _ in range(rng.randint(2, 7)):
        messages += _draw(ctx, list(exercises), list(exercises.values())).messages
    return Sample("drill", ctx.language, messages, None)


def _with_tools(ctx: Context, messages: list[Message]) -> list[dict[str, Any]]:
    rng = ctx.rng
    has_python = ctx.has_python = rng.random() < 0.08
    ctx.tools = toolbox(ctx, rng.choice((1, 1, 2, 2, 2, 3, 3, 4)))
    schemas = _tool_schemas(ctx)
    if has_python:
        schemas.insert(rng.randint(0, len(schemas)), PYTHON_SCHEMA)
    if rng.random() < 0.25:
        messages += memory.tell(ctx, "city").messages
    for _ in range(rng.choice((3, 4, 4, 5, 5, 6, 7, 8))):
        draw = rng.random()
        turn: Turn | None = None
        if "city" in ctx.facts and rng.random() < 0.35:
            turn = tool_use.remembered_city(ctx)
        if turn is not None:
            pass
        elif has_python and draw < 0.4:
            turn = tool_use.python(ctx)
        elif draw < 0.64:
            turn = _draw(ctx, _TOOL_SKILLS, _TOOL_WEIGHTS)
        else:
            turn = _plain_turn(ctx, 0.25)
        messages += turn.messages
    return schemas


def _long(ctx: Context, messages: list[Message]) -> None:
    """Facts at the start or inside a long text, asked for at the end; up to about 1,800 tokens."""
    rng = ctx.rng
    if rng.random() < 0.5:
        messages += reading.reading(
            ctx, filler=rng.randint(500, 3500) if not ctx.zh else rng.randint(300, 1400)
        ).messages
        for _ in range(rng.randint(0, 2)):
            messages += _plain_turn(ctx).messages
        return
    for _ in range(rng.randint(1, 4)):
        messages += memory.tell(ctx).messages
    for _ in range(rng.randint(10, 24)):
        messages += _plain_turn(ctx, 0.15).messages
    for _ in range(rng.randint(2, 5)):
        messages += memory.ask(ctx).messages


# Evaluation ----------------------------------------------------------------------------------------------------------


def _recall(ctx: Context) -> Turn:
    return memory.ask(ctx)


_QUESTIONS: dict[str, Skill] = {
    "greet": lambda ctx: smalltalk.smalltalk(ctx, "greet"),
    "identity": lambda ctx: smalltalk.smalltalk(ctx, ctx.choice(["who", "real", "load", "can", "name"])),
    "arithmetic": arithmetic.sum_,
    "word_problem": arithmetic.problem,
    "too_hard": arithmetic.too_hard,
    "compare": arithmetic.comparison,
    "next_number": arithmetic.neighbour,
    "sort": arithmetic.sorting,
    "calendar": arithmetic.calendar,
    "repeat": text_skills.repeat,
    "reverse_list": text_skills.reverse_list,
    "reverse_word": text_skills.reverse_word,
    "spell": text_skills.spell,
    "count": text_skills.count,
    "occurrences": text_skills.occurrences,
    "first_last": text_skills.first_or_last,
    "contains": text_skills.contains,
    "reading": reading.reading,
    "memory": _recall,
    "memory_unknown": memory.ask_unknown,
    "system": _recall,
    "unknown": smalltalk.unknown,
    "tool_call": tool_use.one_call,
    "tool_new": tool_use.one_call,
    "tool_answer": tool_use.one_call,
    "tool_follow_up": tool_use.follow_up,
    "tool_two_calls": tool_use.two_calls,
    "tool_missing_argument": tool_use.missing_argument,
    "tool_memory": tool_use.remembered_city,
    "no_tool": tool_use.no_tool_fits,
    "tools_but_chat": lambda ctx: _draw(ctx, _PLAIN_SKILLS, _PLAIN_WEIGHTS),
    "python": tool_use.python,
}
SKILLS = list(_QUESTIONS)


def question(
    rng: random.Random, skill: str, language: Language, split: Split = "test", folder: Path = DEFAULT_FOLDER
) -> Sample:
    """A conversation that ends where the model has to answer, and the reply it should give."""
    if skill not in _QUESTIONS:
        raise ValueError(f"unknown skill {skill!r}; known: {', '.join(SKILLS)}")
    while True:
        ctx = _context(rng, split, language, folder)
        messages: list[Message] = []
        schemas = None
        if skill.startswith("tool") or skill in ("no_tool", "python"):
            ctx.tools = toolbox(ctx, rng.randint(1, 3), new=skill == "tool_new")
            schemas = _tool_schemas(ctx)
            if skill == "python":
                ctx.has_python = True
                schemas.insert(0, PYTHON_SCHEMA)
        if skill == "system":
            messages.append(system_prompts.system(ctx))
            if not ctx.facts and not ctx.assistant_name:
                continue
        if skill == "memory":
            messages += memory.tell(ctx).messages
            for _ in range(rng.randint(1, 3)):
                messages += _plain_turn(ctx, 0.2).messages
        elif skill == "tool_memory":
            messages += memory.tell(ctx, "city").messages
        elif rng.random() < 0.6:
            for _ in range(rng.randint(1, 2)):
                messages += _plain_turn(ctx, 0.2).messages
        if skill == "system" and not ctx.facts:
            turn: Turn | None = smalltalk.smalltalk(ctx, "name")
        else:
            turn = _QUESTIONS[skill](ctx)
        if turn is None:
            continue
        return _cut(skill, language, [*messages, *turn.messages], schemas)


def _cut(skill: str, language: Language, messages: list[Message], schemas: list[dict[str, Any]] | None) -> Sample:
    """End before the message that is asked for: the call for the skills that choose a tool, else the last answer."""
    end = len(messages) - 1
    if skill == "python" or (skill.startswith("tool_") and skill != "tool_answer"):
        while not messages[end].get("tool_calls"):
            end -= 1
    return Sample(skill, language, messages[:end], schemas, messages[end])
