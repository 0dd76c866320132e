"""`seqline retrain`: the flow as a command, once and now."""

from pathlib import Path

from pipeline.core.errors import refuse
from pipeline.dag.project_lock import alone
from pipeline.flow import devices, project_folder, sections


def retrain(root: Path, jobs: int | None) -> int:
    """Retrain, say what came of it, and give the exit status: 0, or 1 if it failed; UserError while
    another flow works."""
    if jobs is not None and jobs < 1:
        raise refuse("--jobs", jobs, "at least 1")
    sections.load(root)
    devices.project_slots(root)
    with alone(root, wait=False):
        from pipeline.flow import prefect_server

        prefect_server.prepare(root)
        from pipeline.flow.retrain import retrain as flow

        with project_folder.working_in(root), prefect_server.refuse_server_errors():
            state = flow(jobs, "by hand", return_state=True)
    print(state.message, flush=True)
    return 0 if state.is_completed() else 1
