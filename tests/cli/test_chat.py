"""The terminal program, run as a person or a pipe would run it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from random_models import random_model
from tiny_tokenizer import tiny_ranks, write_ranks

from glm4.checkpoints import save_checkpoint
from glm4.cli.terminal import visible

DEMO = Path(__file__).resolve().parents[2] / "basic_demo" / "trans_cli_demo.py"


@pytest.fixture(scope="module")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights with a tokenizer: it talks until the context is full."""
    folder = tmp_path_factory.mktemp("babbler")
    model = random_model(vocab_size=len(tiny_ranks()) + 14, max_positions=4096)
    model.lm_head.weight[len(tiny_ranks()) :] = 0  # so that no control token is ever the likeliest
    save_checkpoint(model, folder, layout="thudm", generation_config={"do_sample": False})
    write_ranks(folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text('{"chat_format": "glm-4-chat"}')
    return folder


def run(*flags: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    """The demo with its input from a pipe."""
    return subprocess.run(
        [sys.executable, str(DEMO), *flags],
        input=stdin,
        capture_output=True,
        timeout=120,
        env={**{k: v for k, v in os.environ.items() if k != "MODEL_PATH"}, **env},
    )


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


def test_ctrl_c_stops_the_reply_and_not_the_program(babbler: Path) -> None:
    terminal = Terminal("--model", str(babbler))
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
    done = subprocess.run(
        [sys.executable, "-m", "glm4.cli", "chat", "--prompt", "Hello"], capture_output=True, timeout=120
    )
    assert done.stdout == run("--prompt", "Hello").stdout


def test_control_characters_are_shown_not_carried_out() -> None:
    assert visible("a\x1b]0;title\x07b\r\x9bc\u202ed\n\te") == "a␛]0;title␇b␍�c�d\n\te"
