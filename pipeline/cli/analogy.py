"""`seqline analogy`: solve `a is to b as c is to ?` with word vectors."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli import neighbours
from pipeline.cli.answer_options import add_many, add_run
from pipeline.core.errors import refuse

if TYPE_CHECKING:
    from pipeline.predictions.word_vectors import Neighbour

HELP = "solve `A is to B as C is to ?` with word vectors, or each line of three words"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="A, B and C, in this order")
    add_many(parser)
    add_run(parser)
    neighbours.add_count(parser, 1)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the words that solve each analogy with their cosines, the best first, in one line."""
    from pipeline.cli import chosen_run
    from pipeline.cli.replies import Replies, reply
    from pipeline.predictor import open_vectors

    chosen = chosen_run.choose(root, arguments.run, "neighbours")
    vectors = open_vectors(chosen.files)

    def solve(text: str) -> "list[Neighbour]":
        words = text.split()
        if not words:
            return []
        if len(words) != 3:
            raise refuse("analogy", text, "three words, for `A is to B as C is to ?`")
        a, b, c = words
        return vectors.analogy(a, b, c, arguments.count)

    arguments.text = " ".join(arguments.words) or None
    replies = Replies(
        command="analogy",
        runs=[chosen],
        answer=lambda texts: [solve(text) for text in texts],
        plain=lambda line, near: neighbours.words(near or []),
        rows=neighbours.rows,
    )
    reply(root, arguments, replies)
