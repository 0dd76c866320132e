"""`seqline classify`: label texts, pairs of texts, or pictures, with a trained classifier."""

import argparse
import math
import sys
from pathlib import Path

from pipeline.cli import input_text
from pipeline.core.errors import printable

HELP = "label a text, a pair or a PNG file, or each line of standard input, with a trained run"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument(
        "text", nargs="?", metavar="TEXT", help="a text or, for pictures, a PNG file"
    )
    parser.add_argument(
        "second",
        nargs="?",
        metavar="HYPOTHESIS",
        help="the second text of a pair; lines of standard input have a tab between the two",
    )
    parser.add_argument("--run", required=True, help="a name under `runs:`")


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the likeliest label of each text with its probability; a blank line for a blank line,
    as a warning says. A classifier of pictures takes names of PNG files."""
    from pipeline.cli import trained_run
    from pipeline.core import params
    from pipeline.predictions import NO_LABEL, TrainedRun, open_classifier

    model, vocab, _ = trained_run.run_folders(root, arguments.run)
    device = params.compute(root / "params.yaml").device
    trained = TrainedRun(model, vocab, None, device)
    text = arguments.text
    classify = open_classifier(trained, pairs=arguments.second is not None)
    if arguments.second is not None:
        text = f"{text}\t{arguments.second}"

    blank = []
    answers = trained_run.PredictionStream(input_text.texts(text), classify)
    for line, answer in answers:
        if answer is None:
            print()
        elif answer is NO_LABEL:
            blank.append(line)
            print()
        else:
            print(f"{math.exp(answer.log_prob):.4f}  {printable(answer.text)}")

    if blank:
        where = "TEXT"
        if blank[0].number is not None:
            where = f"{input_text.STDIN}, {trained_run.line_numbers(blank)}"
        print(f"seqline: {where}: a text without words has no label", file=sys.stderr)
    answers.finish()
