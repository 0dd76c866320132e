"""`dvc repro --force` of one stage, for a stage that DVC considers up to date.

The stage runs through `run_stage.run`, as in a flow: with its log, time limit and retries."""

import threading
from pathlib import Path

from pipeline.core import state_dir
from pipeline.core.errors import UserError
from pipeline.dag import run_settings, run_stage
from pipeline.dag.stage_process import SeparateDvc


def force(root: Path, address: str) -> None:
    """Run the stage even if DVC considers it up to date; UserError, with the reason, if it fails.

    The caller holds `project_lock.flow_lock`."""
    rules = run_settings.load(root)
    result = run_stage.run(
        SeparateDvc(root, rules.dvc, ["--force"]),
        address,
        {},
        root / state_dir.new_log_folder() / f"{address.replace('/', '_')}.log",
        rules,
        threading.Event(),
        lambda line: None,
    )

    if result.state == "failed":
        raise UserError(result.why)
