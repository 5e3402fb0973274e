"""Write a checkpoint in the other layout: weights, bit for bit, configuration, tokenizer and chat template.

hf: transformers' own class (GlmForCausalLM), which needs no remote code. thudm: the original names. GLM-4-9B, -Chat and
-Chat-1M exist in both. Tensors are copied one by one: memory for two of them is enough.
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
    parser.add_argument("--to", required=True, choices=("hf", "thudm"), help="the layout to write")
    parser.add_argument("--max-shard-size", type=size, metavar="SIZE", help="of a file of weights (default: 4GB)")


def run(args: argparse.Namespace) -> int:
    """Convert; returns the exit status."""
    from ..hf.convert import convert  # imports torch: not before the flags were understood

    sizes = {} if args.max_shard_size is None else {"shard_bytes": args.max_shard_size}
    try:
        folder = convert(args.model, args.target, args.to, **sizes)
    except Glm4Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"{folder}: written in the layout {args.to}")
    return 0
