"""`seqline status`: the state of retraining."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from pipeline.cli.arguments import add_json, print_escaped, print_json

HELP = "show what runs and how far it is, the last and next retraining, failures and champions"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    add_json(parser)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the report; exit with 1 if something needs attention."""
    from pipeline.flow import status

    lines, healthy, progress = status.report(root)
    if arguments.json:
        rows = [{"subject": subject, "detail": detail} for subject, detail in lines]
        stages = None if progress is None else asdict(progress)
        print_json({"healthy": healthy, "progress": stages, "report": rows})
    else:
        print_escaped("\n".join(f"{subject:13}{detail}" for subject, detail in lines))
    sys.exit(0 if healthy else 1)
