"""Text to token ids and back, one file a family. Knows nothing of chats, models or torch.

Self-contained: this folder is copied as it is next to an exported Hugging Face checkpoint.
"""

import os
from pathlib import Path

from .bpe import Tokenizer
from .bpe import load_tokenizer as _load_bpe
from .detokenizer import Detokenizer
from .language_tokenizer import LanguageTokenizer, TextStream
from .stop import StopMatcher


def load_tokenizer(folder: str | os.PathLike[str], *, padded_vocab_size: int | None = None) -> LanguageTokenizer:
    """Read a checkpoint folder's tokenizer, of the family whose files it holds: ChatGLM-6B's `ice_text.model`; a
    `tokenizer.model` in sentencepiece's format, LLaMA's; else GLM-4's `tokenizer.model` (tiktoken ranks) or
    `tokenizer.json`.

    `padded_vocab_size` is the number of rows of the model's embedding, where known.

    Raises FileNotFoundError naming the missing file, ValueError naming a damaged or unreadable one.
    """
    folder = Path(folder)
    if (folder / "ice_text.model").is_file():
        from .ice import load_ice_tokenizer  # only here: GLM-4 needs no sentencepiece

        return load_ice_tokenizer(folder, padded_vocab_size=padded_vocab_size)
    if _is_sentencepiece(folder / "tokenizer.model"):
        from .llama_tokenizer import load_llama_tokenizer

        return load_llama_tokenizer(folder, padded_vocab_size=padded_vocab_size)
    return _load_bpe(folder, padded_vocab_size=padded_vocab_size)


def _is_sentencepiece(path: Path) -> bool:
    """Whether the file is binary as sentencepiece writes it: a first piece, which names no more than 127 bytes. GLM-4's
    file of the same name is lines of base64."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError:
        return False  # who reads it next says why
    return len(head) == 4 and head[0] == head[2] == 0x0A and head[3] < head[1] < 0x80


__all__ = ["Detokenizer", "LanguageTokenizer", "StopMatcher", "TextStream", "Tokenizer", "load_tokenizer"]
