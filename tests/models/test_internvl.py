"""InternVL-Chat-V1-1 against the original's answers, and its halves against transformers' own."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from random_internvl import PER_PICTURE, random_internvl, randomised
from safetensors.torch import load_file
from torch import Tensor

from glm4.checkpoints import load_model_weights, read_architecture
from glm4.models import internvl
from glm4.models.intern_vit import InternViT, InternViTConfig
from glm4.models.internvl import InternVL, pixel_shuffle
from glm4.models.llama import Llama, LlamaConfig

GOLDEN = {"atol": 1e-4, "rtol": 0}
EQUAL = {"atol": 1e-4, "rtol": 1e-5}  # another order of the same float32 sums; logits reach 15

# The original's answers ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    """The small checkpoint in the original's layout."""
    return shared / "golden" / "internvl-chat-v1-1"


@pytest.fixture(scope="module")
def recorded(folder: Path) -> dict[str, Tensor]:
    """What the original returned for it."""
    return load_file(folder / "expected.safetensors")


@pytest.fixture(scope="module")
def golden_model(folder: Path) -> InternVL:
    """Loading it as published must not warn: what is not used is known."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        architecture = read_architecture(folder)
        model = load_model_weights(folder, architecture, dtype=torch.float32, device=torch.device("cpu"))
    assert isinstance(model, InternVL)
    return model


@torch.inference_mode()
def logits(model: Llama, ids: Tensor, features: Tensor | None = None, **kwargs: Any) -> Tensor:
    """[B, T] -> [B, T, V] in one piece."""
    positions = torch.stack([model.positions(row) for row in ids])
    return model.logits(model(model.embed(ids, features), positions, **kwargs))


@torch.inference_mode()
def greedy(model: Llama, ids: list[int], features: Tensor | None, n_new: int) -> list[int]:
    """The likeliest continuation, through the cache."""
    prompt = torch.tensor(ids)
    positions = model.positions(prompt, n_new)[None]
    cache = model.new_cache(1, len(ids) + n_new)
    hidden = model.embed(prompt[None], features)
    out: list[int] = []
    for step in range(n_new):
        at = slice(0, len(ids)) if step == 0 else slice(len(ids) + step - 1, len(ids) + step)
        last = model(hidden, positions[:, at], cache)[:, -1]
        out.append(int(model.logits(last).argmax()))
        hidden = model.embed(torch.tensor([[out[-1]]]))
    return out


def test_golden_features(golden_model: InternVL, recorded: dict[str, Tensor]) -> None:
    with torch.inference_mode():
        features = golden_model.see(recorded["pixel_values"])
    torch.testing.assert_close(features, recorded["vision_features"], **GOLDEN)


@pytest.mark.parametrize(
    ("ids", "expected", "n"), [("input_ids", "logits", 1), ("two_image_input_ids", "two_image_logits", 2)]
)
def test_golden_logits(golden_model: InternVL, recorded: dict[str, Tensor], ids: str, expected: str, n: int) -> None:
    assert recorded[expected].abs().max() > 6
    features = golden_model.see(recorded["pixel_values"][:n])
    assert golden_model.n_pictures(recorded[ids][0]) == n
    torch.testing.assert_close(logits(golden_model, recorded[ids], features), recorded[expected], **GOLDEN)
    if n == 2:  # the order of the pictures matters, so that the comparison means something
        swapped = logits(golden_model, recorded[ids], features.flip(0))
        assert (swapped - recorded[expected]).abs().max() > 0.1


def test_golden_greedy_ids(golden_model: InternVL, recorded: dict[str, Tensor]) -> None:
    features = golden_model.see(recorded["pixel_values"][:1])
    out = greedy(golden_model, recorded["input_ids"][0].tolist(), features, 24)
    assert out == recorded["greedy_ids"][0].tolist()


def test_golden_with_the_context_id_stated(golden_model: InternVL, recorded: dict[str, Tensor]) -> None:
    """As the tokenizer would; without one it is found in the prompt, which the tests above rely on."""
    assert golden_model.config.img_context_id is None
    stated = InternVL(replace(golden_model.config, img_context_id=int(recorded["input_ids"][0, 9])))
    stated.load_state_dict(golden_model.state_dict())
    features = golden_model.see(recorded["pixel_values"][:1])
    torch.testing.assert_close(logits(stated, recorded["input_ids"], features), recorded["logits"], **GOLDEN)


# transformers' LLaMA -------------------------------------------------------------------------------------------------


def llama_config(**changes: Any) -> LlamaConfig:
    """A small decoder with grouped heads."""
    base = LlamaConfig(
        vocab_size=160, hidden_size=48, ffn_size=80, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=8,
        rope_theta=10000.0, norm_eps=1e-5, max_positions=256,
    )  # fmt: skip
    return replace(base, **changes)


def their_llama(model: Llama) -> Any:
    """transformers' model with the same weights."""
    from transformers import LlamaConfig as Theirs
    from transformers import LlamaForCausalLM

    c = model.config
    theirs = LlamaForCausalLM(
        Theirs(
            vocab_size=c.vocab_size,
            hidden_size=c.hidden_size,
            intermediate_size=c.ffn_size,
            num_hidden_layers=c.n_layers,
            num_attention_heads=c.n_heads,
            num_key_value_heads=c.n_kv_heads,
            head_dim=c.head_dim,
            rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta},
            rms_norm_eps=c.norm_eps,
            max_position_embeddings=c.max_positions,
            tie_word_embeddings=False,
        )
    ).eval()
    ours, q, kv = model.state_dict(), c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    state = {}
    for name, tensor in ours.items():
        if "qkv_proj" in name:
            parts = tensor.split((q, kv, kv))
            state |= {"model." + name.replace("qkv", part): t for part, t in zip("qkv", parts, strict=True)}
        elif "gate_up_proj" in name:
            parts = tensor.chunk(2)
            state |= {"model." + name.replace("gate_up", p): t for p, t in zip(("gate", "up"), parts, strict=True)}
        else:
            state[name if name.startswith("lm_head") else "model." + name] = tensor
    theirs.load_state_dict(state, strict=True)
    return theirs


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"n_kv_heads": 6}, {"n_kv_heads": 1, "head_dim": 12}, {"rope_theta": 500000.0, "n_kv_heads": 3},
        {"n_layers": 1, "head_dim": 2, "norm_eps": 1e-2},
    ],
    ids=["grouped", "one group a head", "one group", "theta", "narrow"],
)  # fmt: skip
@pytest.mark.parametrize("seed", [1, 2])
def test_llama_is_transformers(changes: dict[str, Any], seed: int) -> None:
    model = randomised(Llama(llama_config(**changes)), seed)
    ids = torch.randint(160, (2, 40), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        expected = their_llama(model)(ids).logits
    assert expected.abs().max() > 5
    torch.testing.assert_close(logits(model, ids), expected, **EQUAL)


def test_llama_in_pieces_and_behind_padding() -> None:
    """Chunks through the cache equal the whole, and a row padded on the left equals transformers' with a mask."""
    model = randomised(Llama(llama_config()), 5)
    ids = torch.randint(160, (2, 30), generator=torch.Generator().manual_seed(5))
    whole = logits(model, ids)
    cache, pieces = model.new_cache(2, 30), []
    with torch.inference_mode():
        for start, end in ((0, 7), (7, 8), (8, 29), (29, 30)):
            positions = torch.arange(start, end).expand(2, -1)
            pieces.append(model.logits(model(model.embed(ids[:, start:end]), positions, cache)))
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole, **EQUAL)

        valid = torch.ones_like(ids, dtype=torch.bool)
        valid[0, :4] = False
        positions = (valid.cumsum(1) - 1).clamp(min=0)
        ours = model.logits(model(model.embed(ids), positions, valid=valid))
        theirs = their_llama(model)(ids, attention_mask=valid.long(), position_ids=positions).logits
    torch.testing.assert_close(ours[valid], theirs[valid], **EQUAL)
    torch.testing.assert_close(ours[0, 4:], logits(model, ids[:1, 4:])[0], **EQUAL)


