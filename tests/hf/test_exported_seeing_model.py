"""The exported GLM-4V: pictures at their places, alone and in batches, through every way of generating."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from exported import BOI, EOI, HOLDER, PLACE, V, load, load_tokenizer
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import glm4
from glm4.hf import export
from glm4.images import as_pixels
from glm4.models.glm4v import MEAN, STD
from glm4.models.language_model import PictureFormat

SLOTS = 6  # of one picture
CLOSE = {"atol": 1e-5, "rtol": 0}
ENDLESS = {"eos_token_id": None, "pad_token_id": HOLDER, "do_sample": False, "max_new_tokens": 8}
ONE = [5, 6, *PLACE, 7, 8]
TWO = [9, *PLACE, 10, *PLACE]
TEXT = [11, 12, 13]
NAMES = {
    "patch_embedding.proj.weight", "patch_embedding.proj.bias", "patch_embedding.cls_embedding",
    "patch_embedding.position_embedding.weight", "conv.weight", "conv.bias", "boi", "eoi",
    "linear_proj.linear_proj.weight", "linear_proj.norm1.weight", "linear_proj.norm1.bias",
    "linear_proj.gate_proj.weight", "linear_proj.dense_h_to_4h.weight", "linear_proj.dense_4h_to_h.weight",
    *(
        f"transformer.layers.{layer}.{part}.{kind}" for layer in range(2) for kind in ("weight", "bias")
        for part in (
            "attention.query_key_value", "attention.dense", "input_layernorm", "mlp.fc1", "mlp.fc2",
            "post_attention_layernorm",
        )
    ),
}  # fmt: skip


def pictures(*seeds: int) -> Tensor:
    """Normalised noise, one picture a seed."""
    return torch.cat([torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def batch(*rows: list[int]) -> dict[str, Tensor]:
    """Padded on the left, with its mask."""
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[HOLDER] * (width - len(row)) + row for row in rows]),
        "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
    }


def test_golden_through_the_export(shared: Path, tmp_path: Path) -> None:
    folder = shared / "golden" / "glm-4v-9b"
    recorded = load_file(folder / "expected.safetensors")
    model = load(export(folder, tmp_path / "exported"))
    ids, image = recorded["input_ids"], recorded["image"]
    with torch.no_grad():
        torch.testing.assert_close(model(ids, images=image).logits, recorded["logits"], atol=1e-4, rtol=0)
        seen = model.transformer.see(recorded["images"])
        torch.testing.assert_close(seen, recorded["vision_features"], atol=1e-4, rtol=0)
        text = model(recorded["text_input_ids"]).logits
        torch.testing.assert_close(text, recorded["text_logits"], atol=1e-4, rtol=0)
    for use_cache in (True, False):
        made = model.generate(
            ids, images=image, max_new_tokens=24, do_sample=False, eos_token_id=None, use_cache=use_cache
        )
        assert torch.equal(made[:, ids.shape[1] :], recorded["greedy_ids"])


def test_equal_to_our_own(seeing_checkpoint: Path, seeing_model: Any) -> None:
    llm = glm4.load_model(seeing_checkpoint, dtype="float32", device="cpu")
    names = {name.removeprefix("transformer.vision.") for name in seeing_model.state_dict() if ".vision." in name}
    assert names == NAMES
    for row, seeds in ((ONE, (1,)), (TWO, (2, 3)), (TEXT, ())):
        images = pictures(*seeds) if seeds else None
        with torch.no_grad():
            out = seeing_model(torch.tensor([row]), images=images).logits
        torch.testing.assert_close(out, llm.logits(row, images=images), **CLOSE)
        made = llm.generate(row, images=images, max_tokens=8, temperature=0, ignore_eos=True)
        theirs = seeing_model.generate(torch.tensor([row]), images=images, **ENDLESS)
        assert theirs[0, len(row) :].tolist() == list(made.token_ids)


@pytest.mark.parametrize("how", [{}, {"use_cache": False}], ids=str)
def test_rows_with_and_without_pictures_in_one_batch(how: dict[str, Any], seeing_model: Any) -> None:
    rows, seeds = (ONE, TEXT, TWO), ((1,), (), (2, 3))
    together = batch(*rows)
    with torch.no_grad():
        out = seeing_model(**together, images=pictures(1, 2, 3))
    assert out.logits.shape[1] == len(TWO) + 2 * (SLOTS - 3)
    made = seeing_model.generate(**together, images=pictures(1, 2, 3), **ENDLESS, **how)
    for i, (row, own) in enumerate(zip(rows, seeds, strict=True)):
        images = pictures(*own) if own else None
        with torch.no_grad():
            alone = seeing_model(torch.tensor([row]), images=images).logits[0]
        assert out.attention_mask[i].sum() == len(alone)
        torch.testing.assert_close(out.logits[i, -len(alone) :], alone, **CLOSE)
        expected = seeing_model.generate(torch.tensor([row]), images=images, **ENDLESS)[0, len(row) :]
        assert torch.equal(made[i, len(together["input_ids"][0]) :], expected)


def test_patches_share_a_position(seeing_model: Any) -> None:
    with torch.no_grad():
        out = seeing_model(torch.tensor([ONE]), images=pictures(1))
    assert out.position_ids[0].tolist() == [0, 1, 2, 3, 3, 3, 3, 4, 5, 6]
    assert out.attention_mask[0].tolist() == [1] * 10


@pytest.mark.parametrize("how", [{"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}], ids=str)
def test_beams(how: dict[str, Any], seeing_model: Any) -> None:
    """Each beam sees its row's pictures, of which the rows have different numbers."""
    together = batch(ONE, TWO, TEXT)
    made = seeing_model.generate(**together, images=pictures(1, 2, 3), **how, **ENDLESS)
    assert torch.equal(
        made, seeing_model.generate(**together, images=pictures(1, 2, 3), use_cache=False, **how, **ENDLESS)
    )
    alone = seeing_model.generate(torch.tensor([TWO]), images=pictures(2, 3), **how, **ENDLESS)
    n = how.get("num_return_sequences", 1)
    assert torch.equal(made[n : 2 * n, -8:], alone[:, -8:])


