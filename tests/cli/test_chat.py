"""The terminal program, run as a person or a pipe would run it."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from random_models import random_model
from tiny_tokenizer import tiny_ranks, write_ranks

import glm4
from glm4.checkpoints import save_checkpoint
from glm4.cli.chat import main
from glm4.cli.terminal import visible

DEMO = Path(__file__).resolve().parents[2] / "basic_demo" / "trans_cli_demo.py"


@pytest.fixture(scope="module")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights with a tokenizer: it talks until the context of 4,096 tokens is full."""
    return talker(tmp_path_factory.mktemp("babbler"), 4096)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a context that takes minutes to fill, so that there is always a reply to interrupt."""
    return talker(tmp_path_factory.mktemp("endless"), 500_000)


def talker(folder: Path, context: int) -> Path:
    """Write such a checkpoint."""
    model = random_model(vocab_size=len(tiny_ranks()) + 14, max_positions=context)
    model.lm_head.weight[len(tiny_ranks()) :] = 0  # so that no control token is ever the likeliest
    save_checkpoint(model, folder, layout="thudm", generation_config={"do_sample": False})
    write_ranks(folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text('{"chat_format": "glm-4-chat"}')
    return folder


@dataclass(frozen=True)
class Done:
    """What a run left: exit status and what it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run(*flags: str, stdin: bytes = b"", **env: str) -> Done:
    """The program in this process, its input from a pipe: starting torch anew for each test would take long."""
    out, err = io.BytesIO(), io.BytesIO()
    streams = [
        io.TextIOWrapper(stream, encoding="utf-8", write_through=True) for stream in (io.BytesIO(stdin), out, err)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MODEL_PATH", raising=False)
        for name, value in env.items():
            patch.setenv(name, value)
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        try:
            status = main(flags)
        except SystemExit as end:
            status = int(end.code or 0)
    return Done(status, out.getvalue(), err.getvalue())


def test_one_shot_prints_the_reply_and_nothing_else() -> None:
    done = run("--prompt", "Hello", "--temperature", "0")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"\n")
    assert len(done.stdout.strip()) > 0


def test_a_pipe_gets_one_reply_a_line_and_remembers_the_turns_before() -> None:
    lines = b"Hello\n\nMy name is Qeltrami.\nexit\nnever reached\n"
    done = run(stdin=lines)
    assert done.returncode == 0
    assert len(done.stdout.decode().strip().splitlines()) == 2
    assert b"--model THUDM/glm-4-9b-chat" in done.stderr  # the banner says how to get the real one
    assert b"small default model" in done.stderr


def test_prompt_from_standard_input_is_one_message() -> None:
    whole = run("--prompt", "-", stdin="Repeat: 你好".encode())
    assert whole.stdout == run("--prompt", "Repeat: 你好").stdout


def test_input_that_is_no_utf8_does_not_end_the_conversation() -> None:
    done = run(stdin=b"\xff\xfe hello\nHello\n")
    assert done.returncode == 0
    assert len(done.stdout.decode().strip().splitlines()) == 2


