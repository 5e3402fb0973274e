"""A model spread over devices answers as it does on one: two logical GPUs, the CPU and the disk, for every family."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from logical_devices import LogicalDevices, LogicalGenerator
from random_models import random_checkpoint, random_ids, random_model, random_seeing_model
from safetensors.torch import load_file
from torch import Tensor, nn

import glm4
from glm4.checkpoints import save_checkpoint
from glm4.errors import CheckpointError, InputError
from glm4.llm import LLM
from glm4.placement import Plan, Spot
from glm4.placement.parts import holders_of, parts_of

pytest.importorskip("accelerate", reason="SPREADING OVER DEVICES NOT TESTED: accelerate is not installed")
from glm4.placement.hooks import attach

BOI, EOI = 7, 8
PROMPT = [5, 6, BOI, 3, EOI, 9, 10]
CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ "cuda:0" and "cuda:1", whether there are any."""
    if torch.cuda.is_available():
        pytest.skip("logical devices would be taken for the real ones here: see test_two_real_gpus")
    monkeypatch.setattr(torch, "Generator", LogicalGenerator)
    with LogicalDevices():
        yield


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four layers in transformers' layout, in which q, k and v are stored apart."""
    return random_checkpoint(tmp_path_factory.mktemp("text"), "hf", seed=5, n_layers=4)


