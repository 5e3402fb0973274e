"""GLM-4V: what the original returned, a float64 rewrite, and every way of computing the same prompts being the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_models import TINY_TOWER, load, logits, random_ids, random_seeing_model
from reference import glm4v_forward, glm_forward
from safetensors.torch import load_file
from torch import Tensor

from glm4.checkpoints import read_architecture, save_checkpoint
from glm4.models.batch import pad_prompts
from glm4.models.glm import GLM, GLMConfig
from glm4.models.glm4v import GLM4V

BOI, EOI, PLACEHOLDER = 300, 301, 302
PICTURE = [BOI, PLACEHOLDER, EOI]
EXACT = {"atol": 1e-4, "rtol": 0}  # float32 sums in another order, on logits of about 10

# Prompts by name; None where a picture stands.
PROMPTS: dict[str, list[int | None]] = {
    "in the middle": [5, 6, 7, None, 8, 9],
    "first": [None, 8, 9, 10],
    "last": [5, 6, None],
    "two": [5, None, 6, 7, None, 8],
    "three, two of them side by side": [5, None, None, 9, None, 4, 3],
    "none": [5, 6, 7, 8],
}


def ids_of(prompt: list[int | None]) -> Tensor:
    """[T]."""
    return torch.tensor([i for token in prompt for i in (PICTURE if token is None else [token])])


def pixels_for(prompt: list[int | None], size: int = 56, seed: int = 0) -> Tensor:
    """[N, 3, S, S]: another picture for each place, of values as normalising gives them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(prompt.count(None), 3, size, size, generator=generator)


@pytest.fixture(scope="module")
def model() -> GLM4V:
    """A small random one; its pictures have 4 patches."""
    return random_seeing_model(BOI, EOI, seed=7)


@torch.inference_mode()
def spliced(model: GLM4V, name: str, seed: int = 0, n_new: int = 0) -> tuple[Tensor, Tensor]:
    """hidden [1, slots, H] and positions [1, slots + n_new] of one of `PROMPTS`."""
    ids, pixels = ids_of(PROMPTS[name]), pixels_for(PROMPTS[name], seed=seed)
    features = model.see(pixels) if len(pixels) else None
    return model.embed(ids[None], features), model.positions(ids, n_new)[None]


@torch.inference_mode()
def alone(model: GLM4V, name: str, seed: int = 0) -> Tensor:
    """Its logits [slots, V]."""
    return model.logits(model(*spliced(model, name, seed)))[0]


@torch.inference_mode()
def greedy(model: GLM4V, ids: Tensor, features: Tensor | None, n_new: int) -> list[int]:
    """The most likely token, n_new times, through a cache: the obvious loop."""
    positions = model.positions(ids, n_new)[None]
    hidden = model.embed(ids[None], features)
    cache = model.new_cache(1, positions.shape[1])
    out: list[int] = []
    while len(out) < n_new:
        here = positions[:, cache.length : cache.length + hidden.shape[1]]
        out.append(int(model.logits(model(hidden, here, cache)[:, -1]).argmax()))
        hidden = model.embed(torch.tensor([out[-1:]]))
    return out


# The original --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    """A small checkpoint in the original's layout, with what the original code returned for it."""
    return shared / "golden" / "glm-4v-9b"


@pytest.fixture(scope="module")
def recorded(folder: Path) -> dict[str, Tensor]:
    """What it returned."""
    return load_file(folder / "expected.safetensors")


@pytest.fixture(scope="module")
def original(folder: Path) -> GLM4V:
    """The checkpoint."""
    loaded = load(folder)
    assert isinstance(loaded, GLM4V)
    return loaded


@torch.inference_mode()
def test_features_are_the_originals(original: GLM4V, recorded: dict[str, Tensor]) -> None:
    """Two pictures at once, marks included."""
    features = original.see(recorded["images"])
    assert recorded["vision_features"].std() > 0.01
    torch.testing.assert_close(features, recorded["vision_features"], atol=2e-6, rtol=0)


