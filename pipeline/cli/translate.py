"""`seqline translate`: translate texts with a trained run, or with several as an ensemble."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli import input_text
from pipeline.cli.answer_options import RUN_HELP, add_text
from pipeline.cli.arguments import whole_number
from pipeline.cli.input_text import Line
from pipeline.core.errors import printable, refuse

if TYPE_CHECKING:
    from pipeline.inference import Prediction, Session
    from pipeline.runs.trained import NamedRun

HELP = "translate a text, or each line of a file or of standard input"
_N_BEST = whole_number(1, 2**63 - 1)  # the run's search limits it further
_SEPARATOR = "|||"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    add_text(parser, "the text (default: the lines of standard input, or a prompt on a terminal)")
    parser.add_argument(
        "--run",
        action="append",
        dest="runs",
        metavar="RUN",
        help=f"{RUN_HELP}; several make an ensemble",
    )
    parser.add_argument("--prefix", metavar="TEXT", help="begin every translation with this text")
    parser.add_argument(
        "--heatmap", type=Path, metavar="FILE.png", help="draw the attention weights"
    )
    parser.add_argument(
        "--n-best",
        type=_N_BEST,
        metavar="N",
        help="print the N best translations as Moses does: line ||| translation ||| scores ||| "
        "total",
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the translations.

    For a blank line, and for one that cannot be read, there is a blank line, so that lines can be
    counted."""
    from pipeline.cli.replies import Replies, reply, warn_of
    from pipeline.inference import EMPTY
    from pipeline.predictions import text_row

    runs, session = open_ensemble(root, arguments.runs or [None])
    n_best, prefix = arguments.n_best, arguments.prefix
    session.translate([], n_best)  # refuse options that fit no text before the first is read
    if prefix is not None:
        session.encode_prefixes([prefix])
    if arguments.heatmap is not None:
        lines = list(input_text.texts(arguments.text, arguments.file))
        _draw_heatmap(session, lines, n_best, prefix, arguments.heatmap)
        warn_of(root, runs, lines)
        return

    def plain(line: Line, hypotheses: "Sequence[Prediction] | None") -> str:
        if n_best is not None:
            return moses(line, hypotheses or [])
        return "" if hypotheses is None else printable(hypotheses[0].text)

    def rows(hypotheses: "Sequence[Prediction]") -> list[dict[str, object]]:
        shown = hypotheses[: n_best or 1]
        if shown[0] is EMPTY:
            return [text_row(EMPTY) | {"score": 0.0}]
        return [text_row(hypothesis) | {"score": hypothesis.score} for hypothesis in shown]

    replies = Replies(
        command="translate",
        runs=runs,
        answer=lambda texts: session.translate(texts, n_best, prefix and [prefix] * len(texts)),
        plain=plain,
        rows=rows,
    )
    reply(root, arguments, replies)


def open_ensemble(
    root: Path, names: "Sequence[str | None]", command: str = "translate"
) -> "tuple[list[NamedRun], Session]":
    """The runs for a command, and a session with all of them, searched as the first is.

    UserError if their vocabularies are not the same."""
    from pipeline.cli import chosen_run
    from pipeline.dag import cache
    from pipeline.predictor import open_session

    runs = [chosen_run.choose(root, name, command) for name in names]
    [first, *members] = (open_session(run.files) for run in runs)

    # An ensemble combines the distributions at each step: an id must mean the same in all models.
    shared = runs[0].files.vocab
    for run in runs[1:]:
        vocab = run.files.vocab
        if vocab != shared and cache.md5_of(vocab) != cache.md5_of(shared):
            raise refuse(
                f"--run {run.name}",
                f"the vocabulary {vocab.relative_to(root)}",
                f"{shared.relative_to(root)}, as run {runs[0].name} has",
            )
    return runs, first.ensemble(members) if members else first


def moses(line: Line, hypotheses: "Sequence[Prediction]") -> str:
    """Hypotheses of a line as Moses writes them, the number of the first line being 0. A line
    that cannot be answered has an empty hypothesis of probability 0."""
    number = 0 if line.number is None else line.number - 1
    if not hypotheses:
        return _moses_line(number, "", float("-inf"), float("-inf"))
    return "\n".join(
        _moses_line(number, printable(hypothesis.text), hypothesis.log_prob, hypothesis.score)
        for hypothesis in hypotheses
    )


def _moses_line(number: int, text: str, log_prob: float, score: float) -> str:
    text = text.replace(_SEPARATOR, "&#124;" * len(_SEPARATOR))
    fields = (str(number), text, f"log_prob= {log_prob:.4f}", f"{score:.4f}")
    return f" {_SEPARATOR} ".join(fields)


def _draw_heatmap(
    session: "Session", lines: list[Line], n_best: int | None, prefix: str | None, heatmap: Path
) -> None:
    if len(lines) != 1 or n_best is not None:
        raise refuse("--heatmap", "more than one answer", "one text and no --n-best")
    if heatmap.suffix != ".png":
        raise refuse("--heatmap", str(heatmap), "a file that ends in .png")
    from pipeline.runs.heatmap import draw

    text = lines[0].required()
    [(answer, attention)] = session.attention([text], None if prefix is None else [prefix])
    draw(attention, heatmap)
    print(printable(answer.text))
    print(f"seqline: wrote {heatmap}", file=sys.stderr)
