"""ChatGLM-6B's int8 and int4: what its published checkpoints hold, and what its `quantize` makes.

Each row of a weight has one scale in float16: its largest magnitude over 127, or over 7. A row's numbers are the
weights over the scale, rounded half to even, of which int4 puts two in a byte, the even column in the high half. There
are no zero points. The scheme knows nothing of the model, so that it serves every family's linear layers.

The original unpacks with CUDA kernels, or with C code that it compiles when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, InputError

BITS = (4, 8)

# Numbers unpacked at a time on a CPU: 2 MB of float32, which stay in its cache. To unpack all of a large weight takes
# many times as long, nearly all of it for getting memory.
_CPU_CHUNK = 2**19


def pack(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round a weight to `bits`, bit for bit as the original does.

    Its arithmetic is the weight's: a float16 weight is divided by its scale in float16. Only rows that the original
    spoils come out better, those that are all zero or whose scale float16 cannot hold well.

    Args:
        weight: floating [out, in].
        bits: 4 or 8.

    Returns:
        int8 [out, in], or [out, in / 2] for 4 bits; and the scales, float16 [out].

    Raises:
        InputError: bits that are neither, an odd number of columns for 4, numbers that are not finite.
    """
    _check_bits(bits)
    most, columns = 2 ** (bits - 1) - 1, weight.shape[1]
    if bits == 4:
        _check_columns(columns)
    packed = torch.empty(weight.shape[0], columns * bits // 8, dtype=torch.int8, device=weight.device)
    scale = torch.empty(weight.shape[0], dtype=torch.float16, device=weight.device)
    for rows in _chunks(weight.shape[0], columns, _CPU_CHUNK):  # only to bound what is in between
        part = weight[rows] if weight.dtype in (torch.float16, torch.float32) else weight[rows].float()
        scale[rows] = (part.abs().amax(dim=1) / most).half()
        divisor = scale[rows, None]
        values = torch.round(part / torch.where(divisor == 0, 1, divisor)).clamp_(-most, most).to(torch.int8)
        packed[rows] = values if bits == 8 else (values[:, 0::2] << 4) | (values[:, 1::2] & 0x0F)
    if not scale.isfinite().all():
        raise InputError("the weight holds numbers that are not finite, or too large for float16: it cannot be packed")
    return packed, scale


def unpack(packed: Tensor, bits: int) -> Tensor:
    """A packed weight's integers, int8 [out, in]; times the row's scale they are its numbers.

    Raises:
        InputError: bits other than 4 and 8.
    """
    _check_bits(bits)
    return packed if bits == 8 else torch.stack(_halves(packed), dim=-1).flatten(1)


def _halves(packed: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of the even columns and of the odd ones, signs extended."""
    return packed >> 4, (packed << 4) >> 4


class PackedLinear(nn.Module):
    """y = x W^T + b with W packed: buffers `weight` (int8) and `weight_scale` (float16), parameter `bias`.

    Any floating dtype may come in, and goes out. W is never there as a whole on a CPU; on other devices, where memory
    is quickly had, for the time of the product. Not made for training: each piece of W would be kept for the gradient.
    """

    weight: Tensor
    weight_scale: Tensor

    def __init__(
        self, in_features: int, out_features: int, bias: bool, bits: int, device: torch.device | None = None
    ) -> None:
        """Raises InputError for bits other than 4 and 8, and for an odd `in_features` with 4."""
        super().__init__()
        _check_bits(bits)
        if bits == 4:
            _check_columns(in_features)
        self.in_features, self.out_features, self.bits = in_features, out_features, bits
        columns = in_features * bits // 8
        self.register_buffer("weight", torch.empty(out_features, columns, dtype=torch.int8, device=device))
        self.register_buffer("weight_scale", torch.empty(out_features, dtype=torch.float16, device=device))
        self.bias = nn.Parameter(torch.empty(out_features, device=device), requires_grad=False) if bias else None

    def extra_repr(self) -> str:
        """Sizes and bits, for print(model)."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, bits={self.bits}"

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out], in x's dtype."""
        inputs = (x,) if self.bits == 8 else (x[..., 0::2].contiguous(), x[..., 1::2].contiguous())
        if x.device.type != "cpu":
            out = self._product(inputs, slice(None), x.dtype)
        else:
            out = x.new_empty(*x.shape[:-1], self.out_features)
            for rows in _chunks(self.out_features, self.in_features, _CPU_CHUNK):
                out[..., rows] = self._product(inputs, rows, x.dtype)
        return out if self.bias is None else out + self.bias

    def _product(self, inputs: tuple[Tensor, ...], rows: slice, dtype: torch.dtype) -> Tensor:
        packed, scale = self.weight[rows], self.weight_scale[rows, None]
        # The even columns of W meet the even ones of x, the odd ones the odd: nothing has to be put back in order.
        numbers = (packed,) if self.bits == 8 else _halves(packed)
        first, *others = (F.linear(x, _scaled(n, scale, dtype)) for x, n in zip(inputs, numbers, strict=True))
        for other in others:
            first += other
        return first


def _scaled(numbers: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """int8 [rows, columns] times scales [rows, 1], rounded to float16 as in the original whatever is computed in."""
    if numbers.device.type != "cpu":
        return (numbers * scale).to(dtype)
    # The same, as the product is exact in float32, but on a CPU far faster than float16's own arithmetic.
    weight = (numbers.float() * scale.float()).half()
    return weight if dtype == torch.float16 else weight.float().to(dtype)


def _chunks(n_rows: int, columns: int, most: int) -> Iterator[slice]:
    """All rows, in pieces of no more than `most` numbers."""
    size = max(1, most // max(1, columns))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def pack_linears(model: nn.Module, bits: int) -> dict[str, PackedLinear]:
    """Put a `PackedLinear`, still to be filled, in place of every linear layer in a model's blocks (`model.layers`).

    Embedding and head stay as they are, and so does a vision tower. For a model without memory, on torch's meta device;
    `quantize` is for one that has its weights.

    Returns:
        The new layers by their names in the model.

    Raises:
        InputError: bits other than 4 and 8; sizes that cannot be packed.
        ConfigError: the model is quantized already.
    """
    packed: dict[str, PackedLinear] = {}
    for name, parent, child, linear in _linears(model, bits):
        layer = PackedLinear(
            linear.in_features, linear.out_features, linear.bias is not None, bits, linear.weight.device
        )
        setattr(parent, child, layer)
        packed[name] = layer
    return packed


def quantize(model: nn.Module, bits: int) -> None:
    """Pack the linear layers of a model's blocks where they are, one after the other, so that memory only shrinks.

    Raises:
        InputError: bits other than 4 and 8; a weight that cannot be packed. The model is then left as it was, apart
            from the layers already done.
        ConfigError: the model is quantized already.
    """
    for _, parent, child, linear in _linears(model, bits):
        has_bias, nowhere = linear.bias is not None, torch.device("meta")
        layer = PackedLinear(linear.in_features, linear.out_features, has_bias, bits, nowhere)
        layer.weight, layer.weight_scale = pack(linear.weight.detach(), bits)
        layer.bias = linear.bias
        layer.train(linear.training)
        setattr(parent, child, layer)


def _linears(model: nn.Module, bits: int) -> list[tuple[str, nn.Module, str, nn.Linear]]:
    """(name, parent, name in the parent, layer) of what is to be packed."""
    _check_bits(bits)
    for module in model.modules():
        if isinstance(module, PackedLinear):
            raise ConfigError(
                f"the model is already quantized to {module.bits} bits, and cannot be quantized to {bits}: load it "
                "without quantize=, or start from the checkpoint with floating-point weights"
            )
    blocks = model.get_submodule("layers")
    return [
        (f"layers.{parent_name}.{child_name}", parent, child_name, child)
        for parent_name, parent in blocks.named_modules()
        for child_name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]


def _check_bits(bits: int) -> None:
    if isinstance(bits, bool) or bits not in BITS:
        raise InputError(f"weights cannot be packed into {bits!r} bits; pass 4 or 8")


def _check_columns(columns: int) -> None:
    if columns % 2:
        raise InputError(
            f"a weight of {columns} columns cannot be packed into 4 bits, which takes them in pairs; use 8"
        )
