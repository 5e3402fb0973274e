"""load_model: from a name to an `LLM`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .chat import ChatTokenizer
from .checkpoints import Architecture, load_model_weights, read_architecture, read_json
from .errors import CheckpointError, ConfigError, InputError
from .hub import PACKAGED, resolve_folder
from .llm import LLM
from .memory import memory_errors_explained
from .placement import DeviceMap, one_device
from .quant import BITS
from .sampling import SamplingParams, defaults_from

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
SHORT_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"}


def load_model(
    model: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device | None = "auto",
    dtype: str | torch.dtype | None = "auto",
    revision: str | None = None,
    max_context: int | None = None,
    quantize: int | None = None,
    device_map: str | Mapping[str, int | str | torch.device] | None = None,
    max_memory: Mapping[int | str, int | str] | None = None,
    offload_folder: str | os.PathLike[str] | None = None,
) -> LLM:
    """Load a checkpoint for inference. No code that comes with it is run.

    Args:
        model: a folder as downloaded, in the original layout or transformers'; a hub id such as
            "THUDM/glm-4-9b-chat"; None for the small default model in the package, "default-vision" for its twin that
            can see.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" or None takes a GPU if there is one.
        dtype: "bfloat16", "float16" or "float32" ("bf16", "fp16", "fp32"); "auto" or None takes the checkpoint's own,
            and bfloat16 for float16 on a CPU, which computes prompts many times slower in float16.
        revision: branch, tag or commit on the hub.
        max_context: tokens that prompt and reply may have together; None for all the checkpoint was trained for.
        quantize: 8 or 4: the linear layers of the language model's blocks are packed into so many bits as they are
            read, row by row as ChatGLM-6B's own quantizer does. Checkpoints of packed weights need no argument.
        device_map: for a model that no single device has room for, in place of `device`. "auto", "balanced",
            "balanced_low_0" or "sequential": GPUs first, then the CPU, then the disk; or a device, "cpu" or "disk" for
            each module by name, such as {"": "cuda:0", "vision": "cuda:1"}. What goes where: `print(llm.placement)`.
        max_memory: with "auto" and its like, what each may take, such as {0: "20GB", "cpu": "60GB"}.
        offload_folder: where weights on the disk are written, unless the checkpoint's files hold them as needed.

    Raises:
        CheckpointError: files missing, damaged or not fitting together; the hub out of reach.
        ConfigError: a family this library does not know, or a fact of the architecture missing; `quantize` for weights
            that are packed already.
        InputError: an argument that cannot be honoured.
        OutOfMemory: the weights do not fit.
    """
    if quantize is not None and (quantize not in BITS or isinstance(quantize, bool)):
        raise InputError(f"quantize is {quantize!r}; pass 8 or 4 bits, or None to leave the weights as they are")
    place, wanted_dtype = _place(device, device_map, max_memory, offload_folder), _dtype(dtype)
    folder = resolve_folder(model, revision)
    checkpoint = read_checkpoint(folder)
    architecture = checkpoint.architecture
    trained = architecture.config.max_positions
    if max_context is not None and (
        not isinstance(max_context, int) or isinstance(max_context, bool) or not 1 <= max_context <= trained
    ):
        raise InputError(f"max_context is {max_context!r}; {folder} was trained for {trained}, pass 1 to {trained}")
    on_cpu = isinstance(place, torch.device) and place.type == "cpu"
    kind = wanted_dtype or _own_dtype(architecture.dtype, on_cpu)
    with memory_errors_explained(
        f"the weights of {folder}", "Free some, or load on another device=, or with device_map="
    ):
        weights = load_model_weights(folder, architecture, dtype=kind, device=place, quantize=quantize)
    return LLM(
        weights,
        checkpoint.tokenizer,
        why_no_tokenizer=checkpoint.why_no_tokenizer,
        name=next((name for name, packaged in PACKAGED.items() if folder == packaged), str(model)),
        stop_token_ids=checkpoint.stop_token_ids,
        default_sampling=checkpoint.default_sampling,
        context=max_context or trained,
    )


@dataclass(frozen=True)
class Checkpoint:
    """All that a checkpoint's folder says, its weights apart."""

    architecture: Architecture
    tokenizer: ChatTokenizer | None
    why_no_tokenizer: str
    stop_token_ids: frozenset[int]
    default_sampling: SamplingParams


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read and check everything in a folder but the weights.

    Raises:
        CheckpointError: files missing, damaged or not fitting together. No tokenizer at all is no error.
        ConfigError: a family this library does not know, a fact of the architecture missing, values out of range.
    """
    architecture = read_architecture(folder)
    generation_file = folder / "generation_config.json"
    published = architecture.family.generation
    generation_config = read_json(generation_file) if generation_file.is_file() else dict(published)
    tokenizer, why_no_tokenizer = _tokenizer(folder, architecture.raw)
    vocab_size = architecture.config.vocab_size
    if tokenizer is not None and tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens and the model only {vocab_size}; "
            "they belong to different checkpoints"
        )
    if tokenizer is not None:
        architecture = architecture.named(tokenizer.special_tokens)
    stop_ids = set() if tokenizer is None else set(tokenizer.stop_token_ids)
    stop_ids |= _eos_ids(folder / "config.json", architecture.raw, vocab_size)
    stop_ids |= _eos_ids(generation_file, generation_config, vocab_size)
    return Checkpoint(
        architecture,
        tokenizer,
        why_no_tokenizer,
        frozenset(stop_ids),
        _defaults(generation_file, generation_config),
    )


def _place(device: Any, device_map: Any, max_memory: Any, offload_folder: Any) -> torch.device | DeviceMap:
    """Where the weights are to go."""
    if device_map is None:
        if max_memory is not None or offload_folder is not None:
            given = "max_memory" if max_memory is not None else "offload_folder"
            raise InputError(f'{given} says how to spread a model: pass it with device_map, such as device_map="auto"')
        return one_device(device)
    if device is not None and device != "auto":
        raise InputError(f"device is {device!r} and device_map is given, too; pass one of them")
    return DeviceMap(device_map, max_memory, offload_folder)


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None or dtype == "auto":
        return None
    found = dtype if dtype in DTYPES.values() else DTYPES.get(SHORT_DTYPES.get(str(dtype), str(dtype)))
    if not isinstance(found, torch.dtype):
        raise InputError(f"dtype is {dtype!r}; known: auto, {', '.join(DTYPES)}")
    return found


def _own_dtype(stored: str | None, on_cpu: bool) -> torch.dtype:
    """What weights that were stored in a dtype are loaded in unless the caller says."""
    return DTYPES["bfloat16" if stored == "float16" and on_cpu else stored if stored in DTYPES else "bfloat16"]


def _tokenizer(folder: Path, config: Mapping[str, Any]) -> tuple[ChatTokenizer | None, str]:
    """The folder's tokenizer; if it has none, what to say where text is asked for."""
    try:
        return ChatTokenizer.load(folder, config), ""
    except CheckpointError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None, str(error)
        raise


def _eos_ids(file: Path, values: Mapping[str, Any], vocab_size: int) -> set[int]:
    """The end tokens a file names. All files' are used together: any one of them may have lost some."""
    value = values.get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    for i in ids:
        if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < vocab_size:
            raise ConfigError(
                f"{file}: eos_token_id is {value!r}; expected token ids from 0 to {vocab_size - 1}, one or a list"
            )
    return set(ids)


def _defaults(file: Path, generation_config: Mapping[str, Any]) -> SamplingParams:
    try:
        return defaults_from(generation_config)
    except InputError as error:
        raise ConfigError(f"{file}: {error}; correct the file, or remove it to do without its defaults") from error
