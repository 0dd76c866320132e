"""`seqline translate`: translate texts with a trained run, or with several as an ensemble."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli import input_text
from pipeline.cli.arguments import whole_number
from pipeline.cli.input_text import Line
from pipeline.core.errors import printable, refuse

if TYPE_CHECKING:
    from pipeline.inference import AttentionWeights, Session

HELP = "translate a text, or each line of standard input, with a trained run"
_N_BEST = whole_number(1, 2**63 - 1)  # the run's search limits it further


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument("text", nargs="?", metavar="TEXT")
    parser.add_argument(
        "--run",
        action="append",
        required=True,
        dest="runs",
        help="a name under `runs:`; several make an ensemble",
    )
    parser.add_argument("--prefix", metavar="TEXT", help="begin every translation with this text")
    parser.add_argument(
        "--heatmap", type=Path, metavar="FILE.png", help="draw the attention weights"
    )
    parser.add_argument(
        "--n-best",
        type=_N_BEST,
        metavar="N",
        help="print the N best translations with their log-probabilities",
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the translations."""
    from pipeline.cli import trained_run

    session = trained_run.open_ensemble(root, arguments.runs)
    lines = input_text.texts(arguments.text)
    translate(session, lines, arguments.n_best, arguments.prefix, arguments.heatmap)


def translate(
    session: "Session",
    lines: Iterable[Line],
    n_best: int | None,
    prefix: str | None,
    heatmap: Path | None,
) -> None:
    """Print the best answer to each text, or the `n_best` with their log-probabilities; draw the
    attention weights.

    Every answer begins with `prefix`, where there is one. For a blank line, and for one that cannot
    be read, there is a blank line in place of each answer, so that lines can be counted."""
    from pipeline.cli.trained_run import PredictionStream
    from pipeline.inference import EMPTY

    session.translate([], n_best)  # refuse options that fit no text before the first is read
    if prefix is not None:
        session.encode_prefixes([prefix])
    if heatmap is not None:
        _translate_one(session, list(lines), n_best, prefix, heatmap)
        return

    answers = PredictionStream(
        lines, lambda texts: session.translate(texts, n_best, prefix and [prefix] * len(texts))
    )
    for _, hypotheses in answers:
        if hypotheses is None or hypotheses[0] is EMPTY:
            print("\n" * ((n_best or 1) - 1))
        elif n_best is None:
            print(printable(hypotheses[0].text))
        else:
            print(
                "\n".join(
                    f"{answer.log_prob:9.4f}  {printable(answer.text)}" for answer in hypotheses
                )
            )
    answers.finish()


def _translate_one(
    session: "Session", lines: list[Line], n_best: int | None, prefix: str | None, heatmap: Path
) -> None:
    if len(lines) != 1 or n_best is not None:
        raise refuse("--heatmap", "more than one answer", "one text and no --n-best")
    if heatmap.suffix != ".png":
        raise refuse("--heatmap", str(heatmap), "a file that ends in .png")
    text = lines[0].required()
    [(answer, attention)] = session.attention([text], None if prefix is None else [prefix])
    draw(attention, heatmap)
    print(printable(answer.text))


def draw(attention: "AttentionWeights", out: Path) -> None:
    """The weights as a PNG at `out`, all of a model's heads in one figure, as the report draws
    them."""
    import pyarrow as pa

    from pipeline.core import tables
    from pipeline.core.atomic import atomic_file
    from pipeline.report.attention import heatmap

    rows = [
        {
            "row": 0,
            "name": name,
            "columns": attention.columns,
            "rows": attention.rows,
            "weights": weights.ravel(),
        }
        for name, weights in attention.weights.items()
    ]
    with atomic_file(out) as temporary:
        heatmap(pa.Table.from_pylist(rows, tables.ATTENTION), 0, temporary)
