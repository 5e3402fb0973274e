"""glm4: the reference inference library for the GLM-4-9B family.

    from glm4 import load_model
    print(load_model().chat([{"role": "user", "content": "Hello"}]).content)

Importing this package imports no torch: names are resolved when first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chat import ChatTokenizer as ChatTokenizer
    from .errors import CheckpointError as CheckpointError
    from .errors import ConfigError as ConfigError
    from .errors import GenerationError as GenerationError
    from .errors import Glm4Error as Glm4Error
    from .errors import InputError as InputError
    from .errors import OutOfMemory as OutOfMemory
    from .errors import PromptTooLong as PromptTooLong
    from .errors import ToolCallError as ToolCallError
    from .llm import LLM as LLM
    from .loading import load_model as load_model
    from .messages import Message as Message
    from .messages import Tool as Tool
    from .messages import ToolCall as ToolCall
    from .outputs import Completion as Completion
    from .outputs import Delta as Delta
    from .outputs import Reply as Reply
    from .sampling import SamplingParams as SamplingParams

__version__ = "0.1.0"

_HOMES = {
    "ChatTokenizer": "chat",
    "CheckpointError": "errors",
    "Completion": "outputs",
    "ConfigError": "errors",
    "Delta": "outputs",
    "GenerationError": "errors",
    "Glm4Error": "errors",
    "InputError": "errors",
    "LLM": "llm",
    "Message": "messages",
    "OutOfMemory": "errors",
    "PromptTooLong": "errors",
    "Reply": "outputs",
    "SamplingParams": "sampling",
    "Tool": "messages",
    "ToolCall": "messages",
    "ToolCallError": "errors",
    "load_model": "loading",
}
_ROOMS = {"doctor", "hf", "video"}  # modules that are used by their own names: glm4.hf.register()
__all__ = ["__version__", "load_tokenizer", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module 'glm4' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


def load_tokenizer(model: str | os.PathLike[str] | None = None, *, revision: str | None = None) -> ChatTokenizer:
    """A checkpoint's tokenizer and chat format, without its weights and without torch.

    Args:
        model: a folder or a hub id; None for the default model in the package.
        revision: branch, tag or commit on the hub.

    Raises:
        CheckpointError: the folder has no tokenizer, or a damaged one.
    """
    from .chat import ChatTokenizer
    from .hub import resolve_folder

    return ChatTokenizer.load(resolve_folder(model, revision, weights=False))
