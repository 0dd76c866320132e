"""`seqline compare`: decide between two trained runs as the promotion would."""

import argparse
import sys
from pathlib import Path

from pipeline.cli.arguments import print_escaped

HELP = "show whether one trained run would replace another as champion, and why; promote nothing"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument("champion", metavar="RUN", help="a name under `runs:`: the one to beat")
    parser.add_argument("challenger", metavar="RUN", help="another run of the same task and corpus")


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the decision as Markdown."""
    from pipeline.promotion import trained_runs

    if sys.stderr.isatty():
        print("computing predictions that are missing: seconds for small models", file=sys.stderr)
    decision = trained_runs.compare(root, arguments.champion, arguments.challenger)
    print_escaped(decision.markdown().rstrip("\n"))
