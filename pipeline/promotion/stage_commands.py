"""The project's stages as commands of this process, some side by side; when one fails, all of them
end."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

from pipeline.core.errors import UserError
from pipeline.promotion.retokenize import Incomparable

# where the packages `pipeline` and `stages` lie
CODE = Path(__file__).resolve().parent.parent.parent
USAGE_ERROR = 2  # a stage's exit status where it refuses what it was given

Launch = Callable[[Sequence[str], Path], int]
"""Runs a command to its end, its output appended to the file given, and gives its exit status."""


class Commands:
    """Children of this process, run in the folder `root` with this project's own code; `limits`:
    seconds by stage."""

    def __init__(self, root: Path, limits: Mapping[str, int] = {}) -> None:
        self._root, self._limits = root, limits
        self._alive, self._over = set[subprocess.Popen[bytes]](), False

    def __call__(self, command: Sequence[str], log: Path) -> int:
        """As `Launch`; safe in several threads. Nothing starts any more once `end` was called.
        UserError for a stage that took longer than its limit, and was ended."""
        path = os.pathsep.join([str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])])
        name = next(
            (word.removeprefix("stages.") for word in command if word.startswith("stages.")), ""
        )
        with log.open("ab") as file, self._place(name) as own:
            if self._over:
                return -1
            child = self._start(command, os.environ | {"PYTHONPATH": path} | own, file)
            self._alive.add(child)
            if self._over:  # `end` came between
                self._stop(child)
            try:
                return child.wait(self._limits.get(name))
            except subprocess.TimeoutExpired:
                self._stop(child)
                child.wait()
                got = f"stages.{name}: got {self._limits[name]} s of run.time_limits"
                raise UserError(
                    f"{got}; expected it to end. It was ended. Its log is {log}."
                ) from None
            finally:
                self._alive.discard(child)
                self._ended(child)

    def end(self) -> None:
        """Kill what runs, and start nothing more."""
        self._over = True
        for child in list(self._alive):
            self._stop(child)

    def _place(self, name: str) -> AbstractContextManager[dict[str, str]]:
        """Held while the stage of this name runs: what its environment must say of it."""
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
    """Run a stage to its end. Incomparable, with its line, if it refuses what it is given;
    UserError if it breaks down."""
    named = [word for option, path in options.items() for word in (f"--{option}", str(path))]
    status = launch([sys.executable, "-m", f"stages.{name}", *positional, *named], log)
    if not status:
        return
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1].removeprefix("seqline: ") if lines else "nothing said"
    if status == USAGE_ERROR:
        raise Incomparable(f"stages.{name} says: {last.rstrip('.')}")
    raise UserError(f"stages.{name} broke down with status {status}: {last}. Its log is {log}.")
