"""ChatGLM-6B's forward pass: against the original, against float64, and each way of computing it against the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from chatglm6b_models import EOP, GMASK, MASK, SOP, greedy, load, logits, random_folder, random_tensors
from reference import chatglm6b_forward
from safetensors.torch import load_file
from torch import Tensor

from glm4.models.chatglm6b import ChatGLM6B, prefix_mask
from glm4.models.rope import two_row_angles

PROMPT = [5, 17, 301, 42, 42, 9, GMASK, SOP]
WITH_REPLY = [*PROMPT, 77, 12, EOP, 8]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ChatGLM6B:
    """Three layers of random weights."""
    return load(random_folder(tmp_path_factory.mktemp("model"), seed=3))


@pytest.mark.parametrize(("name", "atol"), [("chatglm-6b", 1e-4), ("chatglm-6b-int4", 1e-3)])
def test_the_originals_answers(shared: Path, name: str, atol: float) -> None:
    folder = shared / "golden" / name
    recorded, golden = load_file(folder / "expected.safetensors"), load(folder)
    assert recorded["logits"].abs().max() > 9
    out = logits(golden, recorded["input_ids"][0].tolist())
    torch.testing.assert_close(out, recorded["logits"][0], atol=atol, rtol=0)
    assert greedy(golden, recorded["greedy_prompt"][0].tolist(), 24) == recorded["greedy_ids"][0].tolist()


@pytest.mark.parametrize(
    "ids",
    [PROMPT, WITH_REPLY, [GMASK, SOP], [4, MASK, 6, 7, SOP, 1], [4, MASK, GMASK, 7, SOP, GMASK], [9, SOP, GMASK, 5]],
    ids=["prompt", "reply", "empty", "[MASK]", "both masks", "mask behind"],
)  # fmt: skip
def test_against_float64(ids: list[int], tmp_path: Path) -> None:
    config, tensors = random_tensors(seed=5)
    expected = chatglm6b_forward.forward(config, {name: t.double().numpy() for name, t in tensors.items()}, ids)
    out = logits(load(random_folder(tmp_path, seed=5)), ids)
    assert abs(expected).max() > 5
    torch.testing.assert_close(out.double(), torch.from_numpy(expected), atol=2e-4, rtol=0)


def test_positions_as_the_original_documents_them(model: ChatGLM6B) -> None:
    ids = torch.tensor([5, 6, 7, 8, GMASK, SOP, 9, 10, 11])
    rows = [[0, 1, 2, 3, 4, 4, 4, 4, 4], [0, 0, 0, 0, 0, 1, 2, 3, 4]]
    assert model.positions(ids).tolist() == rows
    assert model.positions(ids[:6], n_new=3).tolist() == rows
    # [gMASK] is preferred wherever it stands; the reply's first position is that of the mask token, not of <sop>.
    both = torch.tensor([MASK, 6, GMASK, 7, SOP])
    assert model.positions(both, 1).tolist() == [[0, 1, 2, 3, 2, 2], [0, 0, 0, 0, 1, 2]]
    assert model.positions(torch.tensor([MASK, 6, SOP]), 1).tolist() == [[0, 1, 0, 0], [0, 0, 1, 2]]


@pytest.mark.parametrize(
    ("ids", "lacks"), [([5, 6, GMASK], "<sop>"), ([5, 6, SOP], "mask token"), ([5], "<sop>"), ([], "<sop>")]
)
def test_a_prompt_without_its_frame(model: ChatGLM6B, ids: list[int], lacks: str) -> None:
    with pytest.raises(ValueError, match=rf"has no {lacks}: end it with \[gMASK\] and <sop>, ids {GMASK} and {SOP}"):
        model.positions(torch.tensor(ids, dtype=torch.long))
    assert model.positions(torch.tensor(PROMPT)).shape == (2, len(PROMPT))


def test_the_prompt_sees_itself_and_the_reply_looks_back_only() -> None:
    positions = torch.tensor([[[0, 1, 2, 1, 1], [0, 0, 0, 1, 2]]])
    mask = prefix_mask(positions, 0, None)
    assert mask is not None
    assert mask[0, 0].long().tolist() == [[1, 1, 1, 0, 0]] * 3 + [[1, 1, 1, 1, 0], [1] * 5]
    assert prefix_mask(positions[..., -1:], 4, None) is None
    later = prefix_mask(positions[..., 3:], 3, None)  # two tokens of a reply at once
    assert later is not None
    assert later[0, 0].long().tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    valid = torch.tensor([[False, True, True, True, True]])
    padded = prefix_mask(torch.tensor([[[0, 0, 1, 1, 1], [0, 0, 0, 1, 2]]]), 0, valid)
    assert padded is not None
    assert padded[0, 0].long().tolist() == [[1] * 5, [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 1]]


def test_a_later_token_of_the_prompt_is_seen_and_one_of_the_reply_is_not(model: ChatGLM6B) -> None:
    """Why a prompt cannot be computed in pieces, nor shared by its beginning."""
    out = logits(model, WITH_REPLY)
    other = [*PROMPT[:5], 200, *WITH_REPLY[6:]]
    assert (logits(model, other)[0] - out[0]).abs().max() > 0.1
    torch.testing.assert_close(logits(model, [*WITH_REPLY[:-1], 200])[:-1], out[:-1], atol=1e-5, rtol=0)
    assert not model.takes_chunks


@torch.inference_mode()
@pytest.mark.parametrize("step", [1, 3])
def test_cached_is_full(model: ChatGLM6B, step: int) -> None:
    full = logits(model, WITH_REPLY)
    ids, cache = torch.tensor([WITH_REPLY]), model.new_cache(1, 32)
    positions = model.positions(ids[0])[None]
    pieces = [len(PROMPT)] + [step] * 4
    out: list[Tensor] = []
    for size in pieces:
        here = slice(cache.length, min(cache.length + size, len(WITH_REPLY)))
        if here.start < here.stop:
            out.append(model(model.embed(ids[:, here]), positions[..., here], cache))
    torch.testing.assert_close(model.logits(torch.cat(out, dim=1))[0], full, atol=2e-4, rtol=0)


@torch.inference_mode()
def test_padded_on_the_left_is_alone(model: ChatGLM6B) -> None:
    """In one pass and through the cache, pads 0 and 0 in both rows; what the pads are does not matter."""
    short, long = [7, GMASK, SOP], PROMPT
    n_pads, reply = len(long) - len(short), [21, 22, 23]
    alone = [logits(model, prompt + reply) for prompt in (short, long)]
    for pad in (3, 250):
        ids = torch.tensor([[pad] * n_pads + short + reply, long + reply])
        positions = torch.zeros(2, 2, ids.shape[1], dtype=torch.long)
        positions[0, :, n_pads:] = model.positions(torch.tensor(short), 3)
        positions[1] = model.positions(torch.tensor(long), 3)
        valid = torch.ones(ids.shape, dtype=torch.bool)
        valid[0, :n_pads] = False
        cache = model.new_cache(2, 16)
        width = len(long)
        out = model(model.embed(ids[:, :width]), positions[..., :width], cache, valid[:, :width])
        steps = [out] + [
            model(model.embed(ids[:, t : t + 1]), positions[..., t : t + 1], cache, valid[:, : t + 1])
            for t in range(width, ids.shape[1])
        ]
        for batched in (torch.cat(steps, dim=1), model(model.embed(ids), positions, valid=valid)):
            assert batched.isfinite().all()
            both = model.logits(batched)
            torch.testing.assert_close(both[0, n_pads:], alone[0], atol=2e-4, rtol=0)
            torch.testing.assert_close(both[1], alone[1], atol=2e-4, rtol=0)


def test_half_precision_stays_near(tmp_path: Path) -> None:
    folder = random_folder(tmp_path, seed=8)
    exact = logits(load(folder), WITH_REPLY)
    for dtype, near in ((torch.float16, 0.15), (torch.bfloat16, 1.2)):
        out = logits(load(folder, dtype), WITH_REPLY)
        assert out.dtype == torch.float32
        assert (out - exact).abs().max() < near


def test_frequencies_are_float16s_and_angles_float32s() -> None:
    positions = torch.tensor([[[0, 1, 2000], [0, 0, 3]]])
    cos, sin = two_row_angles(positions, 128, 10000.0)
    assert cos.shape == sin.shape == (1, 1, 3, 2, 32)
    assert cos[0, 0, 1, 0, 1].item() == pytest.approx(torch.cos(torch.tensor(0.75)).item(), abs=1e-7)  # not 0.74989
    assert torch.equal(cos[0, 0, :2, 1], torch.ones(2, 32))
    torch.testing.assert_close(sin[0, 0, 2, 0, 1], torch.tensor(1500.0).sin())
    # The original on a GPU: position times frequency in float16, which has no 1023.75 at this size.
    frequency = torch.tensor(10000.0) ** (-2 / 64)
    far = torch.tensor([[[1365], [0]]])
    _, half = two_row_angles(far, 128, 10000.0, torch.float16)
    expected = (torch.tensor(1365.0).half() * frequency.half()).float()
    assert expected.item() == 1024.0
    torch.testing.assert_close(half[0, 0, 0, 0, 1], expected.sin())


def test_it_can_rotate_as_the_original_does_on_a_gpu(tmp_path: Path) -> None:
    one = load(random_folder(tmp_path))
    exact = logits(one, WITH_REPLY)
    one.angle_dtype = torch.float16
    difference = (logits(one, WITH_REPLY) - exact).abs().max()
    assert 1e-5 < difference < 0.3


def test_it_cannot_see(model: ChatGLM6B) -> None:
    assert model.pictures is None
    assert model.n_pictures(torch.tensor(PROMPT)) == 0
    with pytest.raises(ValueError, match="no vision tower"):
        model.embed(torch.tensor([PROMPT]), torch.zeros(1, 4, 32))
    with pytest.raises(ValueError, match="no vision tower"):
        model.see(torch.zeros(1, 3, 4, 4))
