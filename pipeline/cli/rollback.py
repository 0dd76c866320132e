"""`seqline rollback`: make the previous champion champion again."""

import argparse
from pathlib import Path

from pipeline.cli.arguments import print_escaped

HELP = "make the champion before the present one champion again"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument(
        "model", metavar="MODEL", help="a registered model, as `seqline champions` lists them"
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Roll back, and print the champion."""
    from pipeline.cli import champion_table

    print_escaped(champion_table.rollback(root, arguments.model))
