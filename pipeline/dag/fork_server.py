"""`python -m pipeline.dag.fork_server ROOT TARGET... < ORDERS`: the process that imports DVC;
started by fork_client.py.

It says what there is to do (graph.py) in one line of JSON, then takes orders, a line each:

    {"run": 7, "address": "train@lstm", "log": FILE, "env": {...}}
        fork; the child is `dvc repro --single-item train@lstm`
    {"order": [stages of dvc.lock before], "plan": [...]}
        put dvc.lock in `dvc repro`'s order

and says {"started": 7, "group": PID}, {"ended": 7, "status": N}, {"ordered": true}. Importing DVC
and reading the project takes one to two seconds of a core, which a hundred forks need not pay. When
the orders end, be it by the death of the flow, it ends every stage that still runs and leaves."""

import argparse
import contextlib
import gc
import json
import os
import selectors
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from pipeline.core.errors import UserError
from pipeline.dag import graph, lockfile, process_groups


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.dag.fork_server", description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("targets", nargs="*")
    a = parser.parse_args()
    orders, said = os.dup(0), os.dup(1)
    _redirect(0, os.devnull)
    os.dup2(2, 1)  # whatever DVC prints is no answer
    Warm(a.root, orders, said).work(a.targets)


class Warm:
    """Serves one flow on the pipes `orders` and `said`."""

    def __init__(self, root: Path, orders: int, said: int) -> None:
        self._root, self._orders, self._said = root, orders, said
        self._running: dict[int, int] = {}  # order by process

    def work(self, targets: list[str]) -> None:
        """Say the plan, then obey until the orders end."""
        lockfile.fit()
        try:
            self._say(
                {
                    "plan": graph.read(self._root, targets).to_json(),
                    "locked": graph.locked_stages(self._root),
                }
            )
        except UserError as error:
            self._say({"refused": str(error)})
            return
        self._import_all()
        try:
            self._obey()
        finally:
            for group in self._running:
                process_groups.end(self._root, group, gently=False)

    def _import_all(self) -> None:
        """Import what `dvc repro` imports as it goes, and nothing that a fork would copy when it
        counts references."""
        from dvc import dvcfile  # noqa: F401
        from dvc.cli import parse_args
        from dvc.commands import repro  # noqa: F401
        from dvc.stage import cache, run  # noqa: F401

        parse_args(["repro", "--single-item", "any"])
        gc.collect()
        gc.freeze()

    def _obey(self) -> None:
        wake, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        with (
            selectors.DefaultSelector() as waiting,
            os.fdopen(self._orders, "rb", buffering=0) as orders,
        ):
            waiting.register(orders, selectors.EVENT_READ)
            waiting.register(wake, selectors.EVENT_READ)
            rest = b""
            while True:
                for key, _ in waiting.select():
                    if key.fd == wake:
                        os.read(wake, 4096)
                        self._reap()
                    else:
                        got = os.read(key.fd, 65536)
                        if not got:
                            return
                        *lines, rest = (rest + got).split(b"\n")
                        for line in lines:
                            self._order(json.loads(line))

    def _order(self, order: dict[str, Any]) -> None:
        if "order" in order:
            ordered = False
            with contextlib.suppress(OSError):  # a full disk: the lock is right, its order is not
                graph.order_lock(self._root, order["order"], order["plan"])
                ordered = True
            self._say({"ordered": ordered})
            return
        pid = os.fork()
        if not pid:
            self._be_dvc(order)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # the child does it too: whoever comes first
        self._running[pid] = order["run"]
        self._say({"started": order["run"], "group": pid})

    def _be_dvc(self, order: dict[str, Any]) -> NoReturn:
        """In the child: a `dvc` of its own group, with its own surroundings and its output in the
        stage's log."""
        status = 255
        try:
            os.setpgid(0, 0)
            process_groups.record(self._root, os.getpid())
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(self._orders)
            os.close(self._said)
            _redirect(1, order["log"])
            os.dup2(1, 2)
            os.environ.update(order["env"])
            status = _dvc(["--wait-for-lock", "repro", "--single-item", order["address"]])
        except BaseException:  # the parent's work is not to be done twice, whatever happens
            traceback.print_exc()
            raise
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            if pid in self._running:
                self._say(
                    {"ended": self._running.pop(pid), "status": os.waitstatus_to_exitcode(status)}
                )

    def _say(self, what: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._said, json.dumps(what).encode() + b"\n")


def _dvc(arguments: list[str]) -> int:
    from dvc.cli import main

    sys.argv = ["dvc", *arguments]  # what DVC notes in its own locks
    return int(main(arguments) or 0)


def _redirect(descriptor: int, path: str) -> None:
    flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
    opened = os.open(path, flags, 0o644)
    os.dup2(opened, descriptor)
    os.close(opened)


if __name__ == "__main__":
    main()
