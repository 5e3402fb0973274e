"""Say what a model's folder is, whether it will load on this machine and what memory that takes; or what an error
message means, and what helps.

Without an argument it looks at this machine and the small model in the package. Weights are never read. The exit status
is 0 if the model will load (or the message is known), 1 if not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress

from ..doctor import Report, examine, examine_text
from ..doctor.matching import LONGEST_TEXT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags on a parser."""
    parser.add_argument(
        "about",
        nargs="*",
        metavar="FOLDER | MESSAGE",
        help="a model's folder, a hub id, or the text of an error message; - reads a message or a whole traceback from "
        "standard input",
    )
    parser.add_argument(
        "--device", default="auto", help="where it would be loaded: auto, cpu, cuda, ... (default: auto)"
    )
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=["auto", "bfloat16", "float16", "float32", "int8", "int4"],
        help="in what it would be loaded (default: auto, the checkpoint's own)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object; sizes in bytes")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the flags and run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Examine and print; returns the exit status."""
    for stream in (sys.stdin, sys.stdout):
        # A text in another encoding must not end the visit.
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        report = _report(args)
        width = min(shutil.get_terminal_size((100, 24)).columns, 120)
        print(report.as_json() if args.json else report.as_text(width), flush=True)
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # standard output cannot be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter fails once more at its end
        return 0 if isinstance(error, BrokenPipeError) else 1
    return 0 if report.good else 1


def _report(args: argparse.Namespace) -> Report:
    if args.about == ["-"]:
        # A log can be endless; the message stands at its end, and the pipe is read to it in bounded memory.
        return examine_text(_read_ends(), "the text from standard input")
    # An unquoted message arrives as many words, of which the shell has already eaten the quotes.
    return examine(" ".join(args.about) or None, device=args.device, dtype=args.dtype)


def _read_ends() -> str:
    """All of standard input, or its start and its end where it is long."""
    if sys.stdin is None:
        return ""
    start, end = sys.stdin.read(LONGEST_TEXT), ""
    while piece := sys.stdin.read(LONGEST_TEXT):
        end = (end + piece)[-LONGEST_TEXT:]
    return start + end
