"""Every error this library raises on purpose. They are for people: what was wrong, the value, the remedy.

Each also derives from the standard exception a caller would have expected, so that `except ValueError` around a bad
argument keeps working without knowing this module.
"""

from __future__ import annotations


class Glm4Error(Exception):
    """Base of all of them."""


class CheckpointError(Glm4Error, OSError):
    """A checkpoint's files are missing, damaged, or do not fit the architecture they claim."""


class ConfigError(Glm4Error, ValueError):
    """A configuration lacks a fact of the architecture, or states one this library cannot honour."""


class InputError(Glm4Error, ValueError):
    """What the caller passed (messages, ids, sampling parameters) cannot be used as it is."""


class PromptTooLong(InputError):
    """The prompt leaves no room in the context."""


class ToolCallError(InputError):
    """A tool or a tool call is not well-formed."""


class GenerationError(Glm4Error, RuntimeError):
    """The model produced something that cannot be sampled from, such as logits that are not a number."""


class OutOfMemory(Glm4Error, MemoryError):
    """The device has not the memory that was asked for."""
