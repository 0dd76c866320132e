"""The fork server's side of stage_server.py: start it, and run the commands of stages by it.

The process of `dvc repro --single-item STAGE`, itself a fork, sends the request and waits for the
exit status. A command that is no `python -m stages.NAME`, and whatever the server declines, is run
by DVC as ever."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline.dag import stage_server

# A command that every shell splits at the spaces, and changes in no other way.
_COMMAND = re.compile(r"python -m (stages\.\w+)((?: [\w./{}=:@%+-]+)*)")
# Fewer stages import their libraries in less time than the server, which imports all of them.
_MIN_STAGES = 3
_SERVER_DIED = -signal.SIGKILL


class StageForks:
    """The stage server of one fork server. It is started once, before any fork."""

    def __init__(self, root: Path) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.dag.stage_server", str(theirs.fileno())],
            cwd=root,
            env=os.environ | stage_server.NO_THREADS,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def run(self, command: str, env: Mapping[str, str], cwd: str) -> int | None:
        """Run a stage's command in a fork of the server, in this process's group, with its streams;
        return the exit status, negative after a signal.

        None if the command has to be run in a new process."""
        match = _COMMAND.fullmatch(command)
        if match is None:
            return None
        request = stage_server.Request(
            module=match[1],
            arguments=match[2].split(),
            env=dict(env),
            cwd=str(cwd),
            group=os.getpgid(0),
        )

        # As DVC does while a command runs: Ctrl-C is for the command.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return self._run(request)
        finally:
            signal.signal(signal.SIGINT, before)

    def _run(self, request: stage_server.Request) -> int | None:
        file = os.memfd_create("request")
        answers, answer = os.pipe()
        try:
            # A file, as messages have a limit that an environment may exceed.
            os.write(file, json.dumps(request._asdict()).encode())
            os.lseek(file, 0, os.SEEK_SET)
            socket.send_fds(self._requests, [b"r"], [file, 0, 1, 2, answer])
        except OSError:  # the server has died
            os.close(answers)
            return None
        finally:
            os.close(file)
            os.close(answer)

        # The server writes `started` before it starts the stage. Without it nothing was started.
        with open(answers, encoding="utf-8") as lines:
            if lines.readline() != "started\n":
                return None
            status = lines.readline()
        return int(status) if status.endswith("\n") else _SERVER_DIED

    def end(self) -> None:
        """End the server; the stages that it started belong to the groups of their requests."""
        self._requests.close()
        self._process.kill()
        with contextlib.suppress(ChildProcessError):
            self._process.wait()


def are_useful(root: Path, count: int) -> bool:
    """Return whether a server would save time for `count` stages of the project, on this system."""
    if sys.platform != "linux" or count < _MIN_STAGES:
        return False
    with contextlib.suppress(OSError):
        return "python -m stages." in (root / "dvc.yaml").read_text(encoding="utf-8")
    return False
