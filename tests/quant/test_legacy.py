"""Packed linear layers: bit for bit the original's numbers, and near the weights they were made from."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from glm4.errors import ConfigError, InputError
from glm4.quant import PackedLinear, legacy, pack, pack_linears, quantize, unpack


def weights(seed: int, rows: int, columns: int, dtype: torch.dtype = torch.float16) -> Tensor:
    """Rows of very different sizes, as a model's are."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(-3, 1, rows)[:, None]
    return (torch.randn(rows, columns, generator=generator) * sizes).to(dtype)


def by_hand(weight: Tensor, bits: int) -> tuple[list[list[int]], list[float]]:
    """The scheme, number by number, in the weight's own precision."""
    most, kind = 2 ** (bits - 1) - 1, np.float16 if weight.dtype == torch.float16 else np.float32
    numbers, scales = [], []
    for row in weight.tolist():
        scale = np.float16(kind(max(abs(w) for w in row)) / kind(most))
        scales.append(float(scale))
        quotients = [kind(np.float32(w) / np.float32(scale)) for w in row]
        numbers.append([round(Fraction(float(q))) for q in quotients])  # round() of a fraction is half to even
    return numbers, scales


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("bits", [4, 8])
def test_packing_is_the_originals(bits: int, dtype: torch.dtype) -> None:
    weight = weights(1, 24, 64, dtype)
    packed, scale = pack(weight, bits)
    numbers, scales = by_hand(weight, bits)
    assert (packed.dtype, scale.dtype) == (torch.int8, torch.float16)
    assert packed.shape == (24, 64 * bits // 8)
    assert scale.tolist() == scales
    assert unpack(packed, bits).tolist() == numbers
    assert max(max(row) for row in numbers) == 2 ** (bits - 1) - 1


def test_halves_are_rounded_to_even() -> None:
    """7 in each row makes the scale 1."""
    halves = torch.tensor([[7.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.5]])
    assert unpack(pack(halves, 4)[0], 4).tolist() == [[7, 0, 2, 2, 0, -2, -2, 4]]


def test_the_even_column_is_in_the_high_half() -> None:
    packed, scale = pack(torch.tensor([[7.0, -1.0, -7.0, 3.0]]), 4)
    assert scale.tolist() == [1.0]
    assert [byte & 0xFF for byte in packed[0].tolist()] == [0x7F, 0x93]


@given(st.binary(min_size=1, max_size=40))
def test_every_byte_unpacks_to_two_numbers_with_their_signs(data: bytes) -> None:
    packed = torch.frombuffer(bytearray(data), dtype=torch.int8)[None]
    expected = [n - 16 if n > 7 else n for byte in data for n in (byte >> 4, byte & 15)]
    assert unpack(packed, 4).tolist() == [expected]
    assert unpack(packed, 8).tolist() == packed.tolist()


@pytest.mark.parametrize("bits", [4, 8])
def test_the_error_is_half_a_step(bits: int) -> None:
    weight = weights(2, 50, 96, torch.float32)
    packed, scale = pack(weight, bits)
    error = (unpack(packed, bits) * scale[:, None].float() - weight).abs()
    assert (error <= scale[:, None].float() * (0.5 + 2**-4)).all()  # scale itself is rounded


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_that_the_original_spoils(bits: int) -> None:
    """Zeros, which it divides by zero, and numbers so small that float16 holds their scale badly or not at all."""
    weight = torch.zeros(4, 6)
    weight[1, 0] = 1e-9
    weight[2] = torch.tensor([6e-7, -6e-7, 3e-7, 0, 1e-7, 2e-7])
    weight[3, :2] = torch.tensor([1.0, -0.5])
    packed, scale = pack(weight, bits)
    restored = unpack(packed, bits) * scale[:, None].float()
    assert torch.equal(restored[:2], torch.zeros(2, 6))
    assert (restored[2] - weight[2]).abs().max() < (3e-7 if bits == 4 else 7e-7)  # for 8 there is no such scale
    assert (restored[3] - weight[3]).abs().max() < 0.08


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1, 64), (3, 64), (2, 5, 64), (64,)])
def test_the_product(bits: int, dtype: torch.dtype, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the unpacked weight, whatever pieces of rows it is computed in."""
    layer = PackedLinear(64, 24, bias=True, bits=bits).to(dtype)
    layer.weight, layer.weight_scale = pack(weights(3, 24, 64), bits)
    nn.init.normal_(layer.bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4)).to(dtype)
    whole = (unpack(layer.weight, bits) * layer.weight_scale[:, None]).to(dtype)  # float16, then what is computed in
    expected = F.linear(x, whole, layer.bias)
    for chunk in (64, 5 * 64, 2**19):
        monkeypatch.setattr(legacy, "_CPU_CHUNK", chunk)
        out = layer(x)
        assert (out.dtype, out.shape) == (dtype, expected.shape)
        close = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
        torch.testing.assert_close(out, expected, rtol=close, atol=close * expected.abs().max().item())


def test_the_two_ways_to_scale_agree() -> None:
    """On a CPU through float32, elsewhere in float16: the same numbers."""
    numbers = torch.arange(-127, 128, dtype=torch.int8).expand(200, -1)
    scale = torch.logspace(-7, 3, 200).half()[:, None]
    assert torch.equal(legacy._scaled(numbers, scale, torch.float16), numbers * scale)
    assert torch.equal(legacy._scaled(numbers, scale, torch.bfloat16), (numbers * scale).bfloat16())


def test_no_whole_float_copy_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor that comes up while 16 million weights are multiplied is a chunk."""
    layer = PackedLinear(4096, 4096, bias=False, bits=4)
    layer.weight.zero_()
    layer.weight_scale.fill_(1)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and out.dtype != torch.int8:
                largest = max(largest, out.numel())
            return out

    with Watch(), torch.inference_mode():
        layer(torch.zeros(1, 3, 4096))
    assert 0 < largest <= legacy._CPU_CHUNK


class Toy(nn.Module):
    """What a family's model has: an embedding, blocks in `layers`, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(10, 8)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"norm": nn.LayerNorm(8), "mlp": nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 8, bias=False))})
            for _ in range(2)
        )
        self.lm_head = nn.Linear(8, 10)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_models_blocks_are_quantized_and_nothing_else(bits: int) -> None:
    model = Toy().half()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quantize(model, bits)
    after = model.state_dict()
    linears = [f"layers.{i}.mlp.{j}" for i in (0, 1) for j in (0, 1)]
    assert set(after) == set(before) | {f"{name}.weight_scale" for name in linears}
    for name in set(before) - {f"{name}.weight" for name in linears}:
        assert torch.equal(after[name], before[name])
    for name in linears:
        packed, scale = pack(before[f"{name}.weight"], bits)
        assert torch.equal(after[f"{name}.weight"], packed)
        assert torch.equal(after[f"{name}.weight_scale"], scale)
    empty = Toy().to("meta")
    assert list(pack_linears(empty, bits)) == linears
    assert {name: tensor.shape for name, tensor in empty.state_dict().items()} == {
        name: tensor.shape for name, tensor in after.items()
    }
    assert all(tensor.is_meta for tensor in empty.state_dict().values())


def test_twice_is_an_error_and_changes_nothing() -> None:
    model = Toy()
    quantize(model, 8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for bits in (4, 8):
        with pytest.raises(ConfigError, match=f"already quantized to 8 bits, and cannot be quantized to {bits}"):
            quantize(model, bits)
        with pytest.raises(ConfigError, match="already quantized to 8 bits"):
            pack_linears(model, bits)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("bits", [0, 2, 16, True, "4", None, 4.5])
def test_other_bits(bits: object) -> None:
    model = Toy()
    with pytest.raises(InputError, match=r"cannot be packed into .* bits; pass 4 or 8"):
        quantize(model, bits)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="pass 4 or 8"):
        pack(torch.zeros(2, 2), bits)  # type: ignore[arg-type]
    assert isinstance(model.layers[0]["mlp"][0], nn.Linear)


def test_an_odd_number_of_columns_makes_no_pairs() -> None:
    assert pack(torch.ones(2, 5), 8)[0].shape == (2, 5)
    for make in (lambda: pack(torch.ones(2, 5), 4), lambda: PackedLinear(5, 2, bias=False, bits=4)):
        with pytest.raises(InputError, match="5 columns cannot be packed into 4 bits"):
            make()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e9])
def test_numbers_that_no_scale_fits(bad: float) -> None:
    weight = torch.ones(3, 4)
    weight[1, 2] = bad
    with pytest.raises(InputError, match="not finite, or too large for float16"):
        pack(weight, 8)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 8]), st.sampled_from([torch.float16, torch.bfloat16]))
def test_packing_is_the_same_in_any_pieces(seed: int, bits: int, dtype: torch.dtype) -> None:
    """A fused weight is packed as its parts arrive, each by itself."""
    weight = weights(seed, 12, 16, dtype)
    packed, scale = pack(weight, bits)
    parts = [pack(part, bits) for part in weight.split((5, 4, 3))]
    assert torch.equal(torch.cat([p for p, _ in parts]), packed)
    assert torch.equal(torch.cat([s for _, s in parts]), scale)
