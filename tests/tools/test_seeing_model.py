"""The seeing model's training data: what is drawn is what is said, split, the same from a seed; and its weights."""

from __future__ import annotations

import colorsys
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

import glm4
from glm4.images import as_pixels
from glm4.models.glm4v import GLM4V

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from tools.default_model.sample import Language, Split, split_of  # noqa: E402
from tools.seeing_model import data, train, wording  # noqa: E402
from tools.seeing_model import targets as targets_module  # noqa: E402
from tools.seeing_model.evaluate import ASSETS  # noqa: E402
from tools.seeing_model.pictures import CHARACTERS, COLOURS, Scene, Thing, paint, scene  # noqa: E402
from tools.seeing_model.targets import CLASSES, targets  # noqa: E402

LANGUAGES: tuple[Language, ...] = ("en", "zh")


def scenes(n: int, split: Split = "train", seed: int = 5, word_share: float = 0.3) -> list[Scene]:
    rng = random.Random(seed)
    return [scene(rng, split, word_share=word_share) for _ in range(n)]


def questions(kind: str, language: Language, n: int = 40, split: Split = "test") -> Iterator[tuple[Scene, str, str]]:
    """(the scene, the question, the expected answer), of single pictures"""
    rng = random.Random(f"{kind}/{language}")
    for _ in range(n):
        made = data.question(rng, kind, language, split)
        assert made.expected is not None
        last = made.messages[-1]["content"]
        yield made.scenes[0], last if isinstance(last, str) else last[-1]["text"], made.expected


def english(text: str) -> str:
    """Chinese names of shapes and colours as the English ones."""
    for names in (wording.SHAPES_ZH, wording.COLOURS_ZH):
        for ours, theirs in names.items():
            text = text.replace(theirs, f" {ours} ")
    return text


def named(text: str, things: tuple[Thing, ...]) -> list[Thing]:
    """The things that a text names by colour and shape, or by a shape there is one of, in the text's order."""
    found: dict[int, Thing] = {}
    for thing in things:
        for match in re.finditer(rf"{thing.colour} +{thing.shape}\b", text):
            found[match.start()] = thing
        if sum(other.shape == thing.shape for other in things) == 1:
            for match in re.finditer(rf"\b{thing.shape}\b", text):
                if not any(text[: match.start()].rstrip().endswith(colour) for colour in COLOURS):
                    found[match.start()] = thing
    return [found[start] for start in sorted(found)]


def test_a_shape_is_drawn_where_and_as_the_scene_says() -> None:
    for shown in scenes(80):
        pixels = np.asarray(paint(shown)).astype(int)
        assert pixels.shape == (shown.height, shown.width, 3)
        for thing in shown.things:
            x, y, radius = thing.x * shown.width, thing.y * shown.height, thing.size / 2 * min(pixels.shape[:2])
            y -= 0.85 * radius if thing.shape == "ring" else 0
            assert np.abs(pixels[int(y), int(x)] - thing.rgb).max() <= 2, thing
        corners = [tuple(pixels[row, column]) for row in (0, -1) for column in (0, -1)]
        assert shown.background_rgb in corners


def test_the_usual_shade_of_every_colour_is_among_those_drawn() -> None:
    for name, ranges in COLOURS.items():
        hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in ImageColor.getrgb(name)))
        degrees = hue * 360 if saturation else ranges[0][0]
        for measured, (low, high) in zip((degrees, saturation, value), ranges, strict=True):
            assert low - 0.01 <= measured <= high + 0.01, (name, measured)


def test_a_words_letters_are_inked_left_to_right_at_their_middles() -> None:
    for shown in scenes(60, word_share=1.0):
        word = shown.word
        assert word is not None
        assert 2 <= len(word.text) <= 5
        assert re.fullmatch("[A-Z]+|[0-9]+", word.text)
        middles = [x for x, _ in word.centres()]
        assert middles == sorted(middles)
        assert all(b - a > 0.08 for a, b in pairwise(middles))
        pixels = np.asarray(paint(shown)).astype(int)
        top = max(0, int((word.y - word.height / 2) * shown.height))
        band = pixels[top : int((word.y + word.height / 2) * shown.height) + 1]
        inked = (np.abs(band - word.rgb).max(-1) < 60).any(0)
        for x in middles:
            reach = shown.width * 0.05
            assert inked[int(x * shown.width - reach) : int(x * shown.width + reach) + 1].any(), word


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_about_one_shape_are_what_was_drawn(language: Language) -> None:
    for shown, question, answer in questions("colour", language):
        shape = next(s for s in wording.SHAPES_ZH if re.search(rf"\b{s}\b", english(question)))
        colours = [t.colour for t in shown.things if t.shape == shape]
        assert len(colours) <= 1
        if colours:
            assert colours[0] in english(answer)
        else:
            assert answer.startswith(("There is no", "没有"))
    for shown, question, answer in questions("shape", language):
        (thing,) = (t for t in shown.things if re.search(rf"\b{t.colour}\b", english(question)))
        assert re.search(rf"\b{thing.shape}\b", english(answer))
    for shown, question, answer in questions("position", language):
        (thing,) = named(english(question), shown.things)
        columns, rows = ("left|左", "right|右"), ("top|上", "bottom|下")
        for place, sides in ((thing.x, columns), (thing.y, rows)):
            said = [bool(re.search(side, answer)) for side in sides]
            assert said == [place < 1 / 3, place > 2 / 3], (answer, thing)
    for shown, _, answer in questions("background", language):
        assert shown.background in english(answer)


