"""The three text models against what the original code returned for them (float32, CPU)."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import glm4
from glm4.llm import LLM

CLOSE = {"atol": 1e-4, "rtol": 0}  # logits reach about 15


@pytest.fixture
def recorded(golden: Path) -> dict[str, Tensor]:
    """What the original returned."""
    return load_file(golden / "expected.safetensors")


@pytest.fixture
def llm(golden: Path) -> LLM:
    """The checkpoint; loading one as it was published must not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return glm4.load_model(golden, device="cpu")


def test_logits(llm: LLM, recorded: dict[str, Tensor]) -> None:
    """Two prompts at once."""
    assert recorded["logits"].abs().max() > 9
    torch.testing.assert_close(llm.logits(recorded["input_ids"]), recorded["logits"], **CLOSE)
    alone = llm.logits(recorded["input_ids"][1].tolist())
    torch.testing.assert_close(alone[0], recorded["logits"][1], **CLOSE)


@pytest.mark.parametrize("pad_id", [620, 0], ids=["the pad token", "another token"])
def test_logits_behind_left_padding(llm: LLM, recorded: dict[str, Tensor], pad_id: int) -> None:
    """Five pads in front: the rows behind them, whether positions are given (as the original has them) or derived."""
    ids = recorded["input_ids"][:1]
    padded = torch.cat((torch.full((1, 5), pad_id), ids), dim=1)
    mask = torch.tensor([[0] * 5 + [1] * ids.shape[1]])
    positions = torch.tensor([[0] * 5 + list(range(ids.shape[1]))])
    for position_ids in (None, positions):
        out = llm.logits(padded, position_ids=position_ids, attention_mask=mask)
        torch.testing.assert_close(out[:, 5:], recorded["padded_logits"], **CLOSE)


def test_logits_at_strided_positions(llm: LLM, recorded: dict[str, Tensor]) -> None:
    """Every fortieth position, up to 1440: the rotary base matters here."""
    out = llm.logits(recorded["input_ids"][:1], position_ids=recorded["strided_position_ids"])
    torch.testing.assert_close(out, recorded["strided_logits"], **CLOSE)


def test_greedy_ids(llm: LLM, recorded: dict[str, Tensor]) -> None:
    """The same 24 tokens, through the cache, from ids in a list or a tensor."""
    prompt, expected = recorded["greedy_prompt"], recorded["greedy_ids"][0].tolist()
    for form in (prompt[0].tolist(), prompt[0]):
        out = llm.generate(form, max_tokens=24, temperature=0, ignore_eos=True)
        assert out.token_ids == expected
    assert llm.stop_token_ids == {620, 627, 629}
