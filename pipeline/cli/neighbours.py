"""`seqline neighbours`: the words whose vectors are nearest to that of a word."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.answer_options import add_run, add_text
from pipeline.cli.arguments import whole_number
from pipeline.core.errors import printable

if TYPE_CHECKING:
    from pipeline.predictions.word_vectors import Neighbour

HELP = "list the words nearest to a word, or to each line of a file or of standard input"
COUNT = whole_number(1, 1000)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    add_text(parser, "a word (default: lines of standard input, or a prompt)")
    add_run(parser)
    add_count(parser, 10)


def add_count(parser: argparse.ArgumentParser, default: int) -> None:
    """Add the option `--count`."""
    parser.add_argument(
        "--count", type=COUNT, default=default, metavar="N", help=f"words (default: {default})"
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the nearest words of each word with their cosines, in one line."""
    from pipeline.cli import chosen_run
    from pipeline.cli.replies import Replies, reply
    from pipeline.predictor import open_vectors

    chosen = chosen_run.choose(root, arguments.run, "neighbours")
    vectors = open_vectors(chosen.files)
    replies = Replies(
        command="neighbours",
        runs=[chosen],
        answer=lambda texts: [
            vectors.neighbours(text, arguments.count) if text.strip() else [] for text in texts
        ],
        plain=lambda line, near: words(near or []),
        rows=rows,
    )
    reply(root, arguments, replies)


def words(near: "Sequence[Neighbour]") -> str:
    """Words with their cosines, in one line."""
    return printable(", ".join(f"{word.text} {word.cosine:.4f}" for word in near))


def rows(near: "Sequence[Neighbour]") -> list[dict[str, Any]]:
    """Words with their cosines, for `--json`."""
    return [{"word": word.text, "cosine": word.cosine} for word in near]