@pytest.fixture(scope="module")
def seeing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GLM-4V."""
    folder = tmp_path_factory.mktemp("seeing")
    save_checkpoint(random_seeing_model(BOI, EOI, seed=6, n_layers=3), folder, layout="thudm")
    return folder


def greedy(llm: LLM, prompt: Any, **kwargs: Any) -> list[int]:
    """Ten tokens, one by one through the cache."""
    return llm.generate(prompt, max_tokens=10, temperature=0, ignore_eos=True, **kwargs).token_ids


def dealt(model: nn.Module, places: list[str]) -> dict[str, str]:
    """A device map that deals the parts to the places like cards."""
    return {name: places[index % len(places)] for index, name in enumerate(parts_of(model))}


MAPS: dict[str, Callable[[nn.Module], dict[str, Any]]] = {
    "two GPUs, layer by layer": lambda model: dealt(model, ["cuda:0", "cuda:1", "cuda:1"]),
    "two GPUs, one half each": lambda model: (
        dict.fromkeys(parts_of(model), "cuda:1")
        | dict.fromkeys(list(parts_of(model))[: len(parts_of(model)) // 2], "cuda:0")
    ),
    "everything everywhere": lambda model: dealt(model, ["cuda:1", "cpu", "disk", "cuda:0", "disk"]),
    "a GPU that keeps nothing but one layer": lambda model: {"": "disk", "layers.1": "cuda:0"},
    "a GPU for the adapter alone": lambda model: {"": "cuda:1", "vision.adapter": "cuda:0"},
    "the disk alone": lambda model: {"": "disk"},
    "the CPU and the disk": lambda model: dealt(model, ["cpu", "disk", "disk"]),
}


@pytest.mark.parametrize("name", sorted(MAPS.keys() - {"a GPU for the adapter alone"}))
def test_text(name: str, text_folder: Path, tmp_path: Path, two_gpus: None) -> None:
    """Logits of a padded batch and greedy ids, exactly."""
    whole = glm4.load_model(text_folder, device="cpu")
    spread = glm4.load_model(text_folder, device_map=MAPS[name](whole.model), offload_folder=tmp_path)
    ids, mask = random_ids(1, 2, 9), torch.tensor([[0, 0, *[1] * 7], [1] * 9])
    expected = whole.logits(ids, attention_mask=mask)
    assert expected.abs().max() > 5
    out = spread.logits(ids, attention_mask=mask)
    assert out.device == spread.device
    assert torch.equal(out.cpu()[mask.bool()], expected[mask.bool()])
    sampled = {"max_tokens": 5, "temperature": 0.9, "top_p": 0.9, "seed": 3, "repetition_penalty": 1.2, "logprobs": 2}
    assert greedy(spread, ids[0].tolist()) == greedy(whole, ids[0].tolist())
    assert spread.generate(ids[0], **sampled) == whole.generate(ids[0], **sampled)


@pytest.mark.parametrize(
    "name",
    ["two GPUs, layer by layer", "two GPUs, one half each", "everything everywhere", "a GPU for the adapter alone"],
)
def test_pictures(name: str, seeing_folder: Path, tmp_path: Path, two_gpus: None) -> None:
    """The tower is split like the rest, and its features go to where they are spliced in."""
    whole = glm4.load_model(seeing_folder, device="cpu")
    spread = glm4.load_model(seeing_folder, device_map=MAPS[name](whole.model), offload_folder=tmp_path)
    pixels = torch.randn(1, 3, *[whole.model.pictures.size] * 2, generator=torch.Generator("cpu").manual_seed(2))
    expected = whole.logits(PROMPT, images=pixels)
    assert (expected - whole.logits(PROMPT, images=-pixels)).abs().max() > 0.5
    assert torch.equal(spread.logits(PROMPT, images=pixels).cpu(), expected)
    assert greedy(spread, PROMPT, images=pixels) == greedy(whole, PROMPT, images=pixels)
    assert greedy(spread, PROMPT[:2]) == greedy(whole, PROMPT[:2])


@pytest.mark.parametrize("golden", ["glm-4-9b", "glm-4v-9b", "chatglm-6b", "chatglm-6b-int4", "internvl-chat-v1-1"])
def test_recorded_checkpoints(golden: str, shared: Path, tmp_path: Path, two_gpus: None) -> None:
    """Each family in its own layout: tied head, packed weights, .bin shards, a tower; dealt to every kind of place."""
    folder = shared / "golden" / golden
    whole = glm4.load_model(folder, device="cpu")
    device_map = MAPS["everything everywhere"](whole.model)
    spread = glm4.load_model(folder, device_map=device_map, offload_folder=tmp_path, dtype=whole.dtype)
    recorded = load_file(folder / "expected.safetensors")
    ids: Tensor = recorded["input_ids"][:1]
    pictures = next((recorded[name][:1] for name in ("images", "pixel_values") if name in recorded), None)
    assert torch.equal(spread.logits(ids, images=pictures).cpu(), whole.logits(ids, images=pictures))
    assert greedy(spread, ids[0], images=pictures) == greedy(whole, ids[0], images=pictures)
    assert spread.placement.bytes_on.keys() == {"cuda:1", "cpu", "disk", "cuda:0"}


@pytest.mark.parametrize("bits", [8, 4])
def test_packed_on_arrival(bits: int, text_folder: Path, tmp_path: Path, two_gpus: None) -> None:
    """Weights that are quantized while they are read, wherever they then go."""
    whole = glm4.load_model(text_folder, device="cpu", quantize=bits)
    device_map = MAPS["everything everywhere"](whole.model)
    spread = glm4.load_model(text_folder, device_map=device_map, offload_folder=tmp_path, quantize=bits)
    ids = random_ids(4, 1, 7)
    assert torch.equal(spread.logits(ids).cpu(), whole.logits(ids))
    assert sum(spread.placement.bytes_on.values()) == sum(whole.placement.bytes_on.values())


def test_interleaved_streams(text_folder: Path, tmp_path: Path) -> None:
    """Two replies at once, a token of each in turn."""
    whole = glm4.load_model(text_folder, device="cpu")
    spread = glm4.load_model(text_folder, device_map={"": "cpu", "layers": "disk"}, offload_folder=tmp_path)
    prompts = [random_ids(seed, 6).tolist() for seed in (1, 2)]
    from glm4.engine.generate import generate

    params = glm4.SamplingParams(temperature=0, max_tokens=8)
    streams = [generate(spread.model, prompt, params, (), 64) for prompt in prompts]
    taken = list(zip(*streams, strict=True))
    for index, prompt in enumerate(prompts):
        expected = whole.generate(prompt, max_tokens=8, temperature=0, ignore_eos=True).token_ids
        assert [pair[index].token_id for pair in taken] == expected


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_any_mode_after_any_other(mode: Any, text_folder: Path, tmp_path: Path) -> None:
    """Weights brought in inference mode may not be left behind for a pass outside it."""
    spread = glm4.load_model(text_folder, device_map={"": "disk"}, offload_folder=tmp_path)
    model, ids = spread.model, random_ids(1, 1, 5)
    expected = spread.logits(ids)
    greedy(spread, ids[0])
    with mode():
        out = model.logits(model(model.embed(ids), torch.arange(5)[None]))
    assert torch.equal(out, expected)
    assert torch.equal(spread.logits(ids), expected)


def test_offload_to_the_cpu_beside_a_cpu() -> None:
    """What a GPU's offloading does, without one: weights that wait apart, off the model, and come for each use."""
    whole, spread = random_model(3, n_layers=3), random_model(3, n_layers=3)
    away = Spot("the attic", CPU)
    plan = Plan(CPU, dict.fromkeys(parts_of(spread), away), dict.fromkeys(holders_of(spread), CPU))
    attach(spread, plan, {})
    assert all(tensor.is_meta for tensor in spread.parameters())
    ids, positions = random_ids(1, 2, 6), torch.arange(6).expand(2, 6)
    with torch.inference_mode():
        out = spread.logits(spread(spread.embed(ids), positions))
    assert torch.equal(out, whole.logits(whole(whole.embed(ids), positions)))
    assert all(tensor.is_meta for tensor in spread.parameters())


def test_accelerates_own_offloading(text_folder: Path) -> None:
    """A model that somebody else put accelerate's hooks around, tensor by tensor."""
    from accelerate import cpu_offload

    whole, offloaded = glm4.load_model(text_folder, device="cpu"), glm4.load_model(text_folder, device="cpu")
    cpu_offload(offloaded.model, execution_device=CPU)
    assert all(tensor.is_meta for tensor in offloaded.model.parameters())
    ids = random_ids(1, 2, 9)
    for _ in range(2):
        assert torch.equal(offloaded.logits(ids), whole.logits(ids))
        assert greedy(offloaded, ids[0]) == greedy(whole, ids[0])
    assert offloaded.device == CPU