def test_llama_alone_sees_nothing() -> None:
    model = Llama(llama_config())
    assert model.pictures is None
    assert model.n_pictures(torch.tensor([1, 2])) == 0
    for attempt in (
        lambda: model.see(torch.zeros(1, 3, 8, 8)),
        lambda: model.embed(torch.tensor([[1]]), torch.zeros(1)),
    ):
        with pytest.raises(ValueError, match="no vision tower"):
            attempt()


# transformers' InternViT ---------------------------------------------------------------------------------------------


def their_tower(model: InternViT) -> Any:
    """transformers' InternVLVisionModel with the same weights."""
    from transformers import InternVLVisionConfig, InternVLVisionModel

    c = model.config
    theirs = InternVLVisionModel(
        InternVLVisionConfig(
            hidden_size=c.hidden_size,
            num_hidden_layers=c.n_layers,
            num_attention_heads=c.n_heads,
            intermediate_size=c.ffn_size,
            norm_type="rms_norm",
            attention_bias=False,
            use_qk_norm=True,
            layer_norm_eps=c.norm_eps,
            image_size=[c.stored_grid * c.patch_size] * 2,
            patch_size=[c.patch_size] * 2,
            hidden_act="gelu",
        )
    ).eval()
    renamed = {
        "class_embedding": "embeddings.cls_token",
        "position_embedding": "embeddings.position_embeddings",
        "patch_embedding": "embeddings.patch_embeddings.projection",
        "layers": "encoder.layer",
    }
    inner = {
        "attn.proj": "attention.projection_layer", "attn.q_norm": "attention.q_norm", "attn.k_norm": "attention.k_norm",
        "norm1": "layernorm_before", "norm2": "layernorm_after", "ls1": "lambda_1", "ls2": "lambda_2",
    }  # fmt: skip
    state = {}
    for name, tensor in model.state_dict().items():
        head, _, rest = name.partition(".")
        name = f"{renamed[head]}.{rest}".rstrip(".")
        for ours, their in inner.items():
            name = name.replace(ours, their)
        if "attn.qkv" in name:
            parts = tensor.chunk(3)
            state |= {name.replace("attn.qkv", f"attention.{p}_proj"): t for p, t in zip("qkv", parts, strict=True)}
        else:
            state[name] = tensor
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert not missing
    return theirs


