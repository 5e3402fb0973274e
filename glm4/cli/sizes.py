"""Sizes in bytes, as people write them."""

from __future__ import annotations

import argparse
import re

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def size(text: str) -> int:
    """ "4GB" -> 4_000_000_000; "512MiB" -> 536_870_912. For argparse: raises ArgumentTypeError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?", text.strip().upper())
    value = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 4GB, 512MB or 2GiB")
    return value
