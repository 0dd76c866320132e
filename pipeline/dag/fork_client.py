"""The flow's end of the line to the process that has imported DVC (fork_server.py): ask for the
plan, start stages, wait."""

import json
import os
import queue
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.core import state_dir
from pipeline.core.errors import UserError
from pipeline.dag import graph, process_groups

LOST = -1000  # the status of a stage whose warm process died
_LEAVE_SECONDS = 15.0


class Child:
    """A stage's process group, from its start to its end."""

    def __init__(self) -> None:
        self.group = 0
        self.status: int | None = None
        self._started, self._ended = threading.Event(), threading.Event()

    def began(self, group: int) -> None:
        """Told by the line's reader."""
        self.group = group
        self._started.set()

    def ended(self, status: int) -> None:
        """Told by the line's reader."""
        self.status = status
        self._started.set()
        self._ended.set()

    def known(self) -> int:
        """The group's number, as soon as there is one; 0 if it never came to be."""
        self._started.wait()
        return self.group

    def wait(self, seconds: float) -> int | None:
        """The exit status, or None if it still runs after so long."""
        self._ended.wait(seconds)
        return self.status


class ForkServer:
    """The warm process of one flow: `with ForkServer(root, targets) as workers`. It reads the plan
    while the caller goes on."""

    def __init__(self, root: Path, targets: Sequence[str]) -> None:
        self.root = root
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._children: dict[int, Child] = {}
        self._lock = threading.Lock()
        self._said: dict[str, Any] | None = None
        process_groups.folder(root).mkdir(parents=True, exist_ok=True)
        with (root / state_dir.FORK_SERVER_LOG).open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.dag.fork_server", str(root), *targets],
                cwd=root,
                env=surroundings(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C on the terminal is the flow's to answer
            )
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def plan(self) -> tuple[graph.Plan, list[str]]:
        """Return the plan and the stages that `dvc.lock` has; UserError for what DVC refuses."""
        if self._said is None:
            self._said = self._answers.get()
        if "refused" in self._said:
            raise UserError(self._said["refused"])
        if "plan" not in self._said:
            raise UserError(
                "dvc.yaml: got no plan; expected DVC to read it. See "
                f"{self.root / state_dir.FORK_SERVER_LOG}."
            )
        return graph.from_json(self._said["plan"]), self._said["locked"]

    def start(self, address: str, log: Path, env: Mapping[str, str]) -> Child:
        """`dvc repro --single-item ADDRESS` in a process group of its own, its output added to
        `log`."""
        child = Child()
        with self._lock:
            number = len(self._children)
            self._children[number] = child
            self._tell(
                {"run": number, "address": address, "log": str(log), "env": dict(env)}, child
            )
        return child

    def order_lock(self, before: Sequence[str], plan: Sequence[str]) -> bool:
        """See graph.order_lock; when no stage runs. Whether `dvc.lock` is in that order now."""
        with self._lock:
            self._tell({"order": list(before), "plan": list(plan)}, None)
        return self._answers.get().get("ordered") is True

    def close(self) -> None:
        """Let the process go; it ends all that it started."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, order: dict[str, Any], child: Child | None) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            if child is not None:
                child.ended(LOST)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "started" in answer:
                self._children[answer["started"]].began(answer["group"])
            elif "ended" in answer:
                self._children[answer["ended"]].ended(answer["status"])
            else:
                self._answers.put(answer)
        self._answers.put({"gone": ""})
        with self._lock:
            for child in self._children.values():
                if child.status is None:
                    child.ended(LOST)


def surroundings() -> dict[str, str]:
    """The environment of DVC and of the stages' commands, which say `python` and mean this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    quiet = {"DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **quiet, "PATH": path, process_groups.MARK: uuid.uuid4().hex}
