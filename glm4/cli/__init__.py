"""The `glm4` command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .. import __version__
from . import chat, convert, doctor, export


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `glm4` command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="glm4", description="Inference for the GLM-4-9B family.")
    parser.add_argument("--version", action="version", version=f"glm4 {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("chat", help="talk with a model in the terminal", description=chat.__doc__)
    chat.add_arguments(command)
    command.set_defaults(run=chat.run)
    command = commands.add_parser(
        "doctor", help="what is wrong: a folder, this machine, a message", description=doctor.__doc__
    )
    doctor.add_arguments(command)
    command.set_defaults(run=doctor.run)
    command = commands.add_parser(
        "export", help="a folder that transformers loads without glm4", description=export.__doc__
    )
    export.add_arguments(command)
    command.set_defaults(run=export.run)
    command = commands.add_parser("convert", help="the same weights in another layout", description=convert.__doc__)
    convert.add_arguments(command)
    command.set_defaults(run=convert.run)
    args = parser.parse_args(argv)
    try:
        status: int = args.run(args)
    except KeyboardInterrupt:
        return 130
    return status
