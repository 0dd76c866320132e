"""The project's stages as child processes, several in parallel; all end when one fails."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

from pipeline.core.errors import UserError
from pipeline.promotion.retokenize import Incomparable

# folder of the packages `pipeline` and `stages`
CODE = Path(__file__).resolve().parent.parent.parent
USAGE_ERROR = 2  # exit status of a stage that refuses its input

Launch = Callable[[Sequence[str], Path], int]
"""Run a command to its end with its output appended to the log; return its exit status."""


class Commands:
    """Child processes, run in the folder `root` with this project's own code.

    `limits`: time limits in seconds by stage. Subclasses override how children start and stop."""

    def __init__(self, root: Path, limits: Mapping[str, int] = {}) -> None:
        self._root = root
        self._limits = limits
        self._children = set[subprocess.Popen[bytes]]()
        self._closed = False

    def __call__(self, command: Sequence[str], log: Path) -> int:
        """As `Launch`; safe in several threads. Nothing starts any more after `end`.

        A stage that exceeds its time limit is killed, and UserError is raised."""
        path = os.pathsep.join([str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])])
        stages = (word.removeprefix("stages.") for word in command if word.startswith("stages."))
        name = next(stages, "")

        with log.open("ab") as file, self._place(name) as environment:
            if self._closed:
                return -1
            child = self._start(command, os.environ | {"PYTHONPATH": path} | environment, file)
            self._children.add(child)
            if self._closed:  # `end` ran in another thread meanwhile
                self._stop(child)
            try:
                return child.wait(self._limits.get(name))
            except subprocess.TimeoutExpired:
                self._stop(child)
                child.wait()
                raise UserError(
                    f"stages.{name} timed out after {self._limits[name]} s "
                    f"(run.time_limits.{name}). Its log is {log}."
                ) from None
            finally:
                self._children.discard(child)
                self._ended(child)

    def end(self) -> None:
        """Kill all running children and start no more."""
        self._closed = True
        for child in list(self._children):
            self._stop(child)

    def _place(self, name: str) -> AbstractContextManager[dict[str, str]]:
        """Reserve resources while the stage `name` runs; yield its extra environment variables."""
        return nullcontext({})

    def _start(
        self, command: Sequence[str], env: dict[str, str], log: IO[Any]
    ) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, cwd=self._root, env=env, stdout=log, stderr=log)

    def _stop(self, child: "subprocess.Popen[bytes]") -> None:
        child.kill()

    def _ended(self, child: "subprocess.Popen[bytes]") -> None:
        pass


def run_stage(launch: Launch, log: Path, name: str, *positional: str, **options: Path) -> None:
    """Run a stage to its end.

    Raises Incomparable with the stage's message if it refuses its input, and UserError if it
    fails."""
    arguments = [word for option, path in options.items() for word in (f"--{option}", str(path))]
    status = launch([sys.executable, "-m", f"stages.{name}", *positional, *arguments], log)
    if not status:
        return

    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1].removeprefix("seqline: ") if lines else "no message"
    if status == USAGE_ERROR:
        raise Incomparable(f"stages.{name}: {last.rstrip('.')}")
    raise UserError(f"stages.{name} failed with status {status}: {last}. Its log is {log}.")
