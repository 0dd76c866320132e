"""The project's stages on paths outside the DAG, several in parallel; all end when one fails.

dag/run_stage.py runs each of them, as it runs the stages of the DAG."""

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.dag import run_stage as dag_stage
from pipeline.dag.stage_process import start_command
from pipeline.promotion.retokenize import Incomparable

# folder of the packages `pipeline` and `stages`
CODE = Path(__file__).resolve().parent.parent.parent
USAGE_ERROR = 2  # exit status of a stage that refuses its input

Launch = Callable[[Sequence[str], Path], int]
"""Run a command to its end with its output appended to the log; return its exit status."""


class Commands:
    """Child processes, run in the folder `root` with this project's own code.

    `limits`: time limits in seconds by stage. `record`: the next flow ends them if this process is
    killed; the caller then holds `project_lock.flow_lock`."""

    def __init__(self, root: Path, limits: Mapping[str, int] = {}, record: bool = False) -> None:
        self._root = root
        self._limits = limits
        self._record = record
        self._stop = threading.Event()

    def __call__(self, command: Sequence[str], log: Path) -> int:
        """As `Launch`; safe in several threads. Nothing starts any more after `end`.

        A stage that exceeds its time limit is ended, and UserError is raised."""
        path = os.pathsep.join([str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])])
        stages = (word.removeprefix("stages.") for word in command if word.startswith("stages."))
        name = next(stages, "")
        limit = self._limits.get(name)

        with self._place(name) as place:
            if self._stop.is_set():
                return -1
            env = {"PYTHONPATH": path, **place}
            ended = dag_stage.run_process(
                self._root,
                lambda: start_command(self._root, command, log, env, self._record),
                log,
                limit,
                self._stop,
            )
        if ended.timed_out:
            message = dag_stage.timeout(f"stages.{name}", name, limit)
            raise UserError(f"{message} Its log is {log}.")
        return ended.status

    def end(self) -> None:
        """End all running children and start no more; the threads that run them wait for it."""
        self._stop.set()

    def _place(self, name: str) -> AbstractContextManager[dict[str, str]]:
        """Reserve resources while the stage `name` runs; yield its extra environment variables."""
        return nullcontext({})


def run_stage(launch: Launch, log: Path, name: str, *positional: str, **options: Path) -> None:
    """Run a stage to its end.

    Raises Incomparable with the stage's message if it refuses its input, and UserError if it
    fails."""
    arguments = [word for option, path in options.items() for word in (f"--{option}", str(path))]
    output = dag_stage.Log(log)
    status = launch([sys.executable, "-m", f"stages.{name}", *positional, *arguments], log)
    output.lines(last=True)
    if not status:
        return

    reason = dag_stage.reason(output.text, status)
    if status == USAGE_ERROR:
        raise Incomparable(f"stages.{name}: {reason.rstrip('.')}")
    raise UserError(f"stages.{name} failed with status {status}: {reason}. Its log is {log}.")
