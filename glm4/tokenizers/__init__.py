"""Text to token ids and back, for GLM-4's byte-level vocabulary. Knows nothing of chats, models or torch.

Self-contained: this folder is copied as it is next to an exported Hugging Face checkpoint.
"""

from .bpe import Tokenizer, load_tokenizer
from .detokenizer import Detokenizer
from .language_tokenizer import LanguageTokenizer, TextStream
from .stop import StopMatcher

__all__ = ["Detokenizer", "LanguageTokenizer", "StopMatcher", "TextStream", "Tokenizer", "load_tokenizer"]
