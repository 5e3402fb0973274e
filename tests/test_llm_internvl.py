"""InternVL through the whole library: chat with pictures, history, several at once, batches, frames, streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from random_internvl import PER_PICTURE, write_checkpoint
from random_models import random_checkpoint
from safetensors.torch import load_file

import glm4
from glm4.errors import InputError, PromptTooLong
from glm4.llm import LLM
from glm4.messages import ImagePart, Message, TextPart

GREEDY = {"max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    """A random model with a tokenizer. Shared: no test may change it for good."""
    folder = tmp_path_factory.mktemp("internvl")
    write_checkpoint(folder, seed=11)
    return glm4.load_model(folder, device="cpu")


def picture(seed: int, size: tuple[int, int] = (70, 40)) -> Image.Image:
    """Noise, so that no two seeds look alike."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def user(text: str, *images: Any) -> Message:
    return Message("user", (*map(ImagePart, images), TextPart(text)))


def by_hand(llm: LLM, text: str, images: list[Any]) -> list[int]:
    """The reply to a prompt as the original writes it, ids and pictures given separately."""
    text = text.replace("<image>", "<img>" + "<IMG_CONTEXT>" * PER_PICTURE + "</img>")
    return llm.generate(llm.tokenizer.encode(text), images=images or None, **GREEDY).token_ids


def reply_ids(llm: LLM, messages: list[Any]) -> list[int]:
    return [i for delta in llm.stream(messages, **GREEDY) for i in delta.token_ids]


def test_golden(shared: Path) -> None:
    """What the original returned, by the library's own doors; without a tokenizer."""
    folder = shared / "golden" / "internvl-chat-v1-1"
    loaded, recorded = glm4.load_model(folder, device="cpu"), load_file(folder / "expected.safetensors")
    pixels, close = recorded["pixel_values"], {"atol": 1e-4, "rtol": 0}
    torch.testing.assert_close(loaded.logits(recorded["input_ids"], images=pixels[:1]), recorded["logits"], **close)
    two = loaded.logits(recorded["two_image_input_ids"], images=pixels)
    torch.testing.assert_close(two, recorded["two_image_logits"], **close)
    out = loaded.generate(recorded["input_ids"][0], images=pixels[:1], max_tokens=24, temperature=0, ignore_eos=True)
    assert out.token_ids == recorded["greedy_ids"][0].tolist()


@pytest.mark.parametrize("size", [56, 28])
def test_a_reply_may_hold_a_pictures_token(size: int, tmp_path: Path) -> None:
    """Which then stands for nothing; also where a picture is a single token, of 28 pixels."""
    write_checkpoint(tmp_path, seed=11, force_image_size=size)
    llm = glm4.load_model(tmp_path, device="cpu")
    context_id = llm.tokenizer.special_tokens["<IMG_CONTEXT>"]
    llm.model.lm_head = torch.nn.Linear(llm.model.config.hidden_size, llm.model.config.vocab_size)
    llm.model.lm_head.requires_grad_(False).weight.zero_()
    llm.model.lm_head.bias[context_id] = 9.0
    ids = llm.tokenizer.render([user("what", picture(1))])
    out = llm.generate(ids, images=[picture(1)], max_tokens=5, temperature=0)
    assert out.token_ids == [context_id] * 5


def test_padding_is_no_place_for_pictures(llm: LLM, tmp_path: Path) -> None:
    """However long, and whichever id it is: without a tokenizer, an id that repeats is taken for <IMG_CONTEXT>."""
    write_checkpoint(tmp_path, seed=11, tokenizer=False)
    context_id = llm.tokenizer.special_tokens["<IMG_CONTEXT>"]
    for loaded, padding in ((glm4.load_model(tmp_path, device="cpu"), 0), (llm, context_id)):
        for gap in (PER_PICTURE, PER_PICTURE + 1):
            ids = [[padding] * gap + [5, 6], list(range(10, 12 + gap))]
            out = loaded.logits(ids, attention_mask=[[0] * gap + [1, 1], [1] * (2 + gap)])
            torch.testing.assert_close(out[0, gap:], loaded.logits([5, 6])[0], atol=1e-4, rtol=0)


