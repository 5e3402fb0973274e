"""LLM with pictures: each at its place, computed once, refused with words where it cannot be shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from random_models import random_checkpoint, random_seeing_model
from tiny_tokenizer import tiny_tokenizer, write_ranks

import glm4
import glm4.images
from glm4.checkpoints import save_checkpoint
from glm4.errors import InputError, PromptTooLong
from glm4.llm import LLM
from glm4.loading import load_model

V, CONTEXT = 384, 256
SPECIALS = tiny_tokenizer().special_tokens
BOI, HOLDER, EOI = SPECIALS["<|begin_of_image|>"], SPECIALS["<|endoftext|>"], SPECIALS["<|end_of_image|>"]
PLACE = [BOI, HOLDER, EOI]
SLOTS = 6  # of one picture


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    """A model that sees. Shared: no test may change it for good."""
    folder = tmp_path_factory.mktemp("seeing")
    model = random_seeing_model(BOI, EOI, seed=41, vocab_size=V, max_positions=CONTEXT)
    save_checkpoint(model, folder, layout="thudm")
    write_ranks(folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_format": "glm-4v"}))
    return load_model(folder)


def picture(seed: int, size: tuple[int, int] = (70, 40)) -> Image.Image:
    """Noise, so that no two seeds look alike."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def png(image: Image.Image) -> bytes:
    """Its file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_a_picture_changes_what_follows_it_and_nothing_before(llm: LLM) -> None:
    ids = [5, 6, *PLACE, 7, 8]
    first, second = (llm.logits(ids, images=[picture(seed)]) for seed in (1, 2))
    assert first.shape == (1, 4 + SLOTS, V)
    assert torch.equal(first[:, :2], second[:, :2])
    assert ((first - second)[:, 2 + SLOTS :].abs().amax(-1) > 0.5).all()


def test_all_forms_of_a_picture_are_one(llm: LLM, tmp_path: Path) -> None:
    """A PIL image, a file's bytes, a path, a normalised tensor."""
    image, ids = picture(3), [5, *PLACE, 7]
    (tmp_path / "a.png").write_bytes(png(image))
    from glm4.images import as_pixels

    expected = llm.logits(ids, images=[image])
    for form in ([png(image)], [tmp_path / "a.png"], [str(tmp_path / "a.png")], as_pixels([image], llm.model.pictures)):
        assert torch.equal(llm.logits(ids, images=form), expected)