TINY_TOWER = InternViTConfig(
    image_size=56, patch_size=14, stored_grid=4, hidden_size=48, ffn_size=64, n_layers=4, n_stored_layers=4, n_heads=6,
    norm_eps=1e-6,
)  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"n_heads": 3, "hidden_size": 24}, {"image_size": 84}, {"image_size": 112, "stored_grid": 5},
        {"image_size": 28, "stored_grid": 6, "patch_size": 7},
    ],
    ids=["plain", "other sizes", "larger pictures", "twice the grid", "smaller grid"],
)  # fmt: skip
@pytest.mark.parametrize("seed", [1, 2])
def test_tower_is_transformers(changes: dict[str, int], seed: int) -> None:
    config = replace(TINY_TOWER, **changes)
    model = randomised(InternViT(config), seed)
    size = config.image_size
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        states = their_tower(model)(pixels, output_hidden_states=True).hidden_states
        # hidden_states[i] is the output of block i; number 0 are the embeddings
        for n_layers in (4, 1):
            ours = InternViT(replace(config, n_layers=n_layers))
            ours.load_state_dict({k: v for k, v in model.state_dict().items() if k in ours.state_dict()})
            torch.testing.assert_close(ours(pixels), states[n_layers][:, 1:], **EQUAL)


def test_tower_has_only_the_blocks_that_matter() -> None:
    """hidden_states[-4] of 6 layers is the output of the third."""
    model = random_internvl()
    assert (model.config.vision.n_layers, model.config.vision.n_stored_layers) == (3, 6)
    assert len(model.vision_model.layers) == 3
    for select, expected in ((-1, 6), (-6, 1), (2, 2), (None, 3)):
        assert random_internvl(select_layer=select).config.vision.n_layers == expected


