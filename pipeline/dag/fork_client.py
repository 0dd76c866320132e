"""The flow's side of the fork server (fork_server.py): get the plan, start stages, wait."""

import json
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.dag import graph, process_groups
from pipeline.dag.stage_process import LOST, StageProcess, start_dvc_process

_EXIT_SECONDS = 15.0


class ForkServer:
    """The fork server of one flow: `with ForkServer(root, targets) as dvc`.

    It reads the plan while the caller continues. Safe in several threads. `env`: variables that
    every stage gets."""

    def __init__(self, root: Path, targets: Sequence[str], env: Mapping[str, str] = {}) -> None:
        self.root = root
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._stages: dict[int, StageProcess] = {}
        self._lock = threading.Lock()
        self._report: dict[str, Any] | None = None
        process_groups.folder(root).mkdir(parents=True, exist_ok=True)

        command = ("pipeline.dag.fork_server", str(root), *targets)
        self._process = start_dvc_process(root, *command, env=env)
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *exception: object) -> None:
        """End the server, which ends all stages that it started."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def plan(self) -> tuple[graph.Plan, list[str]]:
        """Return the plan and the stages that `dvc.lock` has; UserError for what DVC refuses."""
        if self._report is None:
            self._report = self._answers.get()
        return graph.parse_report(self._report, self.root)

    def start(self, address: str, log: Path, env: Mapping[str, str]) -> StageProcess:
        """Start `dvc repro --single-item ADDRESS` in a process group of its own; append its output
        to `log`."""
        stage = StageProcess()
        with self._lock:
            number = len(self._stages)
            self._stages[number] = stage
            request = {"run": number, "address": address, "log": str(log), "env": dict(env)}
            if not self._send(request):
                stage.set_ended(LOST)
        return stage

    def order_lock(self, before: Sequence[str], plan: Sequence[str]) -> bool:
        """Sort `dvc.lock` as graph.order_lock does, when no stage runs; return whether it is
        sorted."""
        with self._lock:
            self._send({"order": list(before), "plan": list(plan)})
        return self._answers.get().get("ordered") is True

    def _send(self, request: dict[str, Any]) -> bool:
        """Return whether the request could be sent; False if the server has died."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return False
        return True

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "started" in message:
                self._stages[message["started"]].set_started(message["group"])
            elif "ended" in message:
                self._stages[message["ended"]].set_ended(message["status"])
            else:
                self._answers.put(message)

        # The server has died, or has ended after `__exit__`: nothing waits for it any longer.
        self._answers.put({"closed": ""})
        with self._lock:
            for stage in self._stages.values():
                if stage.status is None:
                    stage.set_ended(LOST)
