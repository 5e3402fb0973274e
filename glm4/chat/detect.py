"""Which chat format a checkpoint folder wants, read from its content and never from its path."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ConfigError
from ..jsonfile import read_json
from ..tokenizers import LanguageTokenizer
from .format import ChatFormat
from .glm4 import Glm4Format

# sha256 of the originals' chat_template, line ends normalised and stripped. They are not shipped: Glm4Format renders
# the same, and keeps a user's text plain.
KNOWN_TEMPLATES: Mapping[str, str] = {
    "27288f957f8364c990a2ce13bf5f8bf86921c4bce467ce698c76dcc69466d821": "glm-4-chat",
    "cee9facd39c67f98e6b94d95fdc31ba00a069b9ccaf7bc25d9e54b7b1bb39c24": "glm-4-chat-1m",
}


def load_chat_format(
    folder: str | os.PathLike[str],
    tokenizer: LanguageTokenizer,
    model_config: Mapping[str, Any] | None = None,
    tokenizer_config: Mapping[str, Any] | None = None,
) -> ChatFormat:
    """The chat format of a checkpoint folder; `model_config` is its config.json, `tokenizer_config` its
    tokenizer_config.json, which is read where not given.

    ChatGLM-6B's where its vocabulary (ice_text.model) lies in the folder. Else in this order: the key `chat_format` in
    tokenizer_config.json, which this library's own saves write; InternVL's, where the model is one; a chat template,
    one of the originals' or the checkpoint's own; none, which is glm-4v where the model has a vision tower, a chat
    variant where its RoPE base is not the base model's (early revisions came without a template; so do -hf checkpoints
    that lost theirs), -1m where it has 4 key/value heads, and else the base.

    Raises CheckpointError for an unreadable file, ConfigError for invalid JSON, an unknown format, or a template that
    does not compile.
    """
    folder = Path(folder)
    model_config = model_config or {}
    config = tokenizer_config
    if config is None:
        config = read_optional_json(folder / "tokenizer_config.json")
    if (folder / "ice_text.model").is_file():
        from .chatglm6b import ChatGLM6BFormat  # only here: the others need no sentencepiece

        return ChatGLM6BFormat(tokenizer)
    named = config.get("chat_format")
    if named is not None:
        return Glm4Format(tokenizer, str(named))
    if model_config.get("model_type") == "internvl_chat":
        from .internvl import internvl_format  # only here: the others need no sentencepiece

        return internvl_format(tokenizer, model_config)
    templates = read_templates(folder, config)
    if "default" in templates:
        digest = template_digest(templates["default"])
        if digest in KNOWN_TEMPLATES:
            return Glm4Format(tokenizer, KNOWN_TEMPLATES[digest])
    if templates:
        from .template import TemplateFormat  # only here: most checkpoints never need Jinja

        return TemplateFormat(tokenizer, templates, special_token_names(config))
    if model_config.get("vision_config") is not None:
        return Glm4Format(tokenizer, "glm-4v")
    if not _has_base_models_rope(model_config):
        heads = model_config.get("num_key_value_heads") or model_config.get("multi_query_group_num")
        return Glm4Format(tokenizer, "glm-4-chat-1m" if heads == 4 else "glm-4-chat")
    return Glm4Format(tokenizer, "glm-4-base")


def _has_base_models_rope(config: Mapping[str, Any]) -> bool:
    """Whether theta is 10,000: in the original layout that times rope_ratio, in -hf rope_theta, which 5.x nests."""
    nested = config.get("rope_parameters")
    thetas = (config.get("rope_theta"), nested.get("rope_theta") if isinstance(nested, Mapping) else None)
    return config.get("rope_ratio") in (None, 1) and all(theta in (None, 10_000) for theta in thetas)


def template_digest(template: str) -> str:
    """sha256 of a template, line ends normalised and stripped."""
    return hashlib.sha256(template.replace("\r\n", "\n").strip().encode("utf-8")).hexdigest()


def read_templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The checkpoint's chat templates by name, "default" the usual one; empty if it has none.

    Three places, as transformers reads them: chat_template.jinja (and additional_chat_templates/*.jinja), which win,
    else `chat_template` in tokenizer_config.json, one text or a list of `{"name", "template"}`.
    """
    template = config.get("chat_template")
    where = folder / "tokenizer_config.json"
    templates: dict[str, str] = {}
    if isinstance(template, str):
        templates["default"] = template
    elif isinstance(template, list):
        try:
            templates.update((str(entry["name"]), str(entry["template"])) for entry in template)
        except (KeyError, TypeError):
            raise ConfigError(
                f"{where}: chat_template is a list, but not of name and template; copy the file again"
            ) from None
    elif template is not None:
        raise ConfigError(f"{where}: chat_template is {type(template).__name__}; it must be text or a list")
    for path in [folder / "chat_template.jinja", *sorted((folder / "additional_chat_templates").glob("*.jinja"))]:
        if path.exists():
            try:
                templates["default" if path.parent == folder else path.stem] = path.read_text(encoding="utf-8")
            except OSError as error:
                raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
            except UnicodeDecodeError as error:
                raise CheckpointError(f"{path}: not UTF-8 ({error}); download the file again") from None
    return templates


def special_token_names(config: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token`, `eos_token` and the like of tokenizer_config.json: variables of a chat template."""
    names: dict[str, str] = {}
    for key, value in config.items():
        if key.endswith("_token"):
            content = value.get("content") if isinstance(value, Mapping) else value
            if isinstance(content, str):
                names[key] = content
    return names


def read_optional_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty if there is no such file. Raises as `jsonfile.read_json`."""
    return read_json(path) if path.exists() else {}