def test_rows_with_and_without_pictures_in_one_batch(llm: LLM) -> None:
    """No picture, one, two: each row as it is alone, on either side of the padding."""
    rows = [[5, 6, 7], [5, *PLACE, 8, 9], [*PLACE, 5, *PLACE]]
    images = [picture(seed) for seed in (1, 2, 3)]
    alone = [
        llm.logits(row, images=chosen or None)[0]
        for row, chosen in zip(rows, ([], images[:1], images[1:]), strict=True)
    ]
    width = max(len(row) for row in rows)
    for left in (True, False):
        padding = [[0] * (width - len(row)) for row in rows]
        ids = [p + row if left else row + p for p, row in zip(padding, rows, strict=True)]
        mask = [[*p, *[1] * len(row)] if left else [*[1] * len(row), *p] for p, row in zip(padding, rows, strict=True)]
        out = llm.logits(ids, attention_mask=mask, images=images)
        assert out.shape == (3, 1 + 2 * SLOTS, V)
        for row, expected in zip(out, alone, strict=True):
            got = row[-len(expected) :] if left else row[: len(expected)]
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("mask", [[[0, 1, 1, 1], [1, 1, 1, 0]], [[1, 0, 1, 1], [1] * 4]], ids=["both", "middle"])
def test_beside_pictures_padding_is_on_one_side(llm: LLM, mask: list[list[int]]) -> None:
    """The rows get wider, so that there would be no telling where their tokens are in the result."""
    ids = [[9, 5, 6, 7], [*PLACE, 9]]
    with pytest.raises(InputError, match="on one side"):
        llm.logits(ids, attention_mask=mask, images=[picture(1)])
    out = llm.logits(ids, attention_mask=[[0] * 4, [1, 1, 1, 0]], images=[picture(1)])
    torch.testing.assert_close(out[1, :SLOTS], llm.logits(PLACE, images=[picture(1)])[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("padding", [PLACE, [BOI, 5, 6], [EOI, BOI, EOI]], ids=str)
def test_padding_holds_any_ids(llm: LLM, padding: list[int]) -> None:
    """A picture's among them: nobody looks at them."""
    expected = llm.logits([5, 6, 7])[0]
    out = llm.logits([[*padding, 5, 6, 7], [1, 2, 3, 4, 5, 6]], attention_mask=[[0, 0, 0, 1, 1, 1], [1] * 6])
    torch.testing.assert_close(out[0, 3:], expected, atol=1e-4, rtol=0)


def test_pictures_are_counted_before_any_is_opened(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand in a conversation that has room for forty would take gigabytes."""
    opened: list[object] = []
    monkeypatch.setattr(glm4.images, "load_picture", lambda source, where: opened.append(source))
    many = [png(picture(1))] * 1000
    with pytest.raises(PromptTooLong):
        llm.chat([{"role": "user", "content": [{"type": "image", "image": image} for image in many]}])
    for images in (many, iter(many), many[0]):
        with pytest.raises(InputError, match="pictures are given for 2 places"):
            llm.generate([5, *PLACE, *PLACE], images=images)
    assert not opened


def test_the_order_of_pictures_matters(llm: LLM) -> None:
    ids = [*PLACE, 5, *PLACE, 6]
    one, other = picture(1), picture(2)
    assert (llm.logits(ids, images=[one, other]) - llm.logits(ids, images=[other, one])).abs().max() > 0.5


def test_generate_equals_the_argmax_of_logits(llm: LLM) -> None:
    """Greedy through the cache against one full pass a token, positions shared by the patches included."""
    ids, images = [5, *PLACE, 7, *PLACE, 8], [picture(1), picture(2)]
    out = llm.generate(ids, images=images, max_tokens=12, temperature=0, ignore_eos=True)
    seen = list(ids)
    for token in out.token_ids:
        assert int(llm.logits(seen, images=images)[0, -1].argmax()) == token
        seen.append(token)
        if token in (BOI, EOI):
            break
    assert out.usage.prompt_tokens == len(ids) + 2 * (SLOTS - 3)


def test_a_list_of_prompts_shares_out_the_pictures(llm: LLM) -> None:
    prompts, images = [[5, *PLACE], [6, 7], [*PLACE, *PLACE, 8]], [picture(seed) for seed in (1, 2, 3)]
    kwargs: dict[str, Any] = {"max_tokens": 5, "temperature": 0, "ignore_eos": True}
    together = llm.generate(prompts, images=images, **kwargs)
    alone = [llm.generate(p, images=i, **kwargs) for p, i in zip(prompts, (images[:1], None, images[1:]), strict=True)]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]


def test_a_conversation_computes_each_picture_once(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a later turn brings the same picture as another object."""
    seen: list[int] = []
    see = type(llm.model).see
    monkeypatch.setattr(type(llm.model), "see", lambda model, pixels: seen.append(len(pixels)) or see(model, pixels))
    image = picture(77)
    messages: list[dict[str, Any]] = [{"role": "user", "image": image, "content": "hello"}]
    for text in ("the weather", "get"):
        messages.append(llm.chat(messages, max_tokens=4, temperature=0).message)
        messages.append({"role": "user", "content": text})
    messages[0]["image"] = png(image)
    llm.chat(messages, max_tokens=4)
    assert seen == [1]
    messages[-1]["content"] = [{"type": "image", "image": picture(78)}, {"type": "text", "text": "hello"}]
    llm.chat(messages, max_tokens=4)
    assert seen == [1, 1]


def test_chat_and_stream_agree(llm: LLM) -> None:
    messages = [{"role": "user", "image": picture(5), "content": "hello"}]
    whole = llm.chat(messages, max_tokens=9, temperature=0)
    pieces = list(llm.stream(messages, max_tokens=9, temperature=0))
    assert "".join(piece.text for piece in pieces) == whole.content
    assert whole.usage.prompt_tokens == len(llm.tokenizer.render(messages)) + SLOTS - 3


@pytest.mark.parametrize(
    ("ids", "n_images", "said"),
    [
        ([5, 6], 1, r"1 pictures are given for 0 places"),
        ([5, *PLACE], 0, r"0 pictures are given for 1 places"),
        ([5, *PLACE], 2, r"2 pictures are given for 1 places"),
        ([5, BOI, 6], 1, r"begin of image"),
        ([5, EOI, *PLACE], 1, r"begin of image"),
        ([BOI, EOI, BOI], 0, r"begin of image"),
    ],
)
def test_pictures_and_places_must_agree(llm: LLM, ids: list[int], n_images: int, said: str) -> None:
    images = [picture(seed) for seed in range(n_images)]
    for call in (llm.logits, llm.generate):
        with pytest.raises(InputError, match=said):
            call(ids, images=images)
    assert llm.generate([5, 6], max_tokens=2, ignore_eos=True).usage.completion_tokens == 2


@pytest.mark.parametrize("images", [["no such.png"], [b"not a picture"], [None], [5], 5, [[]], b"", "", {}], ids=repr)
def test_what_is_no_picture(llm: LLM, images: Any) -> None:
    with pytest.raises(InputError):
        llm.generate([5, *PLACE], images=images)
    with pytest.raises(InputError, match=r"the messages' pictures\[1\] is not a picture"):
        llm.chat([{"role": "user", "image": picture(1)}, {"role": "user", "image": b"junk"}])


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(3, 56, 56),
        torch.zeros(1, 3, 55, 56),
        torch.full((1, 3, 56, 56), torch.nan),
        torch.zeros(0, 3, 56, 56),
    ],
    ids=["one picture, no batch", "another size", "NaN", "none"],
)
def test_tensors_that_are_no_pixels(llm: LLM, pixels: torch.Tensor) -> None:
    with pytest.raises(InputError):
        llm.logits([5, *PLACE], images=pixels)


def test_positions_cannot_be_given_beside_pictures(llm: LLM) -> None:
    with pytest.raises(InputError, match="position_ids"):
        llm.logits([5, *PLACE], position_ids=[0, 1, 2, 3], images=[picture(1)])


def test_pictures_count_against_the_context(llm: LLM) -> None:
    places = CONTEXT // SLOTS + 1
    with pytest.raises(PromptTooLong, match=rf"has {places * SLOTS} tokens \({places * 3} of them for pictures\)"):
        llm.generate(PLACE * places, images=[picture(1)] * places)


def test_a_text_model_says_that_it_cannot_see(tmp_path: Path) -> None:
    text = load_model(random_checkpoint(tmp_path, seed=1, vocab_size=V))
    for call in (text.logits, text.generate):
        with pytest.raises(InputError, match="cannot see"):
            call([5, 6], images=[picture(1)])
    assert text.logits([5, 6], images=[]).shape == (1, 2, V)
    with pytest.raises(InputError, match=r"messages\[0\] has an image"):
        glm4.load_model().chat([{"role": "user", "image": picture(1), "content": "hello"}])


def test_no_more_features_are_kept_than_allowed(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used go first; a request's own are returned whatever their size."""
    one = SLOTS * llm.model.config.hidden_size * 4
    monkeypatch.setattr(glm4.vision, "KEPT_BYTES", 2 * one)
    encoder = glm4.vision.PictureEncoder(llm.model, "a model")
    pixels = encoder.pixels([picture(seed) for seed in (1, 2, 3, 1)], 4, "images")
    assert torch.equal(encoder.features(pixels), llm.model.see(pixels))
    seen: list[int] = []
    see = type(llm.model).see
    monkeypatch.setattr(type(llm.model), "see", lambda model, pixels: seen.append(len(pixels)) or see(model, pixels))
    for wanted in ([0, 2], [1], [0], [2]):  # the first two are known; the others drive each other out
        assert torch.equal(encoder.features(pixels[wanted]), see(llm.model, pixels[wanted]))
    assert sum(seen) == 3


def test_the_least_recently_used_features_go_first(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the oldest; and none keeps the memory of those that were computed together with it."""
    one = SLOTS * llm.model.config.hidden_size * 4
    monkeypatch.setattr(glm4.vision, "KEPT_BYTES", 2 * one)
    encoder = glm4.vision.PictureEncoder(llm.model, "a model")
    pixels = encoder.pixels([picture(seed) for seed in (1, 2, 3)], 3, "images")
    encoder.features(pixels[:2])
    assert {kept.untyped_storage().nbytes() for kept in encoder._known.values()} == {one}
    for used in (0, 2):  # the second picture has waited longest when the third comes
        encoder.features(pixels[used : used + 1])
    monkeypatch.setattr(type(llm.model), "see", lambda *_: pytest.fail("computed again"))
    encoder.features(pixels[:1])