def test_the_model_comes_from_the_environment(babbler: Path) -> None:
    done = run("--max-tokens", "3", stdin=b"hi\n", MODEL_PATH=str(babbler))
    assert done.returncode == 0
    assert str(babbler).encode() in done.stderr


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--model", "/no/such/folder"], "/no/such/folder"),
        (["--temperature", "nan"], "temperature"),
        (["--top-p", "7"], "top_p"),
        (["--dtype", "int3"], "int3"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_errors_are_one_line_that_names_the_value(flags: list[str], named: str) -> None:
    done = run(*flags, "--prompt", "Hello")
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert named in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_stats_count_what_was_written(babbler: Path) -> None:
    done = run("--model", str(babbler), "--prompt", "hi", "--max-tokens", "7", "--stats")
    assert re.fullmatch(rb"\(7 tokens, [\d.]+ tokens/s, first after [\d.]+ s\)\n", done.stderr)


def test_a_conversation_that_outgrows_the_context_loses_its_oldest_turns(babbler: Path) -> None:
    lines = [b"x" * 1500] * 4 + [b"y" * 5000, b"hi"]
    done = run("--model", str(babbler), "--max-tokens", "5", stdin=b"\n".join(lines))
    notes = done.stderr.decode().splitlines()[-3:]
    assert "the oldest 1 turn left out" in notes[0]  # the third x
    assert "the oldest 1 turn left out" in notes[1]  # the fourth
    assert notes[2].startswith("error: the prompt has 50")  # y is refused, and drops nothing: "hi" still fits
    assert "the context of" in notes[2]
    assert done.returncode == 1  # a script should know that a line went unanswered


def test_a_refused_message_leaves_the_conversation_as_it_was() -> None:
    told, too_long, asked = b"My name is Qeltrami.", b"word " * 4000, b"What is my name?"
    with_it = run(stdin=b"\n".join([told, too_long, asked])).stdout.splitlines()
    without = run(stdin=b"\n".join([told, asked])).stdout.splitlines()
    assert with_it == without


def test_a_reply_cut_off_by_the_context_is_announced(babbler: Path) -> None:
    done = run("--model", str(babbler), "--prompt", "x" * 4050)
    assert done.stderr == b"(cut off: the context is full)\n"


def test_a_reader_that_goes_away_is_no_error(babbler: Path) -> None:
    command = f"yes hi | head -3 | {sys.executable} {DEMO} --model {babbler} --max-tokens 200 | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=120)
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


class Terminal:
    """A child process on a terminal of its own."""

    def __init__(self, *flags: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [sys.executable, str(DEMO), *flags])
        self.seen = ""

    def expect(self, text: str, timeout_s: float = 60) -> None:
        """Read until `text` appears behind what was expected before."""
        end = time.monotonic() + timeout_s
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            try:
                chunk = os.read(self.fd, 4096) if ready else b""
            except OSError:  # the other end is closed
                chunk = b""
            assert chunk, f"{text!r} did not come; seen: {self.seen[-500:]!r}"
            self.seen += chunk.decode(errors="replace")
        self.seen = self.seen.partition(text)[2]

    def send(self, text: str) -> None:
        time.sleep(0.3)  # a prompt is on the screen a moment before readline is ready for keys, as it is for a person
        os.write(self.fd, text.encode())

    def status(self) -> int:
        """Wait for the end; the exit status."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            ready, _, _ = select.select([self.fd], [], [], 0.05)
            if ready:
                try:
                    os.read(self.fd, 4096)
                except OSError:
                    time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("the program did not end")


def test_ctrl_c_stops_the_reply_and_not_the_program(endless: Path) -> None:
    terminal = Terminal("--model", str(endless))
    terminal.expect("You: ")
    terminal.send("hello\n")
    terminal.expect("GLM: ")
    terminal.send("\x03")
    terminal.expect("[stopped]")
    terminal.expect("You: ")
    terminal.send("\x03")
    terminal.expect("Ctrl-D or exit leaves")
    terminal.expect("You: ")
    terminal.send("again\n")
    terminal.expect("GLM: ")
    terminal.send("\x03")
    terminal.expect("You: ")
    terminal.send("exit\n")
    assert terminal.status() == 0


def test_ctrl_d_leaves() -> None:
    terminal = Terminal()
    terminal.expect("You: ")
    terminal.send("\x04")
    assert terminal.status() == 0


def test_help_is_quick_and_lists_every_flag() -> None:
    done = run("--help")
    for flag in "--model --device --dtype --system --temperature --top-p --max-tokens --seed --prompt --stats".split():
        assert flag.encode() in done.stdout


def test_the_glm4_command_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "glm4", "chat", "--prompt", "Hello"], capture_output=True, timeout=120)
    assert done.stdout == run("--prompt", "Hello").stdout


def test_control_characters_are_shown_not_carried_out() -> None:
    assert visible("a\x1b]0;title\x07b\r\x9bc\u202ed\n\te") == "a␛]0;title␇b␍�c�d\n\te"


def test_a_text_from_windows_is_read_without_its_mark_and_line_ends() -> None:
    done = run(stdin=b"\xef\xbb\xbfexit\r\nHello\r\n")
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize("flags", [["--max-tokens", "0"], ["--temperature", "-1"], ["--prompt", " "]])
def test_flags_are_refused_before_the_model_is_loaded(flags: list[str]) -> None:
    done = run("--model", "/no/such/folder", *flags)
    assert done.returncode == 1
    assert b"/no/such/folder" not in done.stderr


def test_a_model_from_the_environment_that_is_none_says_where_its_name_came_from() -> None:
    done = run("--prompt", "Hello", MODEL_PATH="nonsense")
    assert b"there is no folder nonsense" in done.stderr
    assert done.stderr.endswith(b"(the model was named by MODEL_PATH)\n")


@pytest.mark.parametrize(
    ("redirection", "said"), [("<&-", b""), ("--prompt Hello > /dev/full", b"cannot write the reply")]
)
def test_closed_and_full_files_are_no_tracebacks(redirection: str, said: bytes) -> None:
    done = subprocess.run(["bash", "-c", f"{sys.executable} {DEMO} {redirection}"], capture_output=True, timeout=120)
    assert b"Traceback" not in done.stderr
    assert said in done.stderr


def test_version() -> None:
    done = subprocess.run([sys.executable, "-m", "glm4", "--version"], capture_output=True, timeout=60, text=True)
    assert done.stdout == f"glm4 {glm4.__version__}\n"
