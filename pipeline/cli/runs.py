"""`seqline runs`: what is trained."""

import argparse
import dataclasses
import json
from pathlib import Path

from pipeline.cli.arguments import print_escaped

HELP = "list the runs: task, corpus, trained seeds, score and champion"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument("--json", action="store_true", help="print an object of JSON per run")


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print a table per task and corpus, the best setting first."""
    from pipeline.cli import run_table
    from pipeline.runs import table

    rows = table.rows(root, table.present_champions(root))
    if arguments.json:
        for row in rows:
            print(json.dumps(dataclasses.asdict(row)))
        return
    print_escaped(run_table.text(rows))
