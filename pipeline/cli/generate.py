"""`seqline generate`: continue a text with a trained language model."""

import argparse
from pathlib import Path

from pipeline.cli.arguments import SEED
from pipeline.core.errors import printable
from pipeline.core.request_text import checked_text

HELP = "continue a prefix with a trained language model"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument("prefix", metavar="PREFIX")
    parser.add_argument("--run", required=True, help="a name under `runs:`")
    parser.add_argument("--seed", type=SEED, metavar="N", help="another seed gives another text")


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the text."""
    from pipeline.cli import trained_run

    prefix = checked_text(arguments.prefix, "PREFIX")
    session = trained_run.open_run(root, arguments.run)
    print(printable(session.generate([prefix], arguments.seed)[0]))
