"""`seqline check`: validate params.yaml and flow.yaml before anything runs."""

import argparse
from pathlib import Path

HELP = "check params.yaml and flow.yaml as strictly as the stages do"


def add(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print what params.yaml holds; UserError with all mistakes."""
    from pipeline.cli import validate_params
    from pipeline.dag import project

    project.check(root)
    print(validate_params.check(root / "params.yaml", files=True))
