"""`seqline serve`: answer HTTP requests with a registered version."""

import argparse
from pathlib import Path

from pipeline.cli.arguments import PORT

HELP = "answer HTTP requests until Ctrl-C, by the champion of a model or any of its versions"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument("model", metavar="MODEL[@ALIAS|/VERSION]")
    parser.add_argument("--port", type=PORT, metavar="N", default=5001)
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="accept requests for this host name too, such as a proxy's",
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    from pipeline.cli import chosen_run
    from pipeline.serving import model_server

    version = chosen_run.version_to_serve(root, arguments.model)
    model_server.serve(root, version, arguments.port, arguments.allow_host)
