"""`seqline promote`: make a run or a registered version champion manually."""

import argparse
from pathlib import Path

from pipeline.cli.arguments import print_escaped, whole_number

HELP = "make a run, or a version, champion of its task on its corpus"
_VERSION = whole_number(1, 2**31 - 1)  # the registry's database has 32 bits for it


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument("what", metavar="RUN|MODEL")
    parser.add_argument(
        "version", nargs="?", type=_VERSION, metavar="VERSION", help="of the registered MODEL"
    )
    parser.add_argument("--why", metavar="TEXT", help="reason, kept with the promotion")


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Promote, and print the old and the new champion."""
    from pipeline.cli import champion_table

    print_escaped(champion_table.promote(root, arguments.what, arguments.version, arguments.why))
