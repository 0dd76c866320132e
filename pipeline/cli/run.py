"""`seqline run`: run the DAG in parallel, as a Prefect flow."""

import argparse
import sys
from pathlib import Path

from pipeline.cli.arguments import add_jobs

HELP = "run the DAG in parallel, as a Prefect flow (`dvc repro`: in turn)"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="a stage, or a group such as train, with all that it needs",
    )
    add_jobs(parser)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Run the flow and exit with its status."""
    from pipeline.dag import project
    from pipeline.flow import commands

    project.check(root)
    sys.exit(commands.run(root, arguments.targets, arguments.jobs))
