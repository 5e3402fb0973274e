"""Linear layers with packed weights, in PyTorch alone: no compiler, no kernels of one vendor."""

from .legacy import BITS, PackedLinear, pack, pack_linears, quantize, unpack

__all__ = ["BITS", "PackedLinear", "pack", "pack_linears", "quantize", "unpack"]
