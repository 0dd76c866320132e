"""`seqline run`: the flow as a command. DVC reads the project in a process of its own while Prefect
is imported."""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import refuse
from pipeline.dag import run_settings
from pipeline.dag.fork_client import Workers
from pipeline.dag.project_lock import alone
from pipeline.flow import devices, journal


def run(root: Path, targets: Sequence[str], jobs: int | None) -> int:
    """Run, say what came of it, and give the exit status: 0, 1 if a stage failed, 130 or 143 if it
    was interrupted."""
    if jobs is not None and jobs < 1:
        raise refuse("--jobs", jobs, "at least 1")
    run_settings.load(root)
    devices.project_slots(root)
    with (
        alone(root, wait=False),
        journal.record_flow(root, "run", "by hand") as record,
        Workers(root, targets) as workers,
    ):
        from pipeline.flow import prefect_server

        prefect_server.prepare(root)
        workers.plan()  # what is refused is refused before there is a flow
        from prefect.exceptions import TerminationSignal

        from pipeline.flow.prefect_flow import reproduce, sync

        try:
            with prefect_server.refuse_server_errors():
                outcome = reproduce(root, targets, jobs or devices.cores(), workers)
        except (KeyboardInterrupt, TerminationSignal) as interrupt:
            if (partial := getattr(interrupt, "outcome", None)) is not None:
                print(partial.summary())
            record.state = "cancelled"
            return 143 if isinstance(interrupt, TerminationSignal) else 130
        record.state, record.summary = ("done" if outcome.ok else "failed"), outcome.summary()
        print(outcome.summary(), flush=True)
        if outcome.changed_outputs and os.environ.get("SEQLINE_TRACKING") != "off":
            print(sync(root), flush=True)
    status = 0 if outcome.ok else 1
    if outcome.note:
        os._exit(status)  # Prefect would try for a minute to tell its lost server the rest
    return status
