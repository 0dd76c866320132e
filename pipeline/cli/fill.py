"""`seqline fill`: fill the blanks of texts, as BERT and the bidirectional model do."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.answer_options import add_run, add_text
from pipeline.cli.arguments import whole_number
from pipeline.cli.input_text import Line
from pipeline.core.errors import printable

if TYPE_CHECKING:
    from pipeline.inference import Prediction

HELP = "fill the blanks, written ___, of a text, or of each line of a file or of standard input"
_N_BEST = whole_number(1, 1000)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    add_text(parser, "a text with ___ (default: lines of standard input, or a prompt)")
    add_run(parser)
    parser.add_argument(
        "--n-best",
        type=_N_BEST,
        metavar="N",
        help="print the N most likely words of each blank with their probabilities",
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print each text with its blanks filled or, with `--n-best`, the words for the blanks, in
    order, divided by semicolons."""
    from pipeline.cli import chosen_run
    from pipeline.cli.replies import Replies, reply
    from pipeline.predictor import open_filler

    chosen = chosen_run.choose(root, arguments.run, "fill")
    filler = open_filler(chosen.files)
    count = arguments.n_best or 1

    def answer(texts: list[str]) -> "list[tuple[str, list[list[Prediction]]]]":
        return [
            (filler.fill(text).text, filler.words(text, count)) if has_tokens else ("", [])
            for text, has_tokens in zip(texts, filler.has_tokens(texts), strict=True)
        ]

    def plain(line: Line, answer: "tuple[str, list[list[Prediction]]] | None") -> str:
        if answer is None:
            return ""
        return printable(answer[0] if arguments.n_best is None else words(answer[1]))

    replies = Replies(
        command="fill",
        runs=[chosen],
        answer=answer,
        plain=plain,
        rows=lambda answer: [
            {"text": answer[0], "blanks": [[_row(word) for word in blank] for blank in answer[1]]}
        ],
    )
    reply(root, arguments, replies)


def words(blanks: "Sequence[Sequence[Prediction]]") -> str:
    """The words for each blank with their probabilities, in one line."""
    return "; ".join(
        ", ".join(f"{word.text} {math.exp(word.log_prob):.4f}" for word in blank)
        for blank in blanks
    )


def _row(word: "Prediction") -> dict[str, object]:
    return {"word": word.text, "probability": math.exp(word.log_prob)}
