"""The rest of the family against what the original code returned for it (float32, CPU), through the whole library."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import glm4
from glm4.errors import InputError
from glm4.llm import LLM

CLOSE = {"atol": 1e-4, "rtol": 0}
CLOSE_INT4 = {"atol": 1e-3, "rtol": 0}
CONTEXT_ID = 637  # what the recorded InternVL prompts hold where a picture stands


def load(folder: Path) -> tuple[LLM, dict[str, Tensor]]:
    """The checkpoint, which must not warn, and what the original returned."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return glm4.load_model(folder, device="cpu", dtype="float32"), load_file(folder / "expected.safetensors")


def greedy(llm: LLM, prompt: Tensor, **kwargs: object) -> list[int]:
    """24 tokens."""
    return llm.generate(prompt, max_tokens=24, temperature=0, ignore_eos=True, **kwargs).token_ids


def test_glm_4v(shared: Path) -> None:
    llm, recorded = load(shared / "golden" / "glm-4v-9b")
    ids, pixels = recorded["input_ids"], recorded["images"]
    assert recorded["logits"].abs().max() > 5
    torch.testing.assert_close(llm.model.see(pixels), recorded["vision_features"], **CLOSE)
    torch.testing.assert_close(llm.logits(ids, images=pixels[:1]), recorded["logits"], **CLOSE)
    torch.testing.assert_close(llm.logits(recorded["text_input_ids"]), recorded["text_logits"], **CLOSE)
    assert greedy(llm, ids[0], images=recorded["image"]) == recorded["greedy_ids"][0].tolist()
    assert llm.stop_token_ids == {620, 627, 629}


@pytest.mark.parametrize(("name", "close"), [("chatglm-6b", CLOSE), ("chatglm-6b-int4", CLOSE_INT4)])
def test_chatglm_6b(name: str, close: dict[str, float], shared: Path) -> None:
    llm, recorded = load(shared / "golden" / name)
    assert recorded["logits"].abs().max() > 1
    torch.testing.assert_close(llm.logits(recorded["input_ids"]), recorded["logits"], **close)
    sampling = llm.default_sampling  # its chat() has them in the code, no file says them
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.95, 0.7, 50)
    assert greedy(llm, recorded["greedy_prompt"][0]) == recorded["greedy_ids"][0].tolist()
    with pytest.raises(InputError, match="the prompt cannot be used"):
        llm.generate([5, 6, 7], max_tokens=1)  # without [gMASK]<sop>
    assert greedy(llm, recorded["greedy_prompt"][0]) == recorded["greedy_ids"][0].tolist()


def test_chatglm_6b_in_a_padded_batch(shared: Path) -> None:
    """Two prompts of different lengths, padded on the left as its tokenizer pads: each as it is alone."""
    llm, recorded = load(shared / "golden" / "chatglm-6b")
    long, short = recorded["input_ids"][0].tolist(), recorded["greedy_prompt"][0].tolist()
    gap = len(long) - len(short)
    out = llm.logits([long, [3] * gap + short], attention_mask=[[1] * len(long), [0] * gap + [1] * len(short)])
    torch.testing.assert_close(out[:1], recorded["logits"], **CLOSE)
    torch.testing.assert_close(out[1:, gap:], llm.logits(short), **CLOSE)


def test_internvl(shared: Path, tmp_path: Path) -> None:
    """The recorded checkpoint has no tokenizer, so the id of a picture's places is written into its config.json."""
    source = shared / "golden" / "internvl-chat-v1-1"
    for file in ("pytorch_model.bin", "expected.safetensors"):
        shutil.copy(source / file, tmp_path)
    config = json.loads((source / "config.json").read_text()) | {"img_context_token_id": CONTEXT_ID}
    (tmp_path / "config.json").write_text(json.dumps(config))
    llm, recorded = load(tmp_path)
    assert llm.default_sampling.temperature == 0
    pixels = recorded["pixel_values"]
    torch.testing.assert_close(llm.model.see(pixels), recorded["vision_features"], **CLOSE)
    torch.testing.assert_close(llm.logits(recorded["input_ids"], images=pixels[:1]), recorded["logits"], **CLOSE)
    two = llm.logits(recorded["two_image_input_ids"], images=pixels)
    torch.testing.assert_close(two, recorded["two_image_logits"], **CLOSE)
    assert greedy(llm, recorded["input_ids"][0], images=pixels[:1]) == recorded["greedy_ids"][0].tolist()
    with pytest.raises(InputError, match="places"):
        llm.generate(recorded["two_image_input_ids"][0], images=pixels[:1])
