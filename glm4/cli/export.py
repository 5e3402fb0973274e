"""Write a checkpoint as a folder that transformers loads by itself, with this library's classes as its remote code:
AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True), on transformers 4.46 to 5, without glm4.

GLM-4-9B, -Chat, -Chat-1M and GLM-4V-9B, from the original layout or transformers' own. The tensors keep their original
names and every bit.
"""

from __future__ import annotations

import argparse
import sys

from ..errors import Glm4Error
from .sizes import size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments on a parser."""
    parser.add_argument("model", help="folder or hub id, e.g. THUDM/glm-4-9b-chat")
    parser.add_argument("target", help="the new folder")
    parser.add_argument(
        "--link",
        action="store_true",
        help="share the files of weights with MODEL instead of copying them (hard links, on the same disk)",
    )
    parser.add_argument(
        "--max-shard-size", type=size, metavar="SIZE", help="of a weights file that is written anew (default: 4GB)"
    )


def run(args: argparse.Namespace) -> int:
    """Export; returns the exit status."""
    from ..hf.export import export  # imports torch: not before the flags were understood

    sizes = {} if args.max_shard_size is None else {"shard_bytes": args.max_shard_size}
    try:
        folder = export(args.model, args.target, link=args.link, **sizes)
    except Glm4Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"{folder}: load it with AutoModelForCausalLM.from_pretrained({str(folder)!r}, trust_remote_code=True)")
    return 0
