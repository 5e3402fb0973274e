"""Held-out accuracy of the seeing model, greedy, per kind of question and language.

python -m tools.seeing_model.evaluate --n 100 --json accuracy.json --card
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import glm4
from tools.default_model.evaluate import Score, table
from tools.default_model.sample import Language

from . import data
from .train import REPO

ASSETS = REPO / "glm4/assets/default-vision"
CARD = ASSETS / "README.md"
BEGIN, END = "<!-- accuracy: written by tools/seeing_model/evaluate.py --card -->", "<!-- end of accuracy -->"
MAX_TOKENS = 128  # a description of six shapes has about 70


def evaluate(llm: Any, kinds: list[str], n: int, seed: int) -> Iterator[Score]:
    """Ask `n` held-out questions per kind and language; yields each score as it is known."""
    for kind in kinds:
        languages: tuple[Language, ...] = ("en", "zh")
        for language in languages:
            rng = random.Random(f"{seed}/{kind}/{language}")
            score = Score(kind, language)
            for _ in range(n):
                made = data.question(rng, kind, language, "test")
                reply = llm.chat(made.messages, temperature=0, max_tokens=MAX_TOKENS)
                score.n += 1
                if reply.finish_reason == "stop" and reply.content.strip() == made.expected:
                    score.right += 1
                else:
                    score.wrong.append(_difference(made, reply.content))
            yield score


def _difference(made: data.Pictured, content: str) -> str:
    asked = made.messages[-1]["content"]
    if not isinstance(asked, str):
        asked = asked[-1]["text"]
    shown = " | ".join(f"{s.signature}{f' {s.word.text}' if s.word else ''}" for s in made.scenes)
    return f"{asked!r} of {shown}\n    expected {made.expected!r}\n    got      {content!r}"


def fill_card(card: str, scores: list[Score]) -> str:
    """The model card with the table between its two marks replaced."""
    before, rest = card.split(BEGIN)
    after = rest.split(END)[1]
    note = f"Greedy, {scores[0].n} held-out questions per cell."
    rows = table(scores).replace("| skill |", "| question |")
    return f"{before}{BEGIN}\n{note}\n\n{rows}\n{END}{after}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ASSETS), help="a checkpoint folder")
    parser.add_argument("--kinds", nargs="+", default=list(data.KINDS), choices=data.KINDS, metavar="KIND")
    parser.add_argument("--n", type=int, default=100, help="questions per kind and language")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=0, help="print this many wrong answers per kind and language")
    parser.add_argument("--json", type=Path, help="write the scores, with the wrong answers, to this file")
    parser.add_argument("--card", action="store_true", help="write the table into the model card")
    args = parser.parse_args()
    if args.card and args.kinds != list(data.KINDS):
        sys.exit("--card wants all kinds: leave --kinds out")
    llm = glm4.load_model(args.model)
    scores: list[Score] = []
    for score in evaluate(llm, args.kinds, args.n, args.seed):
        scores.append(score)
        print(f"{score.skill:<14} {score.language}  {score.right:>4}/{score.n:<4} {score.accuracy:6.1%}", flush=True)
        for wrong in score.wrong[: args.show]:
            print("  " + wrong)
    if args.json:
        rows = [asdict(score) | {"accuracy": score.accuracy} for score in scores]
        args.json.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if args.card:
        CARD.write_text(fill_card(CARD.read_text(encoding="utf-8"), scores), encoding="utf-8")


if __name__ == "__main__":
    main()
