"""`seqline compare`: decide between two trained runs as the promotion would."""

import argparse
import sys
from pathlib import Path

from pipeline.cli.arguments import print_escaped
from pipeline.cli.run_names import run_of

HELP = "show whether one trained run would replace another as champion, and why; promote nothing"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument(
        "champion", metavar="RUN", help="the one to beat: a run, or a setting for its first run"
    )
    parser.add_argument("challenger", metavar="RUN", help="another run of the same task and corpus")


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the decision as Markdown."""
    from pipeline.promotion import trained_runs

    if sys.stderr.isatty():
        print("computing predictions that are missing: seconds for small models", file=sys.stderr)
    champion, challenger = (
        run_of(root, name, "RUN") for name in (arguments.champion, arguments.challenger)
    )
    decision = trained_runs.compare(root, champion, challenger)
    print_escaped(decision.markdown().rstrip("\n"))