@pytest.mark.parametrize("language", LANGUAGES)
def test_counts_are_right(language: Language) -> None:
    for kind in ("count", "count_of"):
        for shown, question, answer in questions(kind, language):
            asked = english(question)
            wanted = [
                thing
                for thing in shown.things
                if all(thing.colour == colour for colour in COLOURS if re.search(rf"\b{colour}\b", asked))
                and all(
                    thing.shape == shape
                    for shape in wording.SHAPES_ZH
                    if re.search(rf"\b{shape}(e?s)?\b", asked.lower())
                )
            ]
            said = re.search(r"\d", answer)
            assert len(wanted) == (int(said[0]) if said else 0), (question, answer)
            assert said or answer.startswith(("There are no", "没有"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_comparisons_are_right(language: Language) -> None:
    for shown, question, answer in questions("side", language):
        one, other = named(english(question.lower()), shown.things)
        if "further left" in answer or "更靠左" in answer:
            assert named(english(answer), shown.things) == [min(one, other, key=lambda t: t.x)]
            continue
        asked = re.search(r"left|right|above|higher|over|below|lower|under|左|右|上面|下面", question.lower())
        said = re.search(r"left|right|above|below|左|右|上面|下面", answer)
        assert asked is not None
        assert said is not None
        truth = {
            "left": one.x < other.x,
            "right": one.x > other.x,
            "above": one.y < other.y,
            "below": one.y > other.y,
        }
        word = {"左": "left", "右": "right", "上面": "above", "下面": "below"}
        same = {"higher": "above", "over": "above", "lower": "below", "under": "below"}
        asked_word = word.get(asked[0], same.get(asked[0], asked[0]))
        assert truth[word.get(said[0], said[0])]
        assert truth[asked_word] == answer.startswith(("Yes", "是"))
    for shown, question, answer in questions("larger", language):
        (thing,) = named(english(answer), shown.things)
        rivals = named(english(question.lower()), shown.things) or list(shown.things)
        assert all(thing.size >= 1.25 * rival.size for rival in rivals if rival is not thing)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_listed_is_there_and_in_order(language: Language) -> None:
    for shown, _, answer in questions("describe", language):
        text = english(answer)
        before = text.split(" on a")[0] if language == "en" else text.partition("背景上有")[2]
        listed = re.findall(rf"({'|'.join(COLOURS)}) +({'|'.join(wording.SHAPES_ZH)})", before)
        assert listed == [(t.colour, t.shape) for t in sorted(shown.things, key=lambda t: t.x)]
        assert shown.word is None or shown.word.text in before
        assert shown.background in text.replace(before, "")
    for shown, question, answer in questions("exists", language):
        asked = english(question.lower())
        shape = next(s for s in wording.SHAPES_ZH if re.search(rf"\b{s}\b", asked))
        colour = next((c for c in COLOURS if re.search(rf"\b{c}\b", asked)), None)
        there = any(t.shape == shape and colour in (None, t.colour) for t in shown.things)
        assert there == answer.startswith(("Yes", "有"))
    for shown, _, answer in questions("read", language):
        assert shown.word is None or re.findall("[A-Z0-9]{2,}", answer) == [shown.word.text]


def test_train_and_test_share_no_combination_and_no_word() -> None:
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        for shown in scenes(150, split):
            assert not shown.things or split_of(shown.signature) == split
            assert shown.word is None or split_of(shown.word.text) == split


@pytest.mark.parametrize("kind", data.KINDS)
def test_a_question_ends_where_the_model_has_to_answer(kind: str) -> None:
    tokenizer = train.seeing_tokenizer(train.TEXT_MODEL)
    for language in LANGUAGES:
        rng = random.Random(kind)
        for _ in range(4):
            made = data.question(rng, kind, language)
            assert made.messages[-1]["role"] == "user"
            assert made.expected
            places = tokenizer.render(made.messages).count(tokenizer.special_tokens["<|begin_of_image|>"])
            assert places == len(made.scenes) == (0 if kind in ("no_picture", "talk") else places)


_DIGEST = """
import hashlib, random, sys
sys.path.insert(0, {root!r})
from tools.seeing_model import data
from tools.seeing_model.pictures import paint
rng, seen = random.Random(4), hashlib.sha256()
for i in range(24):
    made = data.conversation(rng, i % 4)
    said = [m["content"] if isinstance(m["content"], str) else m["content"][-1] for m in made.messages]
    seen.update(repr(said).encode())
    for one in made.scenes:
        seen.update(paint(one).tobytes())
print(seen.hexdigest())
"""


def test_the_same_seed_gives_the_same_conversations_and_pixels_in_another_process() -> None:
    digests = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        code = _DIGEST.format(root=str(REPOSITORY))
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1


def test_the_guides_targets_say_what_stands_where() -> None:
    assert train.VISION.grid == targets_module.GRID
    grid = train.VISION.grid
    for shown in scenes(60):
        wanted = targets(shown)
        assert wanted.shape == (len(CLASSES), grid, grid)
        assert all(int(part.max()) < classes for part, classes in zip(wanted, CLASSES, strict=True))
        for thing in shown.things:
            row, column = int(thing.y * grid), int(thing.x * grid)
            assert wanted[0, row, column] == list(wording.SHAPES_ZH).index(thing.shape) + 1
            assert wanted[1, row, column] == list(COLOURS).index(thing.colour) + 1
            assert wanted[3, row, column] > 0
            assert (wanted[5, row, column], wanted[6, row, column]) == (row + 1, column + 1)
        assert int((wanted[3] > 0).sum()) == len(shown.things)
        letters = wanted[2].flatten()
        assert {CHARACTERS[int(i) - 1] for i in letters[letters > 0]} == set(shown.word.text if shown.word else "")


def _model() -> GLM4V:
    model = GLM4V(train.config_for(train.seeing_tokenizer(train.TEXT_MODEL)))
    train.initialise(model, 0)
    return model


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_the_training_loss_is_that_of_each_conversation_alone(pictures: int) -> None:
    """Slots are counted right: in a padded batch, behind pictures, each token is learnt from the one before."""
    tokenizer, model = train.seeing_tokenizer(train.TEXT_MODEL), _model()
    rng = random.Random(pictures)
    rows = []
    for _ in range(3):
        made = data.conversation(rng, pictures)
        rendered = tokenizer.render_for_training(made.messages)
        rows.append((list(rendered.ids), [int(x) for x in rendered.loss_mask], made))
    guide = train.Guide(train.VISION.out_size, torch.Generator().manual_seed(0))
    with torch.no_grad():
        batched, seeing = train.loss_of(model, guide, train._batch(rows))
        total, count = 0.0, 0
        for ids, mask, made in rows:
            features = model.see(as_pixels([paint(s) for s in made.scenes], model.pictures)) if made.scenes else None
            one = torch.tensor(ids)
            logits = model.logits(model(model.embed(one[None], features), model.positions(one)[None]))[0]
            behind = len(logits) - len(ids)  # slots that the pictures added
            for index in range(1, len(ids)):
                if mask[index]:
                    after = sum(i == model.config.eoi_token_id for i in ids[:index]) * (behind // max(1, pictures))
                    total -= float(logits[index + after - 1].log_softmax(-1)[ids[index]])
                    count += 1
    assert float(batched) == pytest.approx(total / count, rel=0.01)
    assert (float(seeing) > 0) == (pictures > 0)


def test_training_pictures_are_prepared_as_the_library_prepares_them() -> None:
    model = _model()
    for shown in scenes(5):
        rows = [([1, 2], [0, 1], data.Pictured("one", "en", [], [shown]))]
        ours = train._batch(rows).pixels.permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(v)[:, None, None] for v in (model.pictures.mean, model.pictures.std))
        torch.testing.assert_close((ours - mean) / std, as_pixels([paint(shown)], model.pictures))


def test_a_batch_is_the_same_after_resuming() -> None:
    tokenizer = train.seeing_tokenizer(train.TEXT_MODEL)

    def streams(step: int) -> list[Iterator[train.Batch]]:
        return [iter(train.Conversations(tokenizer, 3, 300, step, 0)), iter(train.Looks(3, 2, step, 0))]

    for whole, resumed in zip(streams(0), streams(2), strict=True):
        for _ in range(2):
            next(whole)
        for _ in range(2):
            a, b = next(whole), next(resumed)
            assert torch.equal(a.ids, b.ids)
            assert torch.equal(a.pixels, b.pixels)


has_weights = pytest.mark.skipif(
    not (ASSETS / "model.safetensors").exists(), reason="THE SEEING MODEL'S WEIGHTS ARE MISSING"
)


@has_weights
def test_a_picture_that_no_generator_drew_can_be_asked_about() -> None:
    """The shipped weights, all the way: a file's bytes in, an answer out."""
    llm = glm4.load_model(ASSETS)
    assert sum(file.stat().st_size for file in ASSETS.iterdir()) <= 8_000_000
    picture = Image.new("RGB", (160, 120), "white")
    picture.paste("red", (60, 40, 100, 80))
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "What colour is the square?"}]
    reply = llm.chat([{"role": "user", "content": content}], temperature=0, max_tokens=30)
    assert reply.content == "The square is red."


@has_weights
def test_the_shipped_weights_answer_held_out_questions() -> None:
    llm = glm4.load_model(ASSETS)
    rng = random.Random(8)
    asked = [
        data.question(rng, kind, rng.choice(LANGUAGES))
        for kind in ("shape", "background", "no_picture")
        for _ in range(5)
    ]
    answers = [llm.chat(made.messages, temperature=0, max_tokens=40).content for made in asked]
    assert sum(a == made.expected for a, made in zip(answers, asked, strict=True)) >= 13
