"""`seqline run`: run the DAG in parallel, as a Prefect flow."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.cli.arguments import add_jobs, print_escaped

HELP = "run the DAG in parallel, as a Prefect flow (`dvc repro`: in turn)"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="a stage, or a group such as train, with all that it needs",
    )
    add_jobs(parser)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Run the flow and exit with its status; show the results of all runs, or the scores of those
    that were targets."""
    from pipeline.dag import project
    from pipeline.flow import commands

    project.check(root)
    ended = commands.run(root, arguments.targets, arguments.jobs)
    if not ended.status and arguments.targets:
        show_scores(root, arguments.targets)
    elif not ended.status:
        show_results(root)
    ended.exit()


def show_results(root: Path) -> None:
    """Print the table of `seqline results`, if the project has all scores and a report."""
    from pipeline.cli import results, standings
    from pipeline.core.errors import UserError

    if not standings.can_load(root):
        return
    try:
        table = standings.load_standings(root)
    except UserError as error:  # the run itself succeeded
        print(f"seqline: no table of results: {error}", file=sys.stderr)
        return
    print(flush=True)
    results.show(root, table)


def show_scores(root: Path, targets: Sequence[str]) -> None:
    """Print the scores of the runs that the targets name, and a command that asks the best one."""
    from pipeline.cli import next_steps, run_table
    from pipeline.core import params
    from pipeline.runs import table

    prefix = "evaluate@"
    names = {target.removeprefix(prefix) for target in targets if target.startswith(prefix)}
    if not names:
        return
    rows = [row for row in table.rows(root) if row.run in names and row.score is not None]
    if not rows:
        return
    print_escaped(f"\n{run_table.text(rows)}")
    best = run_table.best(rows)
    print_escaped("Try next:")
    if (command := next_steps.ask(root, params.run(root / "params.yaml", best), best)) is not None:
        print_escaped(f"  {command}")
    print_escaped("  seqline run         # the other runs, and the report\n  seqline results")