@torch.inference_mode()
def test_logits_are_the_originals(original: GLM4V, recorded: dict[str, Tensor]) -> None:
    """Of a prompt with a picture, and of two without."""
    ids = recorded["input_ids"]
    positions = original.positions(ids[0])[None]
    out = original.logits(original(original.embed(ids, original.see(recorded["image"])), positions))
    assert recorded["logits"].abs().max() > 8
    torch.testing.assert_close(out, recorded["logits"], **EXACT)
    texts = recorded["text_input_ids"]
    torch.testing.assert_close(logits(original, texts), recorded["text_logits"], **EXACT)


def test_greedy_ids_are_the_originals(original: GLM4V, recorded: dict[str, Tensor]) -> None:
    """24 tokens behind the picture: positions go on as if it were one token."""
    expected = recorded["greedy_ids"][0].tolist()
    with torch.inference_mode():
        features = original.see(recorded["image"])
    assert greedy(original, recorded["input_ids"][0], features, len(expected)) == expected


def test_a_checkpoint_written_again_is_the_same(original: GLM4V, folder: Path, tmp_path: Path) -> None:
    """Every tensor bit for bit, but for the rotary frequencies that nobody reads; and the same configuration."""
    save_checkpoint(original, tmp_path, layout="thudm")
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert before.keys() - after.keys() == {"transformer.rotary_pos_emb.inv_freq"}
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]), name
    assert read_architecture(tmp_path).config == read_architecture(folder).config == original.config


# The rewrite ---------------------------------------------------------------------------------------------------------

TOWERS = {
    "even grid": {},
    "odd grid, its last row and column dropped": {"image_size": 70, "n_heads": 2, "n_layers": 1, "scaling_factor": 1.5},
    "pixels left over, large eps": {"image_size": 61, "hidden_size": 24, "n_layers": 3, "norm_eps": 0.1},
}


@pytest.mark.parametrize("tower", TOWERS)
@torch.inference_mode()
def test_the_tower_equals_the_float64_rewrite(tower: str, tmp_path: Path) -> None:
    """In every number that a tower may differ in; in float64 too, so that nothing hides behind rounding."""
    config = replace(TINY_TOWER, **TOWERS[tower])
    model = random_seeing_model(BOI, EOI, seed=3, tower=config)
    save_checkpoint(model, tmp_path, layout="thudm")
    raw, weights = glm_forward.load(tmp_path)
    pixels = torch.randn(1, 3, config.image_size, config.image_size, generator=torch.Generator().manual_seed(4))
    expected = np.stack(glm4v_forward.see(raw, weights, pixels[0].double().numpy()))
    assert np.abs(expected).max() > 1
    model.vision.double()
    torch.testing.assert_close(model.see(pixels)[0], torch.from_numpy(expected), atol=1e-11, rtol=0)


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_equal_the_float64_rewrite(name: str, tmp_path: Path) -> None:
    """Pictures at their places, wherever and however many. The random tower magnifies rounding tenfold: in float64."""
    model = random_seeing_model(BOI, EOI, seed=7)
    save_checkpoint(model, tmp_path, layout="thudm")
    model.vision.double()
    pictures = list(pixels_for(PROMPTS[name]).double().numpy())
    raw, weights = glm_forward.load(tmp_path)
    expected = torch.from_numpy(glm4v_forward.forward(raw, weights, ids_of(PROMPTS[name]).tolist(), pictures))
    assert expected.abs().max() > 5
    torch.testing.assert_close(alone(model, name).double(), expected, **EXACT)


