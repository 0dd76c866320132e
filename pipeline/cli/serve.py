"""`seqline serve`: answer HTTP requests with a registered version."""

import argparse
from pathlib import Path

from pipeline.cli.arguments import PORT

HELP = "answer HTTP requests with the champion, until Ctrl-C"


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
    from pipeline.serving import model_server

    model_server.serve(root, arguments.model, arguments.port, arguments.allow_host)
