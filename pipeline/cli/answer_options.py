"""Options that the commands share that answer with a trained run."""

import argparse
from pathlib import Path

RUN_HELP = (
    "a run or a setting of params.yaml, or MODEL@champion (default: the champion, else the best "
    "run on validation data, if the models of one corpus alone fit)"
)


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the option `--run`."""
    parser.add_argument("--run", metavar="RUN", help=RUN_HELP)


def add_text(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add the argument TEXT, and the options of `add_many`."""
    parser.add_argument("text", nargs="?", metavar="TEXT", help=help_text)
    add_many(parser)


def add_many(parser: argparse.ArgumentParser) -> None:
    """Add the options for many texts, and for the form of the answers."""
    parser.add_argument("--file", type=Path, metavar="FILE", help="answer each line of this file")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the answers to this file"
    )
    parser.add_argument("--json", action="store_true", help="print an object of JSON per text")
