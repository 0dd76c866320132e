"""`seqline generate`: continue texts with a trained language model."""

import argparse
from pathlib import Path

from pipeline.cli.answer_options import add_run, add_text
from pipeline.cli.arguments import SEED
from pipeline.core.errors import printable

HELP = "continue a text, or each line of a file or of standard input, with a language model"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    add_text(parser, "the beginning (default: lines of standard input, or a prompt)")
    add_run(parser)
    parser.add_argument("--seed", type=SEED, metavar="N", help="another seed gives another text")


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print each text with its continuation, which does not depend on the other texts."""
    from pipeline.cli import chosen_run
    from pipeline.cli.replies import Replies, reply
    from pipeline.predictor import open_session

    chosen = chosen_run.choose(root, arguments.run, "generate")
    session = open_session(chosen.files)
    session.generate([])  # refuse another task before the first text is read
    replies = Replies(
        command="generate",
        runs=[chosen],
        # Each text starts the random numbers anew.
        answer=lambda texts: [session.generate([text], arguments.seed)[0] for text in texts],
        plain=lambda line, text: printable(text or ""),
        rows=lambda text: [{"text": text}],
    )
    reply(root, arguments, replies)
