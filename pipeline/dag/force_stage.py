"""`python -m pipeline.dag.force_stage ADDRESS`: `dvc repro --force` of one stage, for what DVC
takes to be up to date.

It replaces the process of fork_server.py, whose forks do not run such a stage: the same lock of
DVC's, the same record of the process group, and `run_stage.run` with its log, time limit and
attempts. The caller holds `project_lock.flow_lock`."""

import argparse
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from pipeline.core import state_dir
from pipeline.core.errors import UserError
from pipeline.dag import durable_dvc, process_groups, run_settings, run_stage
from pipeline.dag.fork_client import Child, surroundings


def force(root: Path, address: str) -> None:
    """Run the stage whether DVC thinks it has to be or not; UserError, with the reason, if it
    fails."""
    process_groups.folder(root).mkdir(parents=True, exist_ok=True)
    log = root / state_dir.new_log_folder() / f"{address.replace('/', '_')}.log"
    result = run_stage.run(
        Forced(root),
        address,
        {},
        log,
        run_settings.load(root),
        threading.Event(),
        lambda line: None,
    )
    if result.state == "failed":
        raise UserError(result.why)


class Forced:
    """Starts a stage as `ForkServer` does, in a process of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def start(self, address: str, log: Path, env: Mapping[str, str]) -> Child:
        """The stage in a process group of its own, its output added to `log`."""
        child = Child()
        with log.open("ab") as file:
            command = [sys.executable, "-m", "pipeline.dag.force_stage", address]
            process = process_groups.start(self.root, command, {**surroundings(), **env}, file)
        child.began(process.pid)
        threading.Thread(target=lambda: child.ended(process.wait()), daemon=True).start()
        return child


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.dag.force_stage", description=__doc__)
    parser.add_argument("address")
    a = parser.parse_args()
    sys.exit(durable_dvc.dvc(["--wait-for-lock", "repro", "--force", "--single-item", a.address]))


if __name__ == "__main__":
    main()