def test_pictures_are_prepared_as_the_card_does(llm: LLM) -> None:
    """Resized to a square, bicubic, proportions not kept; ImageNet's mean and deviation."""
    image = picture(1, (90, 30))
    small = np.asarray(image.resize((56, 56), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    pixels = (torch.from_numpy(small) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    ids = llm.tokenizer.render([user("what", image)])
    given = llm.logits(ids, images=pixels.permute(2, 0, 1)[None])
    torch.testing.assert_close(llm.logits(ids, images=[image]), given, atol=1e-4, rtol=1e-4)


def test_chat_with_history(llm: LLM) -> None:
    """Every turn's pictures are given again, as to the original, each at its place."""
    one, two = picture(1), picture(2)
    first = [user("what is it?", one)]
    assert reply_ids(llm, first) == by_hand(llm, " <human>: <image>\nwhat is it? <bot>:", [one])
    then = [*first, Message("assistant", "a cat"), user("and this?", two), Message("assistant", "a dog"), user("both?")]
    prompt = (
        " <human>: <image>\nwhat is it? <bot>: a cat</s><human>: <image>\nand this? <bot>: a dog</s>"
        "<human>: both? <bot>:"
    )
    assert reply_ids(llm, then) == by_hand(llm, prompt, [one, two])
    assert by_hand(llm, prompt, [one, two]) != by_hand(llm, prompt, [two, one])


def test_separate_and_combined(llm: LLM) -> None:
    """num_patches_list [1, 1] and [2]: the same pictures, other prompts."""
    one, two = picture(1), picture(2)
    separate = [user("Image-1: <image>\nImage-2: <image>\nthe same?", one, two)]
    text = " <human>: Image-1: <image>\nImage-2: <image>\nthe same? <bot>:"
    assert reply_ids(llm, separate) == by_hand(llm, text, [one, two])
    combined = [user("<image>\nthe same?", [one, two])]
    context = "<IMG_CONTEXT>" * 2 * PER_PICTURE
    text = f" <human>: <img>{context}</img>\nthe same? <bot>:"
    assert reply_ids(llm, combined) == by_hand(llm, text, [one, two])


def test_text_alone(llm: LLM) -> None:
    assert reply_ids(llm, [Message("user", "what?")]) == by_hand(llm, " <human>: what? <bot>:", [])


def test_batches(llm: LLM) -> None:
    """Prompts with one picture, two and none: each the same as alone; as logits too, padded on the right or left."""
    pictures = [picture(seed) for seed in (1, 2, 3)]
    prompts = [
        llm.tokenizer.render([user("one", pictures[0])]),
        llm.tokenizer.render([user("two", *pictures[1:])]),
        llm.tokenizer.render([Message("user", "none at all")]),
    ]
    each = [pictures[:1], pictures[1:], None]
    alone = [llm.generate(p, images=i, **GREEDY).token_ids for p, i in zip(prompts, each, strict=True)]
    assert [out.token_ids for out in llm.generate(prompts, images=pictures, **GREEDY)] == alone
    widest = max(map(len, prompts))
    for left in (True, False):
        rows = [[0] * (widest - len(p)) + p if left else p + [0] * (widest - len(p)) for p in prompts]
        mask = [
            [0] * (widest - len(p)) + [1] * len(p) if left else [1] * len(p) + [0] * (widest - len(p)) for p in prompts
        ]
        logits = llm.logits(rows, attention_mask=mask, images=pictures)
        for row, kept, prompt, images in zip(logits, mask, prompts, each, strict=True):
            expected = llm.logits(prompt, images=images)[0]
            torch.testing.assert_close(row[torch.tensor(kept).bool()], expected, atol=1e-3, rtol=1e-4)


def test_a_stream_joined_is_the_reply(llm: LLM) -> None:
    messages = [user("what is in the picture?", picture(4))]
    for seed in range(5):
        sampling = {"max_tokens": 20, "temperature": 3.0, "seed": seed}
        whole = llm.chat(messages, **sampling)
        assert whole.content == whole.content.strip()
        assert "".join(delta.text for delta in llm.stream(messages, **sampling)) == whole.content


def test_a_reply_ends_with_the_end_token(llm: LLM) -> None:
    assert llm.stop_token_ids == {2}


def test_weights_on_the_disk(llm: LLM, tmp_path: Path) -> None:
    """Tower, projection and decoder offloaded: the same, to the bit."""
    pytest.importorskip("accelerate", reason="NOT TESTED: device_map needs accelerate")
    write_checkpoint(tmp_path, seed=11)
    spread = glm4.load_model(tmp_path, device_map={"": "disk"}, offload_folder=tmp_path / "offloaded")
    ids = llm.tokenizer.render([user("what?", picture(1))])
    assert torch.equal(spread.logits(ids, images=[picture(1)]), llm.logits(ids, images=[picture(1)]))


def test_frames_of_a_video(llm: LLM) -> None:
    pytest.importorskip("av", reason="NOT TESTED: videos need PyAV, pip install av")
    from test_video import clip

    from glm4.video import read_frames, video_message

    frames = read_frames(clip(), 3)
    text = " <human>: Frame1: <image>\nFrame2: <image>\nFrame3: <image>\nwhat? <bot>:"
    assert reply_ids(llm, [video_message(clip(), "what?", 3)]) == by_hand(llm, text, frames)


# Bad input -----------------------------------------------------------------------------------------------------------


def test_more_or_fewer_pictures_than_places(llm: LLM) -> None:
    prompt = llm.tokenizer.render([user("Q", "any")])
    for images, says in (
        (None, "0 pictures are given for 1 places"),
        ([picture(1), picture(2)], "2 pictures are given for 1 places"),
    ):
        for attempt in (llm.generate, llm.logits):
            with pytest.raises(InputError, match=says):
                attempt(prompt, images=images)
    with pytest.raises(InputError, match="1 pictures are given for 0 places"):
        llm.generate([1, 5, 6], images=[picture(1)])
    context = llm.tokenizer.special_tokens["<IMG_CONTEXT>"]
    with pytest.raises(InputError, match="stands 3 times in a row; a picture takes 4"):
        llm.generate([1, context, context, context, 5], images=[picture(1)])
    assert llm.generate(prompt, images=[picture(1)], max_tokens=1).token_ids


def test_history_with_a_missing_picture(llm: LLM) -> None:
    messages = [Message("user", "<image>\nQ"), Message("assistant", "A"), user("<image>\nR", picture(1))]
    with pytest.raises(InputError, match=r"messages\[0\] says <image> 1 times and holds 0 pictures"):
        llm.chat(messages)


def test_pictures_for_a_text_model(tmp_path: Path) -> None:
    text_model = glm4.load_model(random_checkpoint(tmp_path), device="cpu")
    with pytest.raises(InputError, match="cannot see"):
        text_model.generate([1, 2, 3], images=[picture(1)])


def test_more_pictures_than_the_context_holds(llm: LLM) -> None:
    with pytest.raises(PromptTooLong, match=r"the context of .* is 256"):
        llm.chat([user("Q", *[picture(1)] * 60)])
