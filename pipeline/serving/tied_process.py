"""`python tied_process.py COMMAND... < PIPE`: run a server that ends as soon as the pipe is
closed.

The operating system closes it when the process that started this one dies, even by SIGKILL. The
whole process group is ended then, since servers have workers. This file is run by its path, so it
imports nothing of the project."""

import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

_SHUTDOWN_SECONDS = 5.0


def main() -> None:
    server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def forward(number: int, frame: FrameType | None) -> None:
        """Forward the signal; a second one does no harm if the whole group got the first."""
        server.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, forward)

    end_group_with(sys.stdin.fileno())
    status = server.wait()
    # As shells do: 128 plus the number of the signal.
    sys.exit(128 - status if status < 0 else status)


def end_group_with(pipe: int) -> None:
    """End this process and its group as soon as the other end of the pipe is closed.

    The group must be this process's own."""
    threading.Thread(target=_wait_and_end, args=(pipe,), daemon=True).start()


def _wait_and_end(pipe: int) -> None:
    # Not through `sys.stdin`: its lock would be held when this process ends, a fatal error.
    while os.read(pipe, 1):
        pass
    group = os.getpgid(0)
    os.killpg(group, signal.SIGTERM)
    time.sleep(_SHUTDOWN_SECONDS)
    os.killpg(group, signal.SIGKILL)  # this process too


if __name__ == "__main__":
    main()
