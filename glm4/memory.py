"""What to say when the memory does not suffice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import OutOfMemory


@contextmanager
def memory_errors_explained(doing: str, remedy: str) -> Iterator[None]:
    """Turn an allocator's error into one for people.

    Args:
        doing: what the memory was for, such as "loading the weights of ...".
        remedy: what to do about it.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"not enough memory for {doing}: {error}. {remedy}") from error
    except RuntimeError as error:  # the CPU's allocator has no exception of its own
        if "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(f"not enough memory for {doing}: {str(error).splitlines()[0]}. {remedy}") from error