# Between the two -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("grid", "merged"), [(4, 2), (6, 2), (6, 3), (32, 2), (4, 1)])
def test_pixel_shuffle_takes_these_patches(grid: int, merged: int) -> None:
    """Channel by channel, spelled out: in v1, token t = (a, b) holds the square in column a and row b."""
    patches = torch.arange(grid * grid * 3.0).view(1, grid * grid, 3)
    per_side = grid // merged
    for version in ("v1", "v2"):
        shuffled = pixel_shuffle(patches, merged, version)
        assert shuffled.shape == (1, per_side**2, merged**2 * 3)
        for t in range(per_side**2):
            column, row = divmod(t, per_side) if version == "v1" else divmod(t, per_side)[::-1]
            square = [
                patches[0, (row * merged + i) * grid + column * merged + j]
                for i in range(merged)
                for j in range(merged)
            ]
            assert torch.equal(shuffled[0, t], torch.cat(square))


def test_pixel_shuffle_v2_is_transformers() -> None:
    """And v1 is the same with the grid of tokens transposed."""
    from transformers.models.internvl.modeling_internvl import InternVLModel

    patches = torch.randn(2, 64, 5, generator=torch.Generator().manual_seed(0))
    theirs = InternVLModel.pixel_shuffle(None, patches.view(2, 8, 8, 5), 0.5).reshape(2, 16, 20)
    assert torch.equal(pixel_shuffle(patches, 2, "v2"), theirs)
    transposed = theirs.view(2, 4, 4, 20).transpose(1, 2).reshape(2, 16, 20)
    assert torch.equal(pixel_shuffle(patches, 2, "v1"), transposed)


def test_projection_is_what_the_names_say() -> None:
    """mlp1 is LayerNorm(eps 1e-5), Linear, GELU (erf), Linear."""
    model = random_internvl(4)
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(4))
    x = pixel_shuffle(model.vision_model(pixels), 2, "v1").double()
    w = {name: tensor.double() for name, tensor in model.mlp1.state_dict().items()}
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    x = (x * w["0.weight"] + w["0.bias"]) @ w["1.weight"].T + w["1.bias"]
    x = x * 0.5 * (1 + torch.erf(x / 2**0.5)) @ w["3.weight"].T + w["3.bias"]
    torch.testing.assert_close(model.see(pixels).double(), x, atol=1e-5, rtol=1e-5)


