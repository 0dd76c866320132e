"""The DVC of one flow, as flow.yaml selects it (`run.dvc`): it makes the plan and starts stages.

- `patched`: `ForkServer` (fork_client.py), whose process imports DVC once and forks for each stage;
  so does a second process, which imports torch once, for each stage's command.
- `plain`: `PlainDvc`, one `dvc repro --single-item` for each stage, of a DVC without replacements.
  It costs two to four seconds of a core for each stage.

Both leave the same `dvc.lock`.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.dag import graph, run_settings
from pipeline.dag.fork_client import ForkServer
from pipeline.dag.stage_process import SeparateDvc, start_dvc_process


class PlainDvc(SeparateDvc):
    """The plan and the stages of one flow by unchanged DVC commands, each in its own process.

    `with PlainDvc(root, targets) as dvc`. The plan is read while the caller continues.
    """

    def __init__(self, root: Path, targets: Sequence[str]) -> None:
        super().__init__(root, "plain")
        self._report: dict[str, Any] | None = None
        self._reader = self._plan_command("read", *targets)

    def __enter__(self) -> "PlainDvc":
        return self

    def __exit__(self, *exception: object) -> None:
        """End the process that reads the plan, if it still runs."""
        with self._reader:
            if self._reader.poll() is None:
                self._reader.kill()

    def plan(self) -> tuple[graph.Plan, list[str]]:
        """Return the plan and the stages that `dvc.lock` has; UserError for what DVC refuses."""
        if self._report is None:
            output, _ = self._reader.communicate()
            self._report = json.loads(output or b"{}")
        return graph.parse_report(self._report, self.root)

    def order_lock(self, before: Sequence[str], plan: Sequence[str]) -> bool:
        """Sort `dvc.lock` as graph.order_lock does, when no stage runs; return whether it is
        sorted."""
        sorting = self._plan_command("order")
        sorting.communicate(json.dumps({"before": list(before), "plan": list(plan)}).encode())
        return sorting.returncode == 0

    def _plan_command(self, *words: str) -> "subprocess.Popen[bytes]":
        return start_dvc_process(self.root, "pipeline.dag.graph", *words)


DvcRunner = ForkServer | PlainDvc
"""A context manager with the plan of one flow, which starts its stages."""


def open_runner(root: Path, targets: Sequence[str], env: Mapping[str, str] = {}) -> DvcRunner:
    """Return the runner that `run.dvc` selects: `with open_runner(root, targets) as dvc`.

    `env`: variables that every stage gets. Libraries read them when they are loaded, so that only
    stages with these values can be forks of a process that has loaded them."""
    if run_settings.load(root).dvc == "plain":
        return PlainDvc(root, targets)
    return ForkServer(root, targets, env)
