"""A real `prefect server` on a free port, for benchmarks and tests."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

_START_SECONDS = 180.0
_END_SECONDS = 20.0


@contextmanager
def running(home: Path, env: Mapping[str, str]) -> Iterator[str]:
    """Run a server; yield the address of its API once it is up.

    `env` has `home` as its PREFECT_HOME."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, env=dict(env), stdout=log, stderr=log, start_new_session=True
        )

    url = f"http://127.0.0.1:{port}/api"
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not is_up(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the Prefect server did not start: see {home / 'server.log'}")
            time.sleep(0.2)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_up(url: str) -> bool:
    """Return whether a server responds at the address."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False