def test_pictures_are_seen_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: each gives the same as alone."""
    model = random_internvl(6)
    pixels = torch.randn(5, 3, 56, 56, generator=torch.Generator().manual_seed(6))
    alone = torch.cat([model.see(picture[None]) for picture in pixels])
    assert (alone[0] - alone[1]).abs().max() > 0.1
    sizes: list[int] = []
    model.vision_model.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[0]))
    monkeypatch.setattr(internvl, "SEEN_AT_ONCE", 2)
    torch.testing.assert_close(model.see(pixels), alone, **EQUAL)
    assert sizes == [2, 2, 1]
    assert model.see(pixels[:0]).shape == (0, PER_PICTURE, 32)


CONTEXT = 320
PLACE = [CONTEXT] * PER_PICTURE


def with_context(seed: int = 7) -> InternVL:
    """A model that knows its context id."""
    return random_internvl(seed, img_context_token_id=CONTEXT)


def test_features_take_the_places_in_order() -> None:
    """Over the rows of a batch, and several in a row of ids: combined pictures, which have one place together."""
    model = with_context()
    features = torch.randn(3, PER_PICTURE, 32, generator=torch.Generator().manual_seed(7))
    ids = torch.tensor([[1, *PLACE, 2, 3, *PLACE], [4, 5, *PLACE, 6, 7, 8, 9, 1]])
    hidden = model.embed(ids, features)
    words = model.embed_tokens(ids)
    assert torch.equal(hidden[0, 1:5], features[0])
    assert torch.equal(hidden[0, 7:11], features[1])
    assert torch.equal(hidden[1, 2:6], features[2])
    text = ids != CONTEXT
    assert torch.equal(hidden[text], words[text])
    combined = model.embed(torch.tensor([[1, *PLACE, *PLACE, 2]]), features[:2])
    assert torch.equal(combined[0, 1:9], features[:2].flatten(0, 1))
    assert model.n_pictures(torch.tensor([1, *PLACE, *PLACE, 2])) == 2


def test_batch_is_each_row_alone() -> None:
    """A row with a picture, one with two, and one with none."""
    model = with_context(8)
    features = model.see(torch.randn(3, 3, 56, 56, generator=torch.Generator().manual_seed(8)))
    rows = [[1, *PLACE, 2, 3, 9, 11, 12], [1, *PLACE, *PLACE, 4], [*range(30, 40)]]
    batch = logits(model, torch.tensor(rows), features)
    for row, of_row, expected in zip(rows, (features[:1], features[1:], None), batch, strict=True):
        torch.testing.assert_close(logits(model, torch.tensor([row]), of_row)[0], expected, **EQUAL)


def test_a_reply_may_hold_the_context_token() -> None:
    """Sampled by accident, it is a token as any other."""
    model = with_context()
    assert torch.equal(model.embed(torch.tensor([[CONTEXT]])), model.embed_tokens(torch.tensor([[CONTEXT]])))


@pytest.mark.parametrize(
    ("ids", "n", "says"),
    [
        ([1, *PLACE, 2], 2, "places for 1 pictures, 2 are given"),
        ([1, *PLACE, *PLACE, 2], 1, "places for 2 pictures, 1 are given"),
        ([1, *PLACE, 2], None, "places for 1 pictures, 0 are given"),
        ([1, 2, 3, 4, 5], 1, "places for 0 pictures, 1 are given"),
        ([1, CONTEXT, CONTEXT, CONTEXT, 2], 1, "stands 3 times in a row; a picture takes 4"),
        ([1, *PLACE, CONTEXT, 2], 1, "stands 5 times in a row; a picture takes 4"),
    ],
)
def test_more_or_fewer_pictures_than_places(ids: list[int], n: int | None, says: str) -> None:
    model = with_context()
    features = None if n is None else torch.zeros(n, PER_PICTURE, 32)
    with pytest.raises(ValueError, match=says):
        model.embed(torch.tensor([ids]), features)
    model.embed(torch.tensor([[1, *PLACE]]), torch.zeros(1, PER_PICTURE, 32))  # the next call works


def test_wrong_patch_count() -> None:
    """Features of a tower for larger pictures, or of another width; and pictures of another size."""
    model = with_context()
    for shape, says in (((1, 9, 32), r"\[9, 32\], expected \[4, 32\]"), ((1, 4, 33), r"\[4, 33\], expected \[4, 32\]")):
        with pytest.raises(ValueError, match=says):
            model.embed(torch.tensor([[1, *PLACE]]), torch.zeros(*shape))
    for shape in ((3, 56, 56), (1, 3, 56, 28), (1, 1, 56, 56)):
        with pytest.raises(ValueError, match=r"the tower takes \[N, 3, 56, 56\]"):
            model.see(torch.zeros(shape))


def test_without_a_tokenizer_the_context_id_is_found() -> None:
    """By its run; two candidates are told apart by nobody, and text has none."""
    model = random_internvl(7)
    features = torch.zeros(1, PER_PICTURE, 32)
    assert model.n_pictures(torch.tensor([1, 9, 9, 9, 9, 2])) == 1
    assert torch.equal(model.embed(torch.tensor([[1, 9, 9, 9, 9]]), features)[0, 1:], features[0])
    assert model.n_pictures(torch.tensor([9, 9, 9, 2, 9])) == 0
    with pytest.raises(ValueError, match=r"the ids \[8, 9\] each stand 4 times in a row"):
        model.n_pictures(torch.tensor([9, 9, 9, 9, 8, 8, 8, 8]))
    with pytest.raises(ValueError, match="places for 0 pictures, 1 are given"):
        model.embed(torch.tensor([[1, 2, 3, 4, 5, 6]]), features)


def test_format_of_pictures() -> None:
    """ImageNet's mean and deviation, at the size that config.json forces."""
    wanted = random_internvl(force_image_size=84).pictures
    assert (wanted.size, wanted.mean, wanted.std) == (84, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert random_internvl(force_image_size=None).pictures.size == 56


def test_bfloat16_is_close() -> None:
    """Features and logits keep the model's dtype until the logits, which are float32."""
    model = with_context(9)
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(9))
    ids = torch.tensor([[1, *PLACE, 17, 21]])
    exact = logits(model, ids, model.see(pixels))
    half = model.to(torch.bfloat16)
    features = half.see(pixels)
    assert features.dtype == torch.bfloat16
    rounded = logits(half, ids, features)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()
