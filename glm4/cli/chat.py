"""Talk with a model in the terminal. Replies stream as they are written; Ctrl-C stops a reply, Ctrl-D leaves.

A pipe's lines are the messages of one conversation; only the replies go to standard output. The exit status is 1 if any
line could not be answered.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import CheckpointError, Glm4Error, InputError
from ..sampling import SamplingParams
from .terminal import visible

if TYPE_CHECKING:
    from ..llm import LLM

MIN_ROOM = 64  # tokens that a reply should have at least, before old turns are dropped to make room
EXIT_WORDS = {"exit", "quit", "/exit", "/bye"}
Message = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags on a parser."""
    parser.add_argument(
        "--model",
        default=os.environ.get("MODEL_PATH") or None,
        help="folder or hub id, e.g. THUDM/glm-4-9b-chat; default: $MODEL_PATH, or else the small model in the package",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16, float16, float32 (default: auto)")
    parser.add_argument("--system", help="system prompt")
    parser.add_argument("--temperature", type=float, help="0 for the likeliest reply; default: the checkpoint's own")
    parser.add_argument("--top-p", type=float, help="default: the checkpoint's own")
    parser.add_argument("--max-tokens", type=int, help="longest reply; default: as long as the context allows")
    parser.add_argument("--seed", type=int, help="makes sampled replies repeatable")
    parser.add_argument("--prompt", help="answer this one message and leave; - reads it from standard input")
    parser.add_argument("--stats", action="store_true", help="after each reply, print its speed")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the flags and run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Load the model and talk; returns the exit status."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # A terminal or a pipe in another encoding must not end the conversation.
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        sampling = _sampling(args)
        prompt = _lines_of(sys.stdin) if args.prompt == "-" else args.prompt
        if prompt is not None and not prompt.strip():
            raise InputError("the prompt is empty; pass some text")
        llm = _load(args)
        chat = _Chat(llm, args.system, sampling, args.stats)
        if prompt is not None:
            chat.answer(prompt)
            return 0
        _note(_banner(llm, args.model))
        return _talk(chat)
    except Glm4Error as error:
        _note(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # standard output cannot be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter fails once more at its end
        if not isinstance(error, BrokenPipeError):  # the reader went away, as in `... | head`: no error
            _note(f"error: cannot write the reply: {error.strerror}")
            return 1
    return 0


def _sampling(args: argparse.Namespace) -> dict[str, Any]:
    """The sampling flags that were given, checked before a model is loaded for minutes."""
    flags = {name: getattr(args, name) for name in ("temperature", "top_p", "max_tokens", "seed")}
    given = {name: value for name, value in flags.items() if value is not None}
    SamplingParams().updated(given)
    return given


def _load(args: argparse.Namespace) -> LLM:
    if sys.stderr.isatty():
        _note("Loading ...")
    from ..loading import load_model  # imports torch: not before the flags were understood

    try:
        return load_model(args.model, device=args.device, dtype=args.dtype)
    except Glm4Error as error:
        if args.model and args.model == os.environ.get("MODEL_PATH"):
            raise CheckpointError(f"{error} (the model was named by MODEL_PATH)") from error
        raise


def _lines_of(stream: TextIO | None) -> str:
    """All of a pipe, without the mark that Windows puts in front of a text; nothing where there is no pipe."""
    return stream.read().removeprefix("\ufeff") if stream is not None else ""


def _banner(llm: LLM, model: str | None) -> str:
    parameters = sum(p.numel() for p in llm.model.parameters())
    size = f"{parameters / 1e9:.1f} B" if parameters >= 1e9 else f"{parameters / 1e6:.1f} M"
    what = "the small default model" if model is None else model
    dtype = str(llm.dtype).removeprefix("torch.")
    lines = [f"glm4: {what}, {size} parameters, {dtype} on {llm.device}, context {llm.context:,} tokens."]
    if model is None:
        lines.append("A toy that proves the pipeline. The real one: --model THUDM/glm-4-9b-chat, or MODEL_PATH=folder")
    if _is_terminal(sys.stdin):
        lines.append("Ctrl-C stops a reply; exit or Ctrl-D leaves.")
    return "\n".join(lines)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _talk(chat: _Chat) -> int:
    """Answer line by line. Returns the exit status: for a pipe, 1 if any line could not be answered."""
    failed = False
    for line in _lines():
        if line.strip().lower() in EXIT_WORDS:
            break
        if not line.strip():
            continue
        try:
            chat.answer(line)
        except Glm4Error as error:
            failed = True
            _note(f"error: {error}")
        except KeyboardInterrupt:  # before the reply began
            if not _is_terminal(sys.stdin):
                raise
            print("[stopped]", flush=True)
    return int(failed and not _is_terminal(sys.stdin))


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _lines() -> Iterator[str]:
    """What the user types, or the lines of a pipe, until its end."""
    if not _is_terminal(sys.stdin):
        for number, line in enumerate(sys.stdin or ()):
            yield (line if number else line.removeprefix("\ufeff")).rstrip("\r\n")
        return
    with suppress(ImportError):
        import readline  # noqa: F401 (gives input() its line editing)
    while True:
        try:
            yield input("\nYou: ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n(Ctrl-D or exit leaves)")


class _Chat:
    """A conversation: what was said so far, and how to answer."""

    def __init__(self, llm: LLM, system: str | None, sampling: dict[str, Any], stats: bool) -> None:
        self.llm, self.sampling, self.stats = llm, sampling, stats
        self.system: list[Message] = [{"role": "system", "content": system}] if system else []
        self.turns: list[list[Message]] = []  # each starts with the user's message

    def answer(self, text: str) -> None:
        """Stream the reply to `text` to standard output. If it is refused, the conversation stays as it was."""
        question: Message = {"role": "user", "content": text}
        kept = self._turns_that_fit(question)
        messages = self.system + [message for turn in kept for message in turn] + [question]
        answer = self._reply(messages)
        self.turns = [*kept, [question, answer]]

    def _turns_that_fit(self, question: Message) -> list[list[Message]]:
        """The turns so far, without as many of the oldest as must go to leave room for a reply to `question`."""
        room = min(self.sampling.get("max_tokens", MIN_ROOM), MIN_ROOM)
        for dropped in range(len(self.turns) + 1):
            kept = self.turns[dropped:]
            messages = self.system + [message for turn in kept for message in turn] + [question]
            if len(self.llm.tokenizer.render(messages)) + room <= self.llm.context:
                if dropped:
                    plural = "s" * (dropped > 1)
                    _note(f"(the conversation outgrew the context: the oldest {dropped} turn{plural} left out)")
                return kept
        return []  # not even the question alone leaves that much room; the model says whether it fits at all

    def _reply(self, messages: list[Message]) -> Message:
        pieces: list[str] = []
        count = 0
        start = time.perf_counter()
        first = start
        reason = None
        deltas = self.llm.stream(messages, **self.sampling)
        if _is_terminal(sys.stdin) and _is_terminal(sys.stdout):
            print("GLM: ", end="", flush=True)
        try:
            for delta in deltas:
                first = first if count else time.perf_counter()
                count += len(delta.token_ids)
                pieces.append(delta.text)
                reason = delta.finish_reason
                print(visible(delta.text), end="", flush=True)
        except KeyboardInterrupt:
            print(" [stopped]", end="")
        print(flush=True)
        if reason == "length" and "max_tokens" not in self.sampling:
            _note("(cut off: the context is full)")
        if self.stats and count:
            _note(_speed(count, first - start, time.perf_counter() - first))
        return {"role": "assistant", "content": "".join(pieces)}


def _speed(count: int, to_first_s: float, rest_s: float) -> str:
    speed = f"{(count - 1) / rest_s:.1f} tokens/s, " if count > 1 else ""
    return f"({count} tokens, {speed}first after {to_first_s:.2f} s)"