def test_an_interrupted_pass_leaves_a_usable_model(text_folder: Path, tmp_path: Path) -> None:
    """The weights of the layer that was computing are let go of at its next use."""
    spread = glm4.load_model(text_folder, device_map={"": "disk"}, offload_folder=tmp_path)
    ids = random_ids(1, 1, 5)
    expected = spread.logits(ids)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = spread.model.layers[1].mlp.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        spread.logits(ids)
    handle.remove()
    assert torch.equal(spread.logits(ids), expected)
    assert all(tensor.is_meta for tensor in spread.model.parameters())


def test_weights_cross_once(text_folder: Path, two_gpus: None) -> None:
    """The mask and the angles of four layers on another GPU: one copy of each, not four; the last layer's result comes
    back once."""
    spread = glm4.load_model(text_folder, device_map={"": "cuda:0", "layers": "cuda:1"})
    moved = []

    class Watch(LogicalDevices):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            before = str(args[0].device) if func is Tensor.to else None
            out = super().__torch_function__(func, types, args, kwargs)
            if before is not None and str(out.device) != before:
                moved.append(tuple(out.shape))
            return out

    with Watch():
        spread.logits(random_ids(1, 1, 5), attention_mask=[[0, 1, 1, 1, 1]])
    size = spread.model.config.rotary_dim // 2
    inputs = [(1, 5)] * 3  # ids, mask and positions, made on the CPU
    hidden = (1, 5, spread.model.config.hidden_size)
    assert sorted(moved) == sorted([*inputs, (1, 1, 5, size), (1, 1, 5, size), (1, 1, 5, 5), hidden, hidden])


def test_only_what_differs_is_written(text_folder: Path, tmp_path: Path) -> None:
    """Fused products are; a norm, an embedding or a head is read from the checkpoint. In another dtype, everything is;
    and all of it goes with the model."""
    spread = glm4.load_model(text_folder, device_map={"": "disk"}, offload_folder=tmp_path)
    (folder,) = tmp_path.iterdir()
    names = {file.name.removesuffix(".safetensors") for file in folder.iterdir()}
    fused = ("self_attn.qkv_proj.weight", "self_attn.qkv_proj.bias", "mlp.gate_up_proj.weight")
    assert names - {f"layers.{i}.mlp.gate_up_proj.weight" for i in range(4)} == {
        f"layers.{i}.{name}" for i in range(4) for name in fused[:2]
    }
    other = glm4.load_model(text_folder, device_map={"": "disk"}, offload_folder=tmp_path, dtype="bfloat16")
    assert {len(list(made.iterdir())) for made in tmp_path.iterdir()} == {len(names), len(other.model.state_dict())}
    whole = glm4.load_model(text_folder, device="cpu", dtype="bfloat16")
    assert torch.equal(other.logits([[1, 2, 3]]), whole.logits([[1, 2, 3]]))
    del spread, other
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_file_that_goes_away(text_folder: Path, tmp_path: Path) -> None:
    """It is named."""
    spread = glm4.load_model(text_folder, device_map={"": "disk"}, offload_folder=tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / "layers.2.self_attn.qkv_proj.weight.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"layers\.2\.self_attn\.qkv_proj\.weight\.safetensors is gone"):
        spread.logits([[1, 2]])


def test_config_is_left_alone(text_folder: Path) -> None:
    """One device for everything is no spreading: no hooks, no accelerate, the plain model."""
    llm = glm4.load_model(text_folder, device_map={"": "cpu"})
    assert not any(hasattr(module, "_hf_hook") for module in llm.model.modules())
    assert json.loads((text_folder / "config.json").read_text())["num_hidden_layers"] == 4
    with pytest.raises(InputError, match="offload_folder"):
        glm4.load_model(text_folder, device_map={"": "disk"})


def test_two_real_gpus(text_folder: Path, seeing_folder: Path) -> None:
    """As above, on hardware. A GPU's products are not the CPU's, but one GPU's are the other's."""
    if torch.cuda.device_count() < 2:
        pytest.skip(f"TWO GPUS NOT TESTED: there are {torch.cuda.device_count()}; logical ones stand in for them")
    for folder, prompt in ((text_folder, PROMPT[:2]), (seeing_folder, PROMPT)):
        whole = glm4.load_model(folder, device="cuda:0")
        images = {"images": torch.ones(1, 3, *[whole.model.pictures.size] * 2)} if whole.model.pictures else {}
        for places in (["cuda:0", "cuda:1"], ["cuda:1", "cuda:0"], ["cuda:0", "cpu", "cuda:1"]):
            spread = glm4.load_model(folder, device_map=dealt(whole.model, places))
            assert torch.equal(spread.logits(prompt, **images).cpu(), whole.logits(prompt, **images).cpu())
            assert greedy(spread, prompt, **images) == greedy(whole, prompt, **images)
