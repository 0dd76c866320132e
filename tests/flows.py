"""A Prefect server of the tests' own, and `seqline run` as a process against it."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks import prefect_server

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-c", "from pipeline.cli import main; main()"]
PATIENCE = 120.0  # seconds, for machines that are busy otherwise


def surroundings(home: Path, url: str | None) -> dict[str, str]:
    """The environment of a `seqline` that reports to the server at `url`, or has none configured."""
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "SEQLINE_", "CUDA_", "OMP_"))}
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "SEQLINE_TRACKING": "off"}
    where = {"PREFECT_HOME": str(home), "PATH": binaries, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    return kept | quiet | where | ({"PREFECT_API_URL": url} if url else {})


def server(home: Path) -> contextlib.AbstractContextManager[str]:
    """A real `prefect server`, by its API's address."""
    return prefect_server.running(home, surroundings(home, None))


def ask(url: str, path: str, **body: Any) -> Any:
    """What the API answers to a POST."""
    request = urllib.request.Request(f"{url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def wait_for(seen: Callable[[], Any], what: str) -> Any:
    """What `seen` returns, once it is true."""
    until = time.monotonic() + PATIENCE
    while not (found := seen()):
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.05)
    return found


def seqline(root: Path, env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """The command, from start to end."""
    return subprocess.run([*COMMAND, *words], cwd=root, env=env, capture_output=True, text=True, timeout=2 * PATIENCE)


@contextlib.contextmanager
def started(root: Path, env: dict[str, str], *words: str) -> Iterator["subprocess.Popen[str]"]:
    """The command as a process to be interrupted."""
    with subprocess.Popen(
        [*COMMAND, *words], cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def inhabitants(root: Path) -> list[psutil.Process]:
    """The processes that are at work in the folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd() == str(root) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def at_work(root: Path, out: str = "") -> list[psutil.Process]:
    """The commands that run in the folder of stages whose out begins with `out`."""
    found = []
    for process in inhabitants(root):
        with contextlib.suppress(psutil.Error):
            if "work.py" in process.cmdline()[:2] and process.cmdline()[2].startswith(out):
                found.append(process)
    return found
