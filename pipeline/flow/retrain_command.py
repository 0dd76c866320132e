"""`seqline retrain`: the flow as a command, once and now."""

from pathlib import Path

from pipeline.core.errors import refuse
from pipeline.dag.project_lock import flow_lock
from pipeline.flow import devices, project_folder, sections


def retrain(root: Path, jobs: int | None) -> int:
    """Retrain and print the summary; return the exit status, which is 1 if the retraining failed.

    UserError if another flow runs in the project."""
    if jobs is not None and jobs < 1:
        raise refuse("--jobs", jobs, "at least 1")

    # Refuse mistakes in the settings before the lock and the server.
    sections.load(root)
    devices.project_slots(root)
    with flow_lock(root, wait=False):
        from pipeline.flow import prefect_server

        prefect_server.prepare(root)
        from pipeline.flow.retrain import (
            retrain as flow,
        )  # imports Prefect, configured by `prepare`

        with project_folder.working_in(root), prefect_server.refuse_server_errors():
            state = flow(jobs, "manual", return_state=True)
    print(state.message, flush=True)
    return 0 if state.is_completed() else 1
