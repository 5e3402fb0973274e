"""transformers' Auto classes for folders in the original layout, without running a line of their code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from ..chat.detect import read_optional_json
from .configuration_chatglm import ChatGLMConfig
from .modeling_chatglm import ChatGLMForConditionalGeneration, ChatGLMForSequenceClassification
from .source import read_tokenizer
from .tokenization_chatglm import ChatGLM4Tokenizer as ExportedTokenizer


class ChatGLM4Tokenizer(ExportedTokenizer):  # (transformers looks for it by the name in tokenizer_config.json)
    """The exported tokenizer for a folder that was not exported: some have no chat template, and none says which
    chat format it is in."""

    def __init__(self, vocab_file: str, **kwargs: Any) -> None:
        folder = Path(vocab_file).parent
        if kwargs.get("chat_format") is None or kwargs.get("chat_template") is None:
            config = read_optional_json(folder / "config.json")
            source = read_tokenizer(folder, config)
            if source is not None and source.chat_format is not None:
                kwargs |= {"chat_format": source.chat_format, "chat_template": source.chat_template}
            tower = config.get("vision_config")
            if isinstance(tower, dict):
                kwargs["image_size"] = tower.get("image_size")
        kwargs.pop("auto_map", None)
        super().__init__(vocab_file, **kwargs)


def register() -> None:
    """Make `AutoConfig`, `AutoTokenizer`, `AutoModelForCausalLM` and `AutoModelForSequenceClassification` load GLM-4
    and GLM-4V in the original layout with this library's classes. May be called again.

    Pass no `trust_remote_code=True`: transformers 4 would run the folder's code then. What is saved from these
    classes is loaded by them, and by `glm4.load_model`; for a folder that carries its code along, see `export`.
    """
    AutoConfig.register("chatglm", ChatGLMConfig, exist_ok=True)
    for auto in (AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM):
        auto.register(ChatGLMConfig, ChatGLMForConditionalGeneration, exist_ok=True)
    AutoModelForSequenceClassification.register(ChatGLMConfig, ChatGLMForSequenceClassification, exist_ok=True)
    AutoTokenizer.register(ChatGLMConfig, slow_tokenizer_class=ChatGLM4Tokenizer, exist_ok=True)
