"""`seqline schedule`: retrain at set times, or when data change."""

import argparse
from pathlib import Path

from pipeline.cli.arguments import add_jobs

HELP = "retrain at set times, or when data change, until Ctrl-C"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    times = parser.add_mutually_exclusive_group()
    times.add_argument(
        "--cron", metavar="LINE", help="a cron line, in this machine's time zone: '0 3 * * *'"
    )
    times.add_argument("--interval", metavar="TIME", help="90, 15m, 2h or 1d")
    parser.add_argument(
        "--on-data-change",
        action="store_true",
        help="also, or only, when a source without a pinned hash has changed",
    )
    parser.add_argument(
        "--every",
        metavar="TIME",
        default="60",
        help="time between two checks of the sources (default: 60 s)",
    )
    add_jobs(parser)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Serve the schedule until Ctrl-C."""
    from pipeline.dag import project
    from pipeline.flow import prefect_server

    project.check(root)
    prefect_server.quiet()
    from pipeline.flow import schedule  # imports Prefect, which must be quiet by then

    terms = schedule.terms(
        arguments.cron,
        arguments.interval,
        arguments.on_data_change,
        arguments.every,
        arguments.jobs,
    )
    schedule.serve(root, terms)