def test_a_cache_too_small_for_pictures_is_refused(seeing_model: Any) -> None:
    """transformers measures it by ids."""
    seeing_model = copy.deepcopy(seeing_model)  # 4.46 makes the cache a part of the model
    how = {**ENDLESS, "cache_implementation": "static"}
    with pytest.raises(ValueError, match=r"the cache has 1[45] slots.*has more slots than ids"):
        seeing_model.generate(torch.tensor([ONE]), images=pictures(1), **how)
    made = seeing_model.generate(torch.tensor([TEXT]), **how)
    assert torch.equal(made, seeing_model.generate(torch.tensor([TEXT]), **ENDLESS))


def test_a_begin_of_image_that_the_model_writes_is_text(seeing_model: Any) -> None:
    """Random weights may write one; then there is no picture to look for."""

    class Write(transformers.LogitsProcessor):  # type: ignore[misc]
        def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
            forced = [BOI, 5, EOI, BOI, BOI, EOI, 6, 7][ids.shape[1] - len(ONE)]
            return torch.full_like(scores, -1e4).index_fill(1, torch.tensor([forced]), 0.0)

    how = {**ENDLESS, "images": pictures(1), "logits_processor": transformers.LogitsProcessorList([Write()])}
    for use_cache in (True, False):
        made = seeing_model.generate(torch.tensor([ONE]), use_cache=use_cache, **how)
        assert made[0, len(ONE) :].tolist() == [BOI, 5, EOI, BOI, BOI, EOI, 6, 7]


def test_a_conversation_goes_on_behind_a_picture(seeing_model: Any) -> None:
    """From the cache of the turn before, and then with another picture."""
    first = seeing_model.generate(torch.tensor([ONE]), images=pictures(1), return_dict_in_generate=True, **ENDLESS)
    longer = torch.cat((first.sequences, torch.tensor([[9, *PLACE, 10]])), 1)
    fresh = seeing_model.generate(longer, images=pictures(1, 2), **ENDLESS)
    mask = torch.ones_like(longer)
    again = seeing_model.generate(
        longer, images=pictures(1, 2), attention_mask=mask, past_key_values=first.past_key_values, **ENDLESS
    )
    assert torch.equal(again, fresh)


def test_labels_are_widened(seeing_model: Any) -> None:
    """Whatever the picture's size; the original's width is fixed to 1,600 patches."""
    together = batch(ONE, TEXT)
    labels = together["input_ids"].masked_fill(together["attention_mask"] == 0, -100)
    labels[1, -len(TEXT)] = -100  # nothing stands before it that could foretell it
    with torch.no_grad():
        out = seeing_model(**together, images=pictures(1), labels=labels)
        total, count = torch.zeros(()), 0
        for i, (row, images) in enumerate(((ONE, pictures(1)), (TEXT, None))):
            logits = seeing_model(torch.tensor([row]), images=images).logits[0]
            # The slots whose next slot is a token that is no patch.
            slots = [(0, 6), (1, BOI), (6, EOI), (7, 7), (8, 8)] if i == 0 else [(0, 12), (1, 13)]
            for slot, token in slots:
                total -= logits[slot].log_softmax(-1)[token]
                count += 1
    torch.testing.assert_close(out.loss, total / count)


