"""Makes the default model's vocabulary: byte-level BPE for GLM-4's split expression, built so that copying is easy.

- Digits never merge, so that numbers are read and written digit by digit.
- Chinese characters never merge (but for the fixed phrases of the tool header), so that a name begins at a token.
- A word's letters are the same tokens wherever it stands, after a space or after a quotation mark: a leading space is a
  token of its own, except before the commonest words of the mix.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import re
from collections import Counter
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from . import data
from .strings import GIVEN_ZH, SURNAMES_ZH
from .text_skills import NOUNS_EN

ASSETS = Path(__file__).resolve().parents[2] / "glm4" / "assets" / "default"
SPECIAL_TOKENS = (
    "<|endoftext|> [MASK] [gMASK] [sMASK] <sop> <eop> <|system|> <|user|> <|assistant|> <|observation|> "
    "<|begin_of_image|> <|end_of_image|> <|begin_of_video|> <|end_of_video|>"
).split()
N_REGULAR = 4082  # with the 14 special tokens 4,096 rows
N_CHARACTERS = 1450
N_SPACED_WORDS = 170

HEADER = (
    "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，你的任务是针对用户的问题"
    "和要求提供适当的答复和支持。\n\n# 可用工具"
)
TOOL_FOOTER = "在调用上述函数时，请使用 Json 格式表示调用的参数。"

# GLM-4's own expression with single digits, and letters without the character before them.
_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[a-zA-Z]+|[0-9]| ?[^\sa-zA-Z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_HAN_RUN = re.compile(r"[\u4e00-\u9fff]+")


def mix_text(seed: int, conversations: int, folder: Path) -> list[str]:
    """Conversations as plain text; only the statistics of the vocabulary come from it."""
    rng = random.Random(seed)
    texts = []
    for _ in range(conversations):
        sample = data.conversation(rng, "train", folder)
        for tool in sample.tools or ():
            texts.append(f"\n{json.dumps(tool.get('function', tool), indent=4, ensure_ascii=False)}\n{TOOL_FOOTER}")
        for message in sample.messages:
            texts.append(f"\n{message['content']}")
            for call in message.get("tool_calls", ()):
                texts.append(f"{call['function']['name']}\n{call['function']['arguments']}")
    return texts


def characters(texts: list[str], chinese: list[str]) -> list[bytes]:
    """The commonest characters beyond ASCII, each after the two-byte prefix it is merged from."""
    counts = Counter(character for text in texts for character in text if ord(character) > 127)
    counts.update(character for text in chinese for character in text if ord(character) > 127)
    needed = sorted(
        {character for character in HEADER + TOOL_FOOTER if ord(character) > 127} | set(SURNAMES_ZH) | set(GIVEN_ZH)
    )
    ranked = needed + [
        c for c, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if c not in set(needed)
    ]
    tokens: dict[bytes, None] = {}
    for character in ranked[:N_CHARACTERS]:
        encoded = character.encode()
        for end in range(2, len(encoded) + 1):
            tokens.setdefault(encoded[:end])
    return list(tokens)


def latin_merges(texts: list[str], count: int) -> list[bytes]:
    """The first `count` merges of a byte-level BPE over the ASCII part of the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=256 + count, initial_alphabet=alphabet, show_progress=False, max_token_length=16
    )
    fragments = (fragment for text in texts for fragment in re.split(r"[^\x00-\x7f]+", text) if fragment)
    tokenizer.train_from_iterator(fragments, trainer)
    to_byte = _byte_of_character()
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [bytes(to_byte[c] for c in "".join(pair if isinstance(pair, list) else pair.split(" "))) for pair in merges]


def _byte_of_character() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes, backwards."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    mapping = {chr(b): b for b in printable}
    mapping.update({chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in printable)})
    return mapping


def spaced_words(texts: list[str], latin: list[bytes]) -> list[bytes]:
    """ " the", " is", ...: merged last, so that the word's own tokens stay what they are without the space."""
    known = {token.decode() for token in latin if token.isalpha()} - set(NOUNS_EN)
    counts = Counter(
        word for text in texts for word in re.findall(r"(?<= )[A-Za-z]+", text) if word in known and len(word) > 1
    )
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [b" " + word.encode() for word, _ in ranked[:N_SPACED_WORDS]]


def phrase_merges(single: set[bytes]) -> list[bytes]:
    """The tool header's Chinese phrases as single tokens; it stands in every conversation with tools."""
    merges: list[bytes] = []
    for run in _HAN_RUN.findall(HEADER + "\n" + TOOL_FOOTER):
        pieces = _apply([c.encode() for c in run], merges)
        if any(piece not in single and piece not in merges for piece in pieces):
            continue
        while len(pieces) > 1:
            merges.append(pieces[-2] + pieces[-1])  # from the right: fewer common pairs arise on the way
            pieces = _apply(pieces, merges)
    return merges


def _apply(pieces: list[bytes], merges: list[bytes]) -> list[bytes]:
    rank = {token: i for i, token in enumerate(merges)}
    while True:
        best = min(
            ((rank[pieces[i] + pieces[i + 1]], i) for i in range(len(pieces) - 1) if pieces[i] + pieces[i + 1] in rank),
            default=None,
        )
        if best is None:
            return pieces
        i = best[1]
        pieces = [*pieces[:i], pieces[i] + pieces[i + 1], *pieces[i + 2 :]]


def build(folder: Path, seed: int = 7, conversations: int = 8000) -> list[bytes]:
    """All regular tokens in the order of their ranks."""
    corpus = data.corpus_of(folder)
    texts = mix_text(seed, conversations, folder)
    tokens = [bytes([b]) for b in range(256)]
    tokens += characters(texts, corpus.chinese_lines["train"])
    phrases = phrase_merges(set(tokens))
    n_latin = N_REGULAR - len(tokens) - len(phrases) - N_SPACED_WORDS
    rng = random.Random(seed)
    books = [corpus.sentence(rng, "train") for _ in range(25_000)]
    latin = latin_merges(texts + books, n_latin)
    tokens += latin + spaced_words(texts, latin) + phrases
    if len(tokens) != N_REGULAR or len(set(tokens)) != N_REGULAR:
        raise RuntimeError(
            f"the vocabulary has {len(tokens)} tokens, {len(set(tokens))} of them distinct; expected {N_REGULAR}"
        )
    return tokens


def write(tokens: list[bytes], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(tokens)]
    (folder / "tokenizer.model").write_text("\n".join(lines) + "\n", encoding="ascii")
    config = {
        "chat_format": "glm-4-chat",
        "additional_special_tokens": SPECIAL_TOKENS,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "model_max_length": 2048,
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="the folder of training text")
    parser.add_argument("--out", type=Path, default=ASSETS)
    arguments = parser.parse_args()
    write(build(arguments.data), arguments.out)
    print(f"wrote {arguments.out / 'tokenizer.model'}")


if __name__ == "__main__":
    main()
