"""Public text that the generators draw from: words, sentences, Chinese snippets, questions nobody can answer."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from .sample import Split, split_of

_SENTENCE = re.compile(r"(?<=[.!?;:])\s+")
_WORD = re.compile(r"[A-Za-z]{2,12}")
_CHINESE_CLAUSE = re.compile(r"[\u4e00-\u9fff]{2,24}")
_HAN = re.compile(r"[\u4e00-\u9fff]")


class Corpus:
    """Everything sorted or in file order, so that the same seed gives the same stream anywhere."""

    def __init__(self, folder: Path, max_books: int = 30) -> None:
        books = sorted((folder / "books").glob("*.md"))
        if not books:
            raise FileNotFoundError(
                f"{folder / 'books'} holds no *.md file; pass the folder of training text with --data"
            )
        words: set[str] = set()
        sentences: list[str] = []
        step = max(1, len(books) // max_books)
        for path in books[::step]:
            text = re.sub(
                r"\s+", " ", path.read_text(encoding="utf-8", errors="replace").replace("*", "").replace("_", "")
            )
            text = text[:150_000]
            words.update(word for word in _WORD.findall(text) if word[1:].islower())
            sentences.extend(s for s in _SENTENCE.split(text) if 8 <= len(s) <= 180 and s.isprintable())
        clauses: list[str] = []
        turns: list[str] = []
        lines: list[str] = []
        for path in sorted(folder.glob("kdconv_*.json")):
            for dialogue in json.loads(path.read_text(encoding="utf-8")):
                for message in dialogue["messages"]:
                    line = message["message"].strip()
                    lines.append(line)
                    clauses.extend(_CHINESE_CLAUSE.findall(line))
                    if line.endswith(("？", "?")) and 6 <= len(line) <= 40:
                        turns.append(line)
        questions: list[str] = []
        with open(folder / "gsm8k_train.jsonl", encoding="utf-8") as file:
            questions.extend(json.loads(line)["question"] for line in file)
        questions = [question for question in questions if len(question) < 240]

        self.words = _halves(sorted(words))
        self.sentences = _halves(sentences)
        self.clauses = _halves(sorted(set(clauses)))
        self.chinese_lines = _halves([line for line in lines if 4 <= len(line) <= 60])
        self.chinese_questions = _halves(sorted(set(turns)))
        self.maths_questions = _halves(questions)
        self.characters = _characters(clauses)

    def word(self, rng: random.Random, split: Split) -> str:
        return _draw(rng, self.words[split])

    def sentence(self, rng: random.Random, split: Split) -> str:
        return _draw(rng, self.sentences[split])

    def phrase(self, rng: random.Random, split: Split, most: int = 15) -> str:
        words = self.sentence(rng, split).split(" ")
        length = rng.randint(1, most)
        start = rng.randint(0, max(0, len(words) - length))
        return " ".join(words[start : start + length])

    def clause(self, rng: random.Random, split: Split) -> str:
        return _draw(rng, self.clauses[split])

    def snippet(self, rng: random.Random, split: Split, least: int, most: int) -> str:
        """A run of Chinese characters; cut anywhere, as copying must not depend on words."""
        clause = self.clause(rng, split)
        length = min(len(clause), rng.randint(least, most))
        start = rng.randint(0, len(clause) - length)
        return clause[start : start + length]

    def character(self, rng: random.Random) -> str:
        return self.characters[int(rng.random() * len(self.characters))]


def _draw(rng: random.Random, options: list[str]) -> str:
    return options[int(rng.random() * len(options))]


def _halves(texts: list[str]) -> dict[Split, list[str]]:
    halves: dict[Split, list[str]] = {"train": [], "test": []}
    for text in texts:
        halves[split_of(text)].append(text)
    return halves


def _characters(clauses: list[str]) -> list[str]:
    counts: dict[str, int] = {}
    for clause in clauses:
        for character in clause:
            counts[character] = counts.get(character, 0) + 1
    return sorted(character for character, count in counts.items() if count >= 3)
