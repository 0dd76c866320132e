"""`seqline refresh`: pull sources that have changed."""

import argparse
import sys
from pathlib import Path

HELP = "pull sources that have changed: your files, and unpinned addresses"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument(
        "--emit", action="store_true", help="pull nothing: send an event to Prefect's server"
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Pull what has changed, or send an event that names it."""
    from pipeline.dag import refresh
    from pipeline.dag.project_lock import flow_lock

    if arguments.emit:
        result = refresh.compare_sources(root)
    else:
        # The lock keeps this from changing data below a running flow.
        with flow_lock(root, wait=False):
            result = refresh.refresh(root)
    for trouble in result.troubles:
        print(trouble, file=sys.stderr)

    if not result.changed:
        print("no corpus's own files have changed, nor others without a pinned hash")
        return
    names = ", ".join(result.changed)
    if not arguments.emit:
        print(f"pulled: {names}; now run `dvc repro`")
        return

    from pipeline.flow import prefect_server

    prefect_server.quiet()
    from pipeline.flow import events

    events.emit_and_wait(root, result.changed)
    resource = events.resource(events.deployment_name(root))
    print(f"sent an event to Prefect's server: {names} changed in {resource}")
