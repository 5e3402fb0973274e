"""What every generator returns, and how a train string is told from a test string."""

from __future__ import annotations

import json
import random
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from .corpus import Corpus
    from .tool_specs import ToolSpec

Split = Literal["train", "test"]
Language = Literal["en", "zh"]
Message: TypeAlias = dict[str, Any]

_HELD_OUT = 10  # one string in ten belongs to the test split


def split_of(text: str) -> Split:
    """Deterministic over processes and machines: never Python's hash()."""
    return "test" if zlib.crc32(text.lower().encode()) % _HELD_OUT == 0 else "train"


@dataclass
class Turn:
    """One exchange: a user message up to the assistant message that answers it (tool calls in between)."""

    skill: str
    messages: list[Message]


@dataclass
class Context:
    """What a skill may look at when it makes the next turn."""

    rng: random.Random
    language: Language
    split: Split
    corpus: Corpus
    tools: list[ToolSpec] = field(default_factory=list)
    facts: dict[str, tuple[str, str]] = field(default_factory=dict)  # slot -> (value, thing)
    assistant_name: str | None = None
    has_python: bool = False

    @property
    def zh(self) -> bool:
        return self.language == "zh"

    def choice(self, options: list[str]) -> str:
        return options[int(self.rng.random() * len(options))]


@dataclass
class Sample:
    """A conversation. From `question()` it ends before the assistant's last message, which is `expected`."""

    skill: str
    language: Language
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    expected: Message | None = None

    def accepts(self, content: str, tool_calls: list[tuple[str, str]]) -> bool:
        """Whether a reply (its text, and its calls as (name, arguments)) is right."""
        if self.expected is None:
            raise ValueError("this sample is a training conversation and has no expected reply")
        wanted = calls_of(self.expected)
        if wanted or tool_calls:
            return len(wanted) == len(tool_calls) and all(
                name == other and _value(arguments) == _value(got)
                for (name, arguments), (other, got) in zip(wanted, tool_calls, strict=True)
            )
        return content.strip() == str(self.expected["content"]).strip()


def calls_of(message: Message) -> list[tuple[str, str]]:
    """The (name, arguments) pairs of an assistant message."""
    return [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", ())]


def _value(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments.strip()


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def fill(template: str, **values: str) -> str:
    """Put values at their {names}; values may hold braces themselves."""
    parts = template.split("{")
    out = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("}")
        out.append(values[name] + rest)
    return "".join(out)


def vary(rng: random.Random, template: str) -> str:
    """The same request as people type it: without capitals, without the last mark, politely."""
    draw = rng.random()
    if draw < 0.25:
        template = _outside_braces(template, str.lower)
    elif draw < 0.27:
        template = _outside_braces(template, str.upper)
    if rng.random() < 0.25 and template[-1] in ".?!。？！":
        template = template[:-1]
    return template


def _outside_braces(template: str, change: Any) -> str:
    parts = template.split("{")
    out = [change(parts[0])]
    for part in parts[1:]:
        name, _, rest = part.partition("}")
        out.append("{" + name + "}" + change(rest))
    return "".join(out)
