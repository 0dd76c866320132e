"""The process of a stage, and the class that starts each stage as a separate `dvc repro`."""

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from pipeline.core import state_dir
from pipeline.dag import process_groups

LOST = -1000  # the status of a stage whose fork server died


class StageProcess:
    """A stage's process group, from its start to its end."""

    def __init__(self) -> None:
        self.group = 0
        self.status: int | None = None
        self._started = threading.Event()
        self._ended = threading.Event()

    def set_started(self, group: int) -> None:
        """Record the group's number; called by the thread that starts or listens."""
        self.group = group
        self._started.set()

    def set_ended(self, status: int) -> None:
        """Record the exit status; called by the thread that waits or listens."""
        self.status = status
        self._started.set()
        self._ended.set()

    def wait_started(self) -> int:
        """Return the group's number as soon as there is one; 0 if it could not be started."""
        self._started.wait()
        return self.group

    def wait(self, seconds: float) -> int | None:
        """Return the exit status, or None if the stage still runs after so long."""
        self._ended.wait(seconds)
        return self.status


def start_command(
    root: Path, command: Sequence[str], log: Path, env: Mapping[str, str], record: bool = True
) -> StageProcess:
    """Run the command in the folder `root`, in a process group of its own; append its output to
    `log`.

    `env` is added to the environment of stages. `record`: the next flow ends the group if this
    process is killed. The caller then holds `project_lock.flow_lock`."""
    start = process_groups.start_recorded if record else process_groups.start_unrecorded
    stage = StageProcess()
    with log.open("ab") as file:
        child = start(root, command, {**dvc_environment(), **env}, file)
    stage.set_started(child.pid)
    threading.Thread(target=lambda: stage.set_ended(child.wait()), daemon=True).start()
    return stage


class Starter(Protocol):
    """Starts stages of the project `root`: `ForkServer` or `SeparateDvc`."""

    root: Path

    def start(self, address: str, log: Path, env: Mapping[str, str]) -> StageProcess:
        """Start the stage in a process group of its own; append its output to `log`."""


class SeparateDvc:
    """Starts each stage in a separate DVC process: plain `dvc`, or durable_dvc.py.

    `options` are added to `dvc repro --single-item`, such as --force.
    """

    def __init__(
        self, root: Path, dvc: Literal["patched", "plain"], options: Sequence[str] = ()
    ) -> None:
        self.root = root
        module = "pipeline.dag.durable_dvc" if dvc == "patched" else "dvc"
        self._command = [sys.executable, "-m", module, "--wait-for-lock", "repro", *options]
        process_groups.folder(root).mkdir(parents=True, exist_ok=True)

    def start(self, address: str, log: Path, env: Mapping[str, str]) -> StageProcess:
        """Start the stage in a process group of its own; append its output to `log`."""
        command = [*self._command, "--single-item", address]
        return start_command(self.root, command, log, env)


def dvc_environment() -> dict[str, str]:
    """The environment of DVC and of the stages' commands, in which `python` is this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    quiet = {"DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **quiet, "PATH": path, process_groups.MARK: uuid.uuid4().hex}


def start_dvc_process(
    root: Path, module: str, *words: str, env: Mapping[str, str] = {}
) -> "subprocess.Popen[bytes]":
    """Start `python -m MODULE WORDS...`, which imports DVC, with pipes for orders and answers; its
    errors go to the fork server's log. `env` is added to the environment."""
    with (root / state_dir.FORK_SERVER_LOG).open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=root,
            env={**dvc_environment(), **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C on the terminal is for the flow
        )
