"""`seqline repair`: repair what a kill or a power failure damaged."""

import argparse
from pathlib import Path

HELP = "repair what a kill or a power failure damaged in DVC's files"


def add(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Repair, and print one line for each repair."""
    from pipeline.dag import repair

    for line in repair.repair(root):
        print(line)