def test_training_reaches_the_tower(seeing_model: Any) -> None:
    model = copy.deepcopy(seeing_model).train().requires_grad_(True)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.zero_grad()
        model(torch.tensor([ONE]), images=pictures(1), labels=torch.tensor([ONE])).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    assert all(g.abs().max() > 0 for name, g in gradients[0].items())
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-5)


def test_saved_and_loaded_again(seeing_model: Any, seeing_folder: Path, tmp_path: Path) -> None:
    seeing_model.save_pretrained(tmp_path, max_shard_size="50KB")
    load_tokenizer(seeing_folder).save_pretrained(tmp_path)
    again, own = load(tmp_path), glm4.load_model(tmp_path, dtype="float32", device="cpu")
    with torch.no_grad():
        expected = seeing_model(torch.tensor([ONE]), images=pictures(1)).logits
        torch.testing.assert_close(again(torch.tensor([ONE]), images=pictures(1)).logits, expected, **CLOSE)
    torch.testing.assert_close(own.logits(ONE, images=pictures(1)), expected, **CLOSE)
    assert load_tokenizer(tmp_path).image_size == 56


def test_device_map(seeing_model: Any, seeing_folder: Path, tmp_path: Path) -> None:
    """The tower on the disk, half the decoder in memory."""
    device_map = {
        "transformer.vision": "disk",
        "transformer.embedding": "cpu",
        "transformer.encoder.layers.0": "cpu",
        "transformer.encoder.layers.1": "disk",
        "transformer.encoder.final_layernorm": "cpu",
        "transformer.output_layer": "cpu",
    }
    model = load(seeing_folder, device_map=device_map, offload_folder=str(tmp_path))
    assert model.transformer.vision.boi.is_meta
    with torch.no_grad():
        expected = seeing_model(torch.tensor([ONE]), images=pictures(1)).logits
        torch.testing.assert_close(model(torch.tensor([ONE]), images=pictures(1)).logits, expected, **CLOSE)


@pytest.mark.parametrize(
    ("row", "images", "words"),
    [
        (ONE, None, "places for pictures, and no pictures"),
        (ONE, pictures(1, 2), "2 images are given, input_ids has places for 1"),
        (TEXT, pictures(1), "1 images are given, input_ids has places for 0"),
        ([5, BOI, 6, EOI, 7, BOI], pictures(1), "a picture's place is three ids"),
        (ONE, torch.zeros(1, 3, 28, 28), r"shape \[1, 3, 28, 28\]"),
    ],
    ids=["none", "too many", "no place", "malformed", "size"],
)
def test_pictures_that_do_not_fit(row: list[int], images: Any, words: str, seeing_model: Any) -> None:
    with pytest.raises(ValueError, match=words):
        seeing_model(torch.tensor([row]), images=images)
    with torch.no_grad():
        assert seeing_model(torch.tensor([ONE]), images=pictures(1)).logits.isfinite().all()


def test_from_messages_to_a_reply(seeing_folder: Path, seeing_checkpoint: Path, seeing_model: Any) -> None:
    """apply_chat_template gives all that generate wants, and what the library itself computes from."""
    tokenizer = load_tokenizer(seeing_folder)
    llm = glm4.load_model(seeing_checkpoint, dtype="float32", device="cpu")
    image = Image.effect_noise((90, 40), 60).convert("RGB")
    for messages in (
        [{"role": "user", "image": image, "content": "hello"}],
        [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "hello"}]}],
        [{"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "image", "image": image}]}],
    ):
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        assert inputs["input_ids"][0].tolist() == llm.tokenizer.render(messages)
        torch.testing.assert_close(inputs["images"], as_pixels([image], PictureFormat(56, MEAN, STD)))
        made = seeing_model.generate(**inputs, **ENDLESS)
        own = llm.generate(inputs["input_ids"][0], images=[image], max_tokens=8, temperature=0, ignore_eos=True)
        assert made[0, inputs["input_ids"].shape[1] :].tolist() == list(own.token_ids)
    several = [
        [{"role": "user", "content": "hello"}],
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image", "image": image},
                    {"type": "text", "text": "b"},
                    {"type": "image", "image": image.rotate(90)},
                ],
            }
        ],
    ]
    inputs = tokenizer.apply_chat_template(
        several, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
    )
    assert inputs["images"].shape == (2, 3, 56, 56)
    for row, mask, messages in zip(inputs["input_ids"], inputs["attention_mask"], several, strict=True):
        assert row[mask.bool()].tolist() == llm.tokenizer.render(messages)
    assert seeing_model.generate(**inputs, **ENDLESS).shape == (2, inputs["input_ids"].shape[1] + 8)
    assert V > EOI
