"""`seqline champions`: the champion of each task on each corpus."""

import argparse
from pathlib import Path

from pipeline.cli.arguments import print_escaped

HELP = "list the champion of each task on each corpus"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument("--history", action="store_true", help="list former champions too")
    parser.add_argument(
        "--of", metavar="PATH|MD5", help="versions that have this file or folder as input or output"
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the table."""
    from pipeline.cli import champion_table

    if arguments.of is not None:
        print_escaped(champion_table.versions_of(root, arguments.of))
    else:
        print_escaped(champion_table.table(root, arguments.history))
