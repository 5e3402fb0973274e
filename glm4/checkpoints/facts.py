"""A config.json asked for facts by name and type: the words for what is missing or wrong are said here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError

LARGEST: dict[type, float] = {int: 2**31 - 1, float: sys.float_info.max}
MOST_LAYERS = 1000  # the largest has 63; building a model of a billion would take for ever before any check could fail
MOST_PIXELS = 4096  # a side of a tower's pictures; the largest wants 1120. Each is that large before a tower sees it


class Facts:
    """A config.json that is asked for facts by name and type, and says so when it lacks one."""

    def __init__(self, path: Path, raw: Mapping[str, Any]) -> None:
        self.path, self.raw = path, raw
        self.asked: set[str] = set()

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """The value of `key`, which must be of `kind`, and positive; raises if absent and no default is given."""
        self.asked.add(key)
        if key not in self.raw or (self.raw[key] is None and default is not None):
            if default is None:
                raise ConfigError(
                    f"{self.path}: the key {key!r} is missing, and the model cannot be built without it; "
                    "restore the file that came with the checkpoint"
                )
            return default
        value = self.raw[key]
        accepted = (int, float) if kind is float else (kind,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError(f"{self.path}: {key} is {value!r}, expected {kind.__name__}")
        most = LARGEST.get(kind)
        if most is not None and not 0 < self.raw[key] <= most:  # refuses NaN too
            raise ConfigError(f"{self.path}: {key} is {value!r}, expected {kind.__name__} above 0, at most {most:g}")
        return kind(value)

    def refuse(self, *keys: str) -> None:
        """Insist that keys are absent, null, zero or false: what they switch on is not implemented."""
        for key in keys:
            self.asked.add(key)
            if self.raw.get(key):
                raise ConfigError(f"{self.path}: {key} is {self.raw[key]!r}; only a checkpoint without it is supported")

    def require(self, key: str, expected: Any, default: Any = None) -> None:
        """Insist on the one value of `key` that this forward pass implements."""
        value = self.get(key, type(expected), default)
        if value != expected:
            raise ConfigError(f"{self.path}: {key} is {value!r}; only {expected!r} is implemented")

    def layers(self, key: str) -> int:
        """The number of layers under `key`. Raises ConfigError above `MOST_LAYERS`."""
        n_layers: int = self.get(key, int)
        if n_layers > MOST_LAYERS:
            raise ConfigError(f"{self.path}: {key} is {n_layers}, more than the {MOST_LAYERS} this library builds")
        return n_layers

    def picture_size(self, key: str, default: int | None = None) -> int:
        """Pixels a side under `key`. Raises ConfigError above `MOST_PIXELS`."""
        size: int = self.get(key, int, default)
        if size > MOST_PIXELS:
            raise ConfigError(f"{self.path}: {key} is {size} pixels, more than the {MOST_PIXELS} this library prepares")
        return size

    def inside(self, key: str) -> Facts:
        """The object under `key`, as facts of its own. Its unknown keys are the caller's to look at."""
        self.asked.add(key)
        nested = self.raw.get(key)
        if not isinstance(nested, dict):
            raise ConfigError(f"{self.path}: {key} is {nested!r}, expected an object")
        return Facts(self.path, nested)


# Keys that change nothing in what this library computes: bookkeeping, dropout (training only), performance switches
# of the original code, and the two that cancel out mathematically (attention scores are divided by the layer number
# and multiplied by it again).
HARMLESS = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _name_or_path apply_query_key_layer_scaling architectures
    attention_dropout attention_softmax_in_fp32 attn_implementation auto_map bias_dropout_fusion bos_token_id
    chunk_size_feed_forward classifier_dropout dtype eos_token_id hidden_dropout id2label initializer_range
    is_decoder is_encoder_decoder kv_cache_quantization label2id max_length model_type multi_query_group_num
    num_hidden_layers num_layers output_attentions output_hidden_states pad_token_id problem_type pruned_heads
    return_dict tf_legacy_loss tokenizer_class torch_dtype torchscript transformers_version unsloth_version
    use_bfloat16 use_cache vocab_size
    """.split()
)
