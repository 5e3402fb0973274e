"""GLM-4's config.json for transformers: the original's keys under the original's names."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

# What this forward pass implements, and the only value that published checkpoints have.
_IMPLEMENTED = {
    "rmsnorm": True,
    "post_layer_norm": True,
    "apply_residual_connection_post_layernorm": False,
    "add_bias_linear": False,
    "original_rope": True,
}
_UNIMPLEMENTED = (
    "fp32_residual_connection",
    "pre_seq_len",
    "prefix_projection",
    "quantization_bit",
    "tie_word_embeddings",
)


# In this package (see `registry`), and not in an exported folder: then a checkpoint's own code is never wanted.
_IN_PACKAGE = __name__.startswith("glm4.")


class ChatGLMConfig(PretrainedConfig):  # type: ignore[misc]
    """What config.json says, each key an attribute. None has a default: a fact that the file lacks is missed when the
    model is built, and named."""

    model_type = "chatglm"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 (transformers' own form)
    attribute_map = {  # noqa: RUF012
        "num_hidden_layers": "num_layers",
        "num_key_value_heads": "multi_query_group_num",
        "head_dim": "kv_channels",
        "intermediate_size": "ffn_hidden_size",
        "max_position_embeddings": "seq_length",
        "vocab_size": "padded_vocab_size",
        "rms_norm_eps": "layernorm_epsilon",
    }

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From config.json's content."""
        if _IN_PACKAGE:
            config_dict = {key: value for key, value in config_dict.items() if key != "auto_map"}
        return super().from_dict(config_dict, **kwargs)

    def fact(self, key: str, default: Any = None) -> Any:
        """The value of a key that the model cannot be built without.

        Raises:
            ValueError: config.json lacks it, and there is no default.
        """
        value = getattr(self, key, None)
        if value is None and default is None:
            raise ValueError(f"config.json has no {key!r}, and the model cannot be built without it")
        return default if value is None else value

    def check(self) -> None:
        """Raises ValueError: the checkpoint is of another family, or does what is not implemented here."""
        if hasattr(self, "position_encoding_2d") or hasattr(self, "inner_hidden_size"):
            raise ValueError(
                "this is ChatGLM-6B, which shares model_type 'chatglm' with GLM-4 and nothing else; "
                "glm4.load_model reads it"
            )
        for key, value in _IMPLEMENTED.items():
            if self.fact(key) != value:
                raise ValueError(f"config.json has {key} {getattr(self, key)!r}; only {value!r} is implemented")
        for key in _UNIMPLEMENTED:
            if getattr(self, key, None):
                raise ValueError(f"config.json has {key} {getattr(self, key)!r}, which is not implemented")
