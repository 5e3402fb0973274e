"""Held-out accuracy of a checkpoint, greedy, per skill and language.

python -m tools.default_model.evaluate --model glm4/assets/default --n 100 --json accuracy.json --card
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import glm4

from . import data
from .sample import Language, Sample, calls_of
from .vocabulary import ASSETS

CARD = ASSETS / "README.md"
BEGIN, END = "<!-- accuracy: written by tools/default_model/evaluate.py --card -->", "<!-- end of accuracy -->"
MAX_TOKENS = 256  # the longest expected reply is well below


@dataclass
class Score:
    """The outcome for one skill in one language."""

    skill: str
    language: Language
    n: int = 0
    right: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        return self.right / max(1, self.n)


def evaluate(llm: Any, skills: list[str], n: int, seed: int, folder: Path) -> Iterator[Score]:
    """Ask `n` held-out questions per skill and language; yields each score as it is known."""
    for skill in skills:
        languages: tuple[Language, ...] = ("en", "zh")
        for language in languages:
            rng = random.Random(f"{seed}/{skill}/{language}")
            score = Score(skill, language)
            for _ in range(n):
                sample = data.question(rng, skill, language, "test", folder)
                reply = llm.chat(sample.messages, tools=sample.tools, temperature=0, max_tokens=MAX_TOKENS)
                calls = [(call.name, call.arguments) for call in reply.tool_calls]
                score.n += 1
                if reply.finish_reason != "length" and sample.accepts(reply.content, calls):
                    score.right += 1
                else:
                    score.wrong.append(_difference(sample, reply.content, calls))
            yield score


def _difference(sample: Sample, content: str, calls: list[tuple[str, str]]) -> str:
    expected = sample.expected or {"content": ""}
    asked, wanted = sample.messages[-1]["content"], calls_of(expected) or expected["content"]
    return f"{asked!r}\n    expected {wanted!r}\n    got      {calls or content!r}"


def table(scores: list[Score]) -> str:
    """A Markdown table, one row a skill."""
    rows = ["| skill | English | Chinese |", "|---|---|---|"]
    by_skill: dict[str, dict[str, Score]] = {}
    for score in scores:
        by_skill.setdefault(score.skill, {})[score.language] = score
    for skill, pair in by_skill.items():
        rows.append(f"| {skill} | {pair['en'].accuracy:.0%} | {pair['zh'].accuracy:.0%} |")
    means = [sum(s.accuracy for s in scores if s.language == lang) / max(1, len(by_skill)) for lang in ("en", "zh")]
    rows.append(f"| mean | {means[0]:.1%} | {means[1]:.1%} |")
    return "\n".join(rows)


def fill_card(card: str, scores: list[Score]) -> str:
    """The model card with the table between its two marks replaced."""
    before, rest = card.split(BEGIN)
    after = rest.split(END)[1]
    note = f"Greedy, {scores[0].n} held-out questions per cell."
    return f"{before}{BEGIN}\n{note}\n\n{table(scores)}\n{END}{after}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ASSETS), help="a checkpoint folder")
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="the folder of training text")
    parser.add_argument("--skills", nargs="+", default=data.SKILLS, choices=data.SKILLS, metavar="SKILL")
    parser.add_argument("--n", type=int, default=100, help="questions per skill and language")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=0, help="print this many wrong answers per skill and language")
    parser.add_argument("--json", type=Path, help="write the scores, with the wrong answers, to this file")
    parser.add_argument("--card", action="store_true", help="write the table into the model card")
    args = parser.parse_args()
    llm = glm4.load_model(args.model)
    scores: list[Score] = []
    for score in evaluate(llm, args.skills, args.n, args.seed, args.data):
        scores.append(score)
        print(f"{score.skill:<22} {score.language}  {score.right:>4}/{score.n:<4} {score.accuracy:6.1%}", flush=True)
        for wrong in score.wrong[: args.show]:
            print("  " + wrong)
    if len(scores) > 2:
        print(f"{'mean':<22}     {'':>9} {sum(s.accuracy for s in scores) / len(scores):6.1%}")
    if args.json:
        text = json.dumps(
            [asdict(score) | {"accuracy": score.accuracy} for score in scores], ensure_ascii=False, indent=1
        )
        args.json.write_text(text + "\n", encoding="utf-8")
    if args.card:
        if args.skills != data.SKILLS:
            sys.exit("--card wants all skills: leave --skills out")
        CARD.write_text(fill_card(CARD.read_text(encoding="utf-8"), scores), encoding="utf-8")


if __name__ == "__main__":
    main()
