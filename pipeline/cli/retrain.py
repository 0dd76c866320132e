"""`seqline retrain`: pull new data, train, and promote what is significantly better."""

import argparse
import sys
from pathlib import Path

from pipeline.cli.arguments import add_jobs

HELP = "pull new data, train, and promote what is significantly better"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    add_jobs(parser)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Run the retraining flow once and exit with its status."""
    from pipeline.dag import project
    from pipeline.flow import commands

    project.check(root)
    sys.exit(commands.retrain(root, arguments.jobs))
