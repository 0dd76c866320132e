"""`seqline run` and `seqline retrain`: the flows as commands, once and now.

Prefect is imported late: after `prefect_server.prepare`, which configures it.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, NoReturn

from pipeline.core import params
from pipeline.core.errors import refuse
from pipeline.dag import run_settings
from pipeline.dag.dvc_runner import open_runner
from pipeline.dag.project_lock import flow_lock
from pipeline.flow import baseline, devices, journal, project_folder


def check_jobs(jobs: int | None) -> None:
    """Raise UserError for a number of parallel stages that is none."""
    if jobs is not None and jobs < 1:
        raise refuse("--jobs", jobs, "at least 1")


def retrain(root: Path, jobs: int | None) -> int:
    """Retrain and print the summary; return the exit status, which is 1 if the retraining failed.

    UserError if another flow runs in the project."""
    from pipeline.flow import sections  # imports pyarrow, which `run` does not need

    check_jobs(jobs)
    # Refuse mistakes in the settings before the lock and the server.
    sections.load(root)
    devices.project_slots(root)
    with flow_lock(root, wait=False):
        from pipeline.flow import prefect_server

        prefect_server.prepare(root)
        from pipeline.flow.retrain import retrain as flow

        with project_folder.working_in(root), prefect_server.refuse_server_errors():
            state = flow(jobs, "manual", return_state=True)
    print(state.message, flush=True)
    return 0 if state.is_completed() else 1


class Ended(NamedTuple):
    """The exit status of a run (0, 1 if a stage failed, 130 or 143 if it was interrupted), and
    whether Prefect's server was lost."""

    status: int
    server_lost: bool = False

    def exit(self) -> NoReturn:
        """End this process."""
        if self.server_lost:
            # At a normal exit Prefect would retry for a minute to send its logs.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.status)
        sys.exit(self.status)


def run(root: Path, targets: Sequence[str], jobs: int | None) -> Ended:
    """Run the stages and print the summary."""
    check_jobs(jobs)

    # Refuse mistakes in the settings before the lock and the server.
    run_settings.load(root)
    params.check_sections(root / "params.yaml")
    params.check_runs(root / "params.yaml")
    devices.project_slots(root)
    # A process of DVC reads the project while Prefect is imported.
    with (
        flow_lock(root, wait=False),
        open_runner(root, targets, devices.threads(jobs or devices.cores())) as workers,
        ExitStack() as recorded,
    ):
        from pipeline.flow import prefect_server

        if targets:
            # Refuses a wrong target before the server, which takes seconds: no flow has failed.
            workers.plan()
        record = recorded.enter_context(journal.record_flow(root, "run", "manual"))
        prefect_server.prepare(root)
        workers.plan()  # refuses a wrong dvc.yaml before Prefect has a flow run
        from prefect.exceptions import TerminationSignal

        from pipeline.flow.prefect_flow import reproduce, sync

        try:
            with prefect_server.refuse_server_errors():
                outcome = reproduce(root, targets, jobs or devices.cores(), workers)
        except (KeyboardInterrupt, TerminationSignal) as interrupt:
            if (partial := getattr(interrupt, "outcome", None)) is not None:
                print(partial.summary())
            record.state = "cancelled"
            return Ended(143 if isinstance(interrupt, TerminationSignal) else 130)

        record.state = "done" if outcome.ok else "failed"
        record.summary = outcome.summary()
        print(outcome.summary(), flush=True)
        if outcome.changed_outputs and os.environ.get("SEQLINE_TRACKING") != "off":
            print("recording the runs in MLflow", flush=True)
            print(sync(root), flush=True)
        if outcome.ok and (line := baseline.note(root)):
            print(line, flush=True)

    return Ended(0 if outcome.ok else 1, server_lost=bool(outcome.note))
