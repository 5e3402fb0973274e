"""register() as the README writes it, with the models that everybody has."""

from __future__ import annotations

import subprocess
import sys

import pytest

import glm4
from glm4.hub import PACKAGED

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("name", PACKAGED)
def test_the_packaged_models_have_a_chat_template(name: str) -> None:
    """Their tokenizer_config.json names a chat format and no template."""
    glm4.hf.register()
    tokenizer = transformers.AutoTokenizer.from_pretrained(PACKAGED[name])
    messages = [{"role": "user", "content": "What is 27 + 46?"}]
    shown = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert shown == glm4.load_tokenizer(name).render_text(messages)


def test_without_transformers() -> None:
    """What is missing, and how to get it."""
    code = "import sys; sys.modules['transformers'] = None; import glm4; glm4.hf.register()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'InputError: register() needs the package transformers; run: pip install "transformers>=4.46"' in done.stderr
