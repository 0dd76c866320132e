"""`seqline ui`: MLflow's pages on the project's own store."""

import argparse
from pathlib import Path

from pipeline.cli.arguments import PORT

HELP = "sync, then serve MLflow's pages on the project's own store, until Ctrl-C"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument("--port", type=PORT, metavar="N", default=5000)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    from pipeline.serving import mlflow_ui

    mlflow_ui.ui(root, arguments.port)
