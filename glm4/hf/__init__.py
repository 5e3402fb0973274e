"""Hugging Face: the classes that transformers loads, and the export of a checkpoint with them."""

from __future__ import annotations

from ..errors import InputError
from .convert import convert
from .export import export

__all__ = ["convert", "export", "register"]


def register() -> None:
    """Make transformers' Auto classes load GLM-4 and GLM-4V in the original layout with this library's classes, and
    without `trust_remote_code`. Raises InputError without transformers."""
    try:
        from .registry import register as register_classes
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise InputError('register() needs the package transformers; run: pip install "transformers>=4.46"') from error
    register_classes()
