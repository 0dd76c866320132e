"""`seqline run`: the flow as a command. A forked process reads the project with DVC while Prefect
is imported."""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import refuse
from pipeline.dag import run_settings
from pipeline.dag.dvc_runner import open_runner
from pipeline.dag.project_lock import flow_lock
from pipeline.flow import devices, journal


def run(root: Path, targets: Sequence[str], jobs: int | None) -> int:
    """Run the stages and print the summary; return the exit status: 0, 1 if a stage failed, 130 or
    143 if the run was interrupted."""
    if jobs is not None and jobs < 1:
        raise refuse("--jobs", jobs, "at least 1")

    # Refuse mistakes in the settings before the lock and the server.
    run_settings.load(root)
    devices.project_slots(root)
    with (
        flow_lock(root, wait=False),
        journal.record_flow(root, "run", "manual") as record,
        open_runner(root, targets) as workers,
    ):
        from pipeline.flow import prefect_server

        prefect_server.prepare(root)
        workers.plan()  # refuses a wrong target or dvc.yaml before Prefect has a flow run
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

        record.state = "done" if outcome.ok else "failed"
        record.summary = outcome.summary()
        print(outcome.summary(), flush=True)
        if outcome.changed_outputs and os.environ.get("SEQLINE_TRACKING") != "off":
            print(sync(root), flush=True)

    status = 0 if outcome.ok else 1
    if outcome.note:
        # The server is lost. At a normal exit Prefect would retry for a minute to send its logs.
        os._exit(status)
    return status
