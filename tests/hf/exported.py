"""Random models as folders, exported and loaded the way their users do. Nothing here is a test."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

# Before transformers is imported: where it copies remote code to.
os.environ.setdefault("HF_MODULES_CACHE", tempfile.mkdtemp(prefix="glm4_tests_"))

transformers = pytest.importorskip("transformers")
import torch  # noqa: E402
from random_models import random_model, random_seeing_model  # noqa: E402
from tiny_tokenizer import tiny_tokenizer, write_ranks  # noqa: E402

from glm4.checkpoints import save_checkpoint  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

V, CONTEXT = 384, 256
SPECIALS = tiny_tokenizer().special_tokens
BOI, HOLDER, EOI = SPECIALS["<|begin_of_image|>"], SPECIALS["<|endoftext|>"], SPECIALS["<|end_of_image|>"]
PLACE = [BOI, HOLDER, EOI]
ENDS = sorted(tiny_tokenizer().stop_token_ids)
GENERATION = {"eos_token_id": ENDS, "pad_token_id": HOLDER, "do_sample": False, "max_length": CONTEXT}


def checkpoint(folder: Path, *, sees: bool = False, **changes: Any) -> Path:
    """A random model in the original layout, with a tokenizer."""
    if sees:
        model: Any = random_seeing_model(BOI, EOI, seed=41, vocab_size=V, max_positions=CONTEXT, **changes)
    else:
        model = random_model(40, vocab_size=V, max_positions=CONTEXT, **changes)
    save_checkpoint(model, folder, layout="thudm", generation_config=GENERATION)
    write_ranks(folder / "tokenizer.model")
    config = {"chat_format": "glm-4v" if sees else "glm-4-chat"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def load(folder: Path, **kwargs: Any) -> Any:
    """The exported model, by its remote code."""
    kwargs.setdefault("torch_dtype", torch.float32)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **kwargs).eval()


def load_tokenizer(folder: Path) -> Any:
    """The exported tokenizer, by its remote code."""
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
