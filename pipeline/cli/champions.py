"""`seqline champions`: the champion of each task on each corpus."""

import argparse
from pathlib import Path

from pipeline.cli.arguments import add_json, print_escaped, print_json
from pipeline.core.errors import refuse

HELP = "list the champion of each task on each corpus"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument("--history", action="store_true", help="list former champions too")
    parser.add_argument(
        "--of", metavar="PATH|MD5", help="versions that have this file or folder as input or output"
    )
    add_json(parser)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the table."""
    from pipeline.cli import champion_table

    if arguments.json and arguments.of is not None:
        raise refuse("--json", "it with --of", "one of the two")
    if arguments.json:
        print_json(champion_table.records(root, arguments.history))
    elif arguments.of is not None:
        print_escaped(champion_table.versions_of(root, arguments.of))
    else:
        print_escaped(champion_table.table(root, arguments.history))
