"""A Prefect server of the tests' own, and `seqline run` as a process against it."""

import contextlib
import functools
import http
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import termios
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from waiting import HANG_SECONDS, wait_for

from benchmarks import prefect_server

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "from pipeline.cli import main; main()"]
CONTROL = r"\x1b\[[0-9;?]*[a-zA-Z]"  # what a terminal obeys rather than shows
_ROWS, _COLUMNS = 50, 200


def surroundings(home: Path, url: str | None) -> dict[str, str]:
    """The environment of a `seqline` that reports to the server at `url`, or has none
    configured."""
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PREFECT_", "SEQLINE_", "CUDA_", "OMP_"))
    }
    quiet = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "SEQLINE_TRACKING": "off",
    }
    where = {
        "PREFECT_HOME": str(home),
        "PATH": binaries,
        "PYTHONPATH": str(ROOT),
        "DVC_NO_ANALYTICS": "1",
    }
    return kept | quiet | where | ({"PREFECT_API_URL": url} if url else {})


def server(home: Path, **settings: str) -> contextlib.AbstractContextManager[str]:
    """A real `prefect server`, by its API's address; `settings` are variables of its
    environment."""
    provide_database(home)
    return prefect_server.running(home, surroundings(home, None) | settings)


def provide_database(home: Path) -> None:
    """Give a server that will start in the folder a new database, unless it has one."""
    database = home / "prefect.db"
    if not database.exists():
        home.mkdir(exist_ok=True)
        database.write_bytes(_new_database())


@functools.cache
def _new_database() -> bytes:
    """Prefect's database before any flow. Its migrations are over half of a server's first
    start."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
        env = surroundings(Path(home), None)
        subprocess.run(command, env=env, check=True, capture_output=True)
        return Path(home, "prefect.db").read_bytes()


def temporary_servers(pid: int) -> list[psutil.Process]:
    """The Prefect servers that the process has started for itself."""
    servers = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):  # one that is just ending
            if "pipeline.flow.temporary_server" in child.cmdline():
                servers.append(child)
    return servers


def server_process(url: str) -> psutil.Process:
    """The process of one of `server`."""
    port = url.removesuffix("/api").rpartition(":")[2]
    [process] = [child for child in psutil.Process().children() if port in child.cmdline()]
    return process


def kill_server(url: str) -> None:
    """End one of `server` at once, with all that it started."""
    os.killpg(server_process(url).pid, signal.SIGKILL)
    wait_for(lambda: not prefect_server.is_up(f"{url}/health"), "the server's end")


def ask(url: str, path: str, **body: Any) -> Any:
    """What the API answers to a POST."""
    request = urllib.request.Request(
        f"{url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    return json.loads(_answer(request) or b"null")


def get(url: str, path: str) -> Any:
    """What the API answers to a GET."""
    return json.loads(_answer(urllib.request.Request(f"{url}/{path}")))


def _answer(request: urllib.request.Request) -> bytes:
    """The body of the answer. The server says 503 while another request holds its database, and has
    done nothing then: Prefect's own client asks again too."""

    def answered() -> tuple[bytes] | None:
        try:
            with urllib.request.urlopen(request, timeout=HANG_SECONDS) as answer:
                return (answer.read(),)
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            return None

    [body] = wait_for(answered, "an answer of the server")
    return bytes(body)


def seqline(root: Path, env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """The command, from start to end."""
    return subprocess.run(
        [*COMMAND, *words],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        timeout=2 * HANG_SECONDS,
    )


@contextlib.contextmanager
def started(root: Path, env: dict[str, str], *words: str) -> Iterator["subprocess.Popen[str]"]:
    """The command as a process to be interrupted."""
    with subprocess.Popen(
        [*COMMAND, *words],
        cwd=root,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def on_terminal(root: Path, env: dict[str, str], *words: str) -> tuple[int, str]:
    """The command on a terminal, from start to end: its exit status and all that it wrote there."""
    ours, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (_ROWS, _COLUMNS))
    size = {"TERM": "xterm-256color", "LINES": str(_ROWS), "COLUMNS": str(_COLUMNS)}
    said = b""
    with subprocess.Popen(
        [*COMMAND, *words],
        cwd=root,
        env=env | size,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        with contextlib.suppress(OSError):  # nobody is left at the other end
            while got := os.read(ours, 65536):
                said += got
    os.close(ours)
    return process.returncode, said.decode()


def visible_lines(said: str) -> list[str]:
    """The lines that a terminal shows after all this was written to it."""
    lines, row, column = [""], 0, 0
    for part in re.findall(rf"{CONTROL}|\r|\n|[^\x1b\r\n]+", said):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part.startswith("\x1b["):
            if part.endswith("A"):
                row = max(row - int(part[2:-1] or 1), 0)
            elif part.endswith("2K"):
                lines[row] = ""
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines if line.strip()]


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
            words = process.cmdline()  # none, of one that is just ending
            if "work.py" in words[:2] and words[2].startswith(out):
                found.append(process)
    return found
