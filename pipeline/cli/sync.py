"""`seqline sync`: backfill MLflow from DVC's outputs."""

import argparse
from pathlib import Path

HELP = "add the runs to MLflow that it lacks, from DVC's outputs"


def add(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Backfill, and print how many runs were added."""
    from pipeline import tracking

    print(tracking.sync(root))
