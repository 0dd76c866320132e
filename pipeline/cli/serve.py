"""`seqline serve`: answer HTTP requests with a registered version."""

import argparse
from pathlib import Path

from pipeline.cli.arguments import add_server

HELP = "answer HTTP requests until Ctrl-C, by the champion of a model or any of its versions"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument("model", metavar="MODEL[@ALIAS|/VERSION]")
    add_server(parser, 5001)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    from pipeline.cli import chosen_run
    from pipeline.serving import model_server

    version = chosen_run.version_to_serve(root, arguments.model)
    model_server.serve(root, version, arguments.port, arguments.allow_host)
