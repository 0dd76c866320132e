"""`seqline results`: what is best on each corpus, on one screen."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.arguments import add_json, print_json

if TYPE_CHECKING:
    from pipeline.report.standing import Row, Standing

HELP = "show the best setting on each corpus, by how much, and what to try"

_HEADER = ("", "setting", "score", "behind", "significant")
_HOW_TO_READ = (
    "A score is the mean over seeds (or folds), ± the standard deviation. `behind` is the distance "
    "to the best setting, before rounding. Significant: p < 0.05 in a test over seeds and "
    "sentences, corrected for the number of pairs."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    add_json(parser)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the table and what to try, or the table as JSON."""
    from pipeline.cli.standings import load_standings

    standings = load_standings(root)
    if arguments.json:
        print_json([standing.json() for standing in standings])
        return
    show(root, standings)


def show(root: Path, standings: "Sequence[Standing]") -> None:
    """Print the table, where the report is, and commands to try."""
    from rich.console import Console
    from rich.text import Text

    from pipeline.cli import next_steps
    from pipeline.dag.paths import RunPaths

    console = Console(highlight=False)
    for line, style in table(standings):
        console.print(Text(line, style), soft_wrap=True)
    console.print(Text(f"\n{_HOW_TO_READ}", "dim"))

    paths = RunPaths(root)
    page, tables = (
        paths.shared("report", option).relative_to(root) for option in ("page", "comparison")
    )
    console.print(f"\nReport: {page} (with figures), {tables} (all tables and tests)")
    console.print("Try next:")
    for command, why in next_steps.after_results(root, standings):
        console.print(Text(f"  # {why}", "dim"), soft_wrap=True)
        console.print(Text(f"  {command}"), soft_wrap=True)


def table(standings: "Sequence[Standing]") -> Iterator[tuple[str, str]]:
    """Yield the lines of the table, each with its style: a title for each standing, and a line for
    each of its rows. Columns are as wide as their widest cell."""
    cells = [[_cells(standing, row) for row in standing.rows] for standing in standings]
    every_row = [_HEADER, *(row for rows in cells for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*every_row, strict=True)]
    yield _line(_HEADER, widths), "dim"
    for standing, rows in zip(standings, cells, strict=True):
        scoring, split = standing.scoring, standing.ranking.split
        score = scoring.main_title if split == "test" else f"{scoring.main_title}, {split}"
        direction = "" if scoring.higher_is_better else ", lower is better"
        yield f"{scoring.title} on {standing.corpus} ({score}{direction})", "bold"
        for row in rows:
            yield _line(row, widths), "green" if row is rows[0] else ""


def _cells(standing: "Standing", row: "Row") -> tuple[str, ...]:
    name = f"{row.name} (a baseline)" if row.is_baseline and row.role == "best" else row.name
    if row.lead is None:
        return row.role, name, row.score, "", ""
    behind = standing.lead(row)
    if row.p is None:
        return row.role, name, row.score, behind, "not tested"
    p = "p < 0.001" if row.p < 0.001 else f"p = {row.p:.3f}"
    return row.role, name, row.score, behind, f"{'yes' if row.better else 'no'}, {p}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    role, name, score, behind, significant = widths
    return (
        f"  {cells[0]:{role}}  {cells[1]:{name}}  {cells[2]:>{score}}  {cells[3]:>{behind}}  "
        f"{cells[4]:{significant}}"
    ).rstrip()
