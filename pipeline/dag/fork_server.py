"""`python -m pipeline.dag.fork_server ROOT TARGET... < REQUESTS`: imports DVC once and forks for
each stage; started by fork_client.py.

It answers with the plan (graph.py) in one line of JSON, then reads requests, one in each line:

    {"run": 7, "address": "train@lstm", "log": FILE, "env": {...}}
        fork; the child is `dvc repro --single-item train@lstm`
    {"order": [stages of dvc.lock before], "plan": [...]}
        put dvc.lock in `dvc repro`'s order

and answers {"started": 7, "group": PID}, {"ended": 7, "status": N}, {"ordered": true}. Importing
DVC and reading the project takes one to two seconds of a core, which a hundred forks need not pay.
When the input ends, also by the death of the flow, it ends every stage that still runs, and exits.

The forks run DVC with the replacements of dvc_patches.py, and the stages' commands as forks of a
second server, which has imported the stages' libraries (stage_server.py). `run.dvc: plain` in
flow.yaml selects dvc_runner.PlainDvc instead."""

import argparse
import contextlib
import gc
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from pipeline.dag import durable_dvc, dvc_patches, graph, process_groups, stage_forks
from pipeline.dag.fork_loop import ForkLoop


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.dag.fork_server", description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("targets", nargs="*")
    arguments = parser.parse_args()

    # The pipes of the flow get other descriptors: DVC may print, and that is no answer.
    requests = os.dup(0)
    answers = os.dup(1)
    _redirect(0, os.devnull)
    os.dup2(2, 1)
    _Server(arguments.root, requests, answers).serve(arguments.targets)


class _Server:
    """Serves one flow on the pipes `requests` and `answers`."""

    def __init__(self, root: Path, requests: int, answers: int) -> None:
        self._root = root
        self._requests = requests
        self._answers = answers
        self._rest = b""  # of the input: the beginning of a request
        self._running: dict[int, int] = {}  # number of the request, by process
        self._stages: stage_forks.StageForks | None = None

    def serve(self, targets: list[str]) -> None:
        """Answer with the plan, then serve requests until the input ends."""
        self._yaml = dvc_patches.apply()
        report = graph.report(self._root, targets)
        self._answer(report)
        if "refused" in report:
            return

        # It imports its libraries while this process does.
        stale = len(report["needs"]) - len(report["fresh"])
        if stage_forks.are_useful(self._root, stale):
            self._start_stage_server()

        # Import what `dvc repro` imports while it runs.
        from dvc import dvcfile  # noqa: F401
        from dvc.cli import parse_args
        from dvc.commands import repro  # noqa: F401
        from dvc.stage import cache, run  # noqa: F401

        parse_args(["repro", "--single-item", "any"])
        # A garbage collection in a fork writes to every object, which would copy all memory pages.
        gc.collect()
        gc.freeze()
        self._loop = ForkLoop(self._requests, self._receive, self._ended)
        try:
            self._loop.run()
        finally:
            for group in self._running:
                process_groups.end(self._root, group, gently=False)
            if self._stages is not None:
                self._stages.end()

    def _start_stage_server(self) -> None:
        """Start the server of the stages' commands, and let the forks of this process use it."""
        self._stages = stage_forks.StageForks(self._root)
        dvc_patches.run_commands_by(self._stages.run)

    def _receive(self) -> bool:
        """Handle the requests that have arrived; return False at the end of the input."""
        block = os.read(self._requests, 65536)
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._handle(json.loads(line))
        return bool(block)

    def _handle(self, request: dict[str, Any]) -> None:
        if "order" in request:
            try:
                graph.order_lock(self._root, request["order"], request["plan"])
                self._answer({"ordered": True})
            except OSError:  # a full disk: the lock is right, its order is not
                self._answer({"ordered": False})
            return

        self._yaml.read_ahead(self._root / "dvc.lock")
        pid = os.fork()
        if not pid:
            self._run_dvc(request)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # the child does it too, as either may be first
        self._running[pid] = request["run"]
        self._answer({"started": request["run"], "group": pid})

    def _run_dvc(self, request: dict[str, Any]) -> NoReturn:
        """In the child: run `dvc` in its own process group, with the request's environment and the
        stage's log as its output."""
        status = 255
        try:
            os.setpgid(0, 0)
            process_groups.record(self._root, os.getpid())
            self._loop.leave()
            os.close(self._answers)
            _redirect(1, request["log"])
            os.dup2(1, 2)
            os.environ.update(request["env"])

            command = ["--wait-for-lock", "repro", "--single-item", request["address"]]
            status = durable_dvc.dvc(command)
        except BaseException:  # `os._exit` below: the child must not continue the parent's loop
            traceback.print_exc()
            raise
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _ended(self, pid: int, status: int) -> None:
        if pid in self._running:
            number = self._running.pop(pid)
            self._answer({"ended": number, "status": status})

    def _answer(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._answers, json.dumps(message).encode() + b"\n")


def _redirect(descriptor: int, path: str) -> None:
    """Open the file `path` as this descriptor, 0 for reading and others for appending."""
    flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
    opened = os.open(path, flags, 0o644)
    os.dup2(opened, descriptor)
    os.close(opened)


if __name__ == "__main__":
    main()