# Positions and places ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("in the middle", [0, 1, 2, 3, 4, 4, 4, 4, 5, 6, 7, 8, 9, 10]),
        ("first", [0, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("last", [0, 1, 2, 3, 3, 3, 3, 4, 5, 6, 7]),
        ("two", [0, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7, 7, 7, 7, 8, 9, 10, 11, 12]),
        ("none", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_positions(model: GLM4V, name: str, expected: list[int]) -> None:
    """All patches of a picture share one, and text goes on as if they were one token; then three new tokens."""
    ids = ids_of(PROMPTS[name])
    assert model.positions(ids, 3).tolist() == expected
    assert model.positions(ids).tolist() == expected[:-3]
    assert model.n_pictures(ids) == PROMPTS[name].count(None)
    assert spliced(model, name)[0].shape[1] == len(expected) - 3


@pytest.mark.parametrize(
    "ids",
    [
        [5, BOI, 6], [5, EOI], [BOI, EOI], [BOI, 1, 2, EOI], [EOI, 1, BOI], [BOI, BOI, EOI, EOI], [BOI, 1, EOI, BOI],
        [BOI, 1, EOI, 5, EOI], [BOI, BOI, EOI],
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_place(model: GLM4V, ids: list[int]) -> None:
    """Said by everything that looks for places, with where they begin and end."""
    begins, ends = [i for i, x in enumerate(ids) if x == BOI], [i for i, x in enumerate(ids) if x == EOI]
    expected = rf"three ids: .*begins at \[{str(begins)[1:-1]}\] and its ends at \[{str(ends)[1:-1]}\]"
    features = torch.zeros(1, 6, 32)
    for ask in (model.n_pictures, model.positions, lambda ids: model.embed(ids[None], features)):
        with pytest.raises(ValueError, match=expected):
            ask(torch.tensor(ids))


def test_more_or_fewer_pictures_than_places(model: GLM4V) -> None:
    """Both numbers are said."""
    ids = ids_of(PROMPTS["two"])[None]
    for n in (0, 1, 3):
        with pytest.raises(ValueError, match=f"{n} pictures are given, the prompt has places for 2"):
            model.embed(ids, torch.zeros(n, 6, 32))
    with pytest.raises(ValueError, match="1 pictures are given, the prompt has places for 0"):
        model.embed(ids_of(PROMPTS["none"])[None], torch.zeros(1, 6, 32))
    with pytest.raises(ValueError, match="places for pictures, and no pictures are given"):
        model.embed(ids)
    with pytest.raises(ValueError, match=r"hold \[2, 0\] pictures: embed them alone"):
        model.embed(torch.cat((ids, torch.ones_like(ids))), torch.zeros(2, 6, 32))


@pytest.mark.parametrize("shape", [(1, 5, 32), (1, 4, 32), (1, 6, 16), (1, 32), (1, 1602, 32)], ids=str)
def test_features_of_another_shape(model: GLM4V, shape: tuple[int, ...]) -> None:
    """A wrong patch count must not become a prompt of another length."""
    with pytest.raises(ValueError, match=r"features have shape .* expected \[1, 6, 32\]"):
        model.embed(ids_of(PROMPTS["first"])[None], torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 3, 28, 28), (1, 3, 56, 55), (1, 1, 56, 56), (3, 56, 56)], ids=str)
def test_pictures_of_another_shape(model: GLM4V, shape: tuple[int, ...]) -> None:
    """The tower has a place embedding a patch, and no more."""
    with pytest.raises(ValueError, match=r"the tower takes \[N, 3, 56, 56\]"):
        model.see(torch.zeros(shape))


def test_a_mark_that_the_model_writes_is_a_token(model: GLM4V) -> None:
    """Sampling may give anything, and decoding goes on."""
    for ids in ([[BOI]], [[EOI]], [[BOI], [EOI]], [[4, BOI]], [[BOI, 4]]):
        hidden = model.embed(torch.tensor(ids))
        assert torch.equal(hidden, model.embed_tokens(torch.tensor(ids)))


# Every way is the same -----------------------------------------------------------------------------------------------


def test_without_pictures_it_is_the_text_model(model: GLM4V) -> None:
    """Bit for bit."""
    fields = GLMConfig.__dataclass_fields__
    text = GLM(GLMConfig(**{name: getattr(model.config, name) for name in fields}))
    text.load_state_dict({name: w for name, w in model.state_dict().items() if not name.startswith("vision.")})
    ids = random_ids(1, 2, 9, vocab_size=BOI)
    with torch.inference_mode():
        assert torch.equal(logits(model, ids), logits(text, ids))
    assert text.pictures is None
    assert model.pictures.size == 56


@torch.inference_mode()
def test_the_three_tokens_of_a_place_are_not_read(model: GLM4V) -> None:
    """Whichever placeholder it is: its slots are the picture's."""
    features = model.see(pixels_for([None]))
    outs = [model.embed(torch.tensor([[5, BOI, placeholder, EOI, 9]]), features) for placeholder in (1, PLACEHOLDER)]
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0][:, 1:7], features)


def test_a_picture_changes_what_follows_it_and_nothing_before(model: GLM4V) -> None:
    """Causal, patches included."""
    one, other = alone(model, "in the middle", seed=0), alone(model, "in the middle", seed=1)
    torch.testing.assert_close(one[:4], other[:4], **EXACT)  # the begin mark is the same whatever the picture
    assert (one[-2:] - other[-2:]).abs().max() > 0.1


@pytest.mark.parametrize("chunks", [1, 3, 5, 100])
@pytest.mark.parametrize("name", ["two", "first"])
@torch.inference_mode()
def test_cached_and_chunked_equal_whole(model: GLM4V, name: str, chunks: int) -> None:
    """Cut anywhere, in the middle of a picture too."""
    hidden, positions = spliced(model, name)
    cache = model.new_cache(1, hidden.shape[1])
    pieces = [
        model(piece, here, cache)
        for piece, here in zip(hidden.split(chunks, 1), positions.split(chunks, 1), strict=True)
    ]
    torch.testing.assert_close(model.logits(torch.cat(pieces, 1))[0], alone(model, name), **EXACT)


@torch.inference_mode()
def test_decoding_equals_the_whole(model: GLM4V) -> None:
    """Tokens behind a prompt with two pictures, one by one, against one pass over all of it."""
    ids, new = ids_of(PROMPTS["two"]), [11, 12, 13, 14]
    features = model.see(pixels_for(PROMPTS["two"]))
    together = torch.cat((ids, torch.tensor(new)))
    whole = model.logits(model(model.embed(together[None], features), model.positions(together)[None]))
    positions = model.positions(ids, len(new))[None]
    assert torch.equal(positions[0], model.positions(together))
    hidden, cache = model.embed(ids[None], features), model.new_cache(1, positions.shape[1])
    outs = [model(hidden, positions[:, : hidden.shape[1]], cache)]
    for token in new:
        step = positions[:, cache.length : cache.length + 1]
        outs.append(model(model.embed(torch.tensor([[token]])), step, cache))
    torch.testing.assert_close(model.logits(torch.cat(outs, 1)), whole, **EXACT)


@pytest.mark.parametrize("side", ["left", "right"])
@torch.inference_mode()
def test_a_mixed_batch_equals_each_alone(model: GLM4V, side: Any) -> None:
    """Prompts without, with one, with three pictures, of five lengths."""
    prompts = [tuple(part[0] for part in spliced(model, name, seed)) for seed, name in enumerate(PROMPTS)]
    hidden, positions, valid = pad_prompts(prompts, side)
    assert valid is not None
    assert valid.sum(1).tolist() == [len(one) for _, one in prompts]
    out = model.logits(model(hidden, positions, valid=valid))
    for row, name in enumerate(PROMPTS):
        torch.testing.assert_close(out[row, valid[row]], alone(model, name, seed=row), **EXACT, msg=name)


@torch.inference_mode()
def test_a_mixed_batch_decodes_as_each_alone(model: GLM4V) -> None:
    """The batch that the original gets wrong: a picture in one row, padding in another, then new tokens."""
    n_new, names = 6, ["none", "two", "first"]
    expected = []
    for name in names:
        pixels = pixels_for(PROMPTS[name])
        features = model.see(pixels) if len(pixels) else None
        expected.append(greedy(model, ids_of(PROMPTS[name]), features, n_new))
    hidden, positions, valid = pad_prompts([tuple(part[0] for part in spliced(model, name)) for name in names])
    assert valid is not None
    cache = model.new_cache(len(names), hidden.shape[1] + n_new)
    out: list[list[int]] = [[] for _ in names]
    for _ in range(n_new):
        ids = model.logits(model(hidden, positions, cache, valid)[:, -1]).argmax(-1)
        for row, token in zip(out, ids.tolist(), strict=True):
            row.append(token)
        hidden, positions = model.embed(ids[:, None]), positions[:, -1:] + 1
        valid = torch.cat((valid, valid.new_ones(len(names), 1)), 1)
    assert out == expected


@torch.inference_mode()
def test_rows_of_one_batch_each_with_their_picture(model: GLM4V) -> None:
    """Features are given row by row."""
    ids = torch.tensor([[5, *PICTURE, 6], [*PICTURE, 7, 8]])
    pixels = pixels_for([None, None])
    features = model.see(pixels)
    both = model.embed(ids, features)
    for row in (0, 1):
        assert torch.equal(both[row], model.embed(ids[row : row + 1], features[row : row + 1])[0])


def test_padding_of_prompts() -> None:
    """Nothing to pad needs no mask; positions of two rows; no prompts at all."""
    generator = torch.Generator().manual_seed(0)
    hidden = [torch.randn(n, 4, generator=generator) for n in (3, 3, 2)]
    rows = [torch.arange(2 * len(h)).reshape(2, -1) for h in hidden]
    joined, positions, valid = pad_prompts([(hidden[0], rows[0]), (hidden[1], rows[1])])
    assert valid is None
    assert torch.equal(joined, torch.stack(hidden[:2]))
    assert torch.equal(positions, torch.stack(rows[:2]))
    joined, positions, valid = pad_prompts([(hidden[0], rows[0]), (hidden[2], rows[2])])
    assert valid is not None
    assert valid.tolist() == [[True, True, True], [False, True, True]]
    assert positions.tolist() == [[[0, 1, 2], [3, 4, 5]], [[0, 0, 1], [0, 2, 3]]]
    assert torch.equal(joined[1, 1:], hidden[2])
    assert not joined[1, 0].any()
    with pytest.raises(ValueError, match="no prompt"):
        pad_prompts([])


# The tower -----------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_pictures_are_seen_one_at_a_time(model: GLM4V, monkeypatch: pytest.MonkeyPatch) -> None:
    """The activations of one at 1120 pixels are hundreds of megabytes; none at all is fine too."""
    pixels = pixels_for([None] * 3)
    together = model.vision(pixels)
    sizes: list[int] = []
    handle = model.vision.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    seen, none = model.see(pixels), model.see(pixels[:0])
    handle.remove()
    assert sizes == [1, 1, 1]
    torch.testing.assert_close(seen, together, atol=2e-5, rtol=0)
    assert none.shape == (0, 6, 32)


@pytest.mark.parametrize(("tower", "decoder"), [("bfloat16", "float32"), ("float32", "bfloat16")])
@torch.inference_mode()
def test_the_tower_may_be_in_another_dtype(tower: str, decoder: str) -> None:
    """As beside a quantized decoder: features are seen in the tower's, and spliced in the decoder's."""
    model = random_seeing_model(BOI, EOI, seed=7)
    pixels, whole = pixels_for([None]), alone(model, "in the middle")
    exact = model.see(pixels)
    model.to(getattr(torch, decoder)).vision.to(getattr(torch, tower))
    features, (hidden, _) = model.see(pixels), spliced(model, "in the middle")
    assert features.dtype == getattr(torch, tower)
    assert hidden.dtype == getattr(torch, decoder)
    assert torch.equal(hidden[:, 3:9], features.to(hidden.dtype))
    off = (features.float() - exact).norm() / exact.norm()
    assert off < 0.05, f"features off by {off:.3f} of their size"
    off = (alone(model, "in the middle") - whole).norm() / whole.norm()
    assert 0 < off < 0.15, f"logits off by {off:.3f} of their size"
