"""`seqline classify`: label texts, pairs of texts, or pictures, with a trained classifier."""

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.answer_options import add_run, add_text
from pipeline.cli.input_text import Line
from pipeline.core.errors import printable

if TYPE_CHECKING:
    from pipeline.inference import Prediction

HELP = "label a text, a pair, a PNG file, or each line of a file or of standard input"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    add_text(parser, "a text or, for pictures, a PNG file (default: lines of standard input)")
    parser.add_argument(
        "second",
        nargs="?",
        metavar="HYPOTHESIS",
        help="the second text of a pair; lines of a file have a tab between the two",
    )
    add_run(parser)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the likeliest label of each text with its probability; a blank line for a blank line,
    as a warning says. A classifier of pictures takes names of PNG files."""
    from pipeline.cli import chosen_run, prediction_stream
    from pipeline.cli.replies import Replies, reply
    from pipeline.predictions import NO_LABEL, label_row
    from pipeline.predictor import open_classifier

    chosen = chosen_run.choose(root, arguments.run, "classify")
    classify = open_classifier(chosen.files, pairs=arguments.second is not None)
    if arguments.second is not None:
        arguments.text = f"{arguments.text}\t{arguments.second}"
    blank: list[Line] = []

    def plain(line: Line, answer: "Prediction | None") -> str:
        if answer is NO_LABEL:
            blank.append(line)
        if answer is None or answer is NO_LABEL:
            return ""
        return f"{math.exp(answer.log_prob):.4f}  {printable(answer.text)}"

    def warn() -> None:
        if blank:
            where = blank[0].source
            if blank[0].number is not None:
                where += f", {prediction_stream.line_numbers(blank)}"
            print(f"seqline: {where}: a text without words has no label", file=sys.stderr)

    replies = Replies(
        command="classify",
        runs=[chosen],
        answer=classify,
        plain=plain,
        rows=lambda answer: [label_row(answer)],
        warn=warn,
    )
    reply(root, arguments, replies)
