"""Servers that seqline starts: they end with it, however it ends, and show the store to its owner's
own pages alone."""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from long_cases import mostly_long
from tracking_project import (
    TOP,
    all_runs,
    empty_store,
    project,
    unused_port,
)
from waiting import HANG_SECONDS, wait_for

from pipeline import tracking
from pipeline.serving import mlflow_ui, server_process
from pipeline.tracking import describe, mlflow_store

__all__ = ["empty_store", "project"]  # fixtures
UI = (
    "import sys, pathlib; from pipeline.serving import mlflow_ui; "
    "mlflow_ui.ui(pathlib.Path(sys.argv[1]), int(sys.argv[2]))"
)
TIE = (
    "import subprocess, sys; from pathlib import Path; from pipeline.serving import "
    "server_process; "
    "import time\n"
)
TIE += (
    "server = server_process.start([sys.executable, '-c', sys.argv[1]], Path('.')); "
    "print(server.pid, "
    "flush=True); time.sleep(9999)"
)
WORKERS = (
    "import subprocess, sys; subprocess.Popen(['sleep', '9999']); "
    "subprocess.Popen(['sleep', '9999']).wait()"
)
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(9999)"


def group(leader: int) -> list[int]:
    """List the processes of a group that run."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return members


@pytest.mark.parametrize(
    "sign",
    mostly_long([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], 1, lambda sign: sign.name),
)
def test_a_server_and_its_workers_end_with_who_started_it(sign: signal.Signals) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", TIE, WORKERS], cwd=TOP, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    leader = int(starter.stdout.readline())
    wait_for(lambda: len(group(leader)) == 4)  # what ties it, the server, two workers
    starter.send_signal(sign)
    starter.wait(HANG_SECONDS)
    wait_for(lambda: not group(leader))


@pytest.mark.long
def test_a_server_that_ignores_sigterm_ends_with_who_started_it() -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", TIE, STUBBORN], cwd=TOP, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    leader = int(starter.stdout.readline())
    wait_for(lambda: len(group(leader)) == 2)
    starter.kill()
    starter.wait(HANG_SECONDS)
    wait_for(lambda: not group(leader))


@pytest.mark.parametrize("words", [WORKERS, "pass", "import sys; sys.exit(3)"])
def test_ending_a_server_leaves_no_process_of_its_group(words: str, tmp_path: Path) -> None:
    server = server_process.start([sys.executable, "-c", words], tmp_path)
    if words != WORKERS:
        assert server.wait(HANG_SECONDS) == (3 if "exit" in words else 0), "its own status"
    server_process.end(server)
    assert server.returncode is not None
    assert not group(server.pid)


@contextmanager
def pages(root: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """`seqline ui` on a free port, once it answers."""
    port = unused_port()
    process = subprocess.Popen(
        [sys.executable, "-c", UI, str(root), str(port)], cwd=TOP, stdout=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: process.poll() is not None or request(port, "GET", "/health")[0] == 200)
        assert process.poll() is None
        yield process, port
    finally:
        process.kill()
        process.wait()


def request(
    port: int, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send a request; return status, headers and body of the answer, and status 0 if no server
    listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_SECONDS)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return (
            answer.status,
            {key.lower(): value for key, value in answer.getheaders()},
            answer.read(),
        )
    except OSError:
        return 0, {}, b""
    finally:
        connection.close()


def listeners(leader: "subprocess.Popen[bytes]") -> set[str]:
    """The addresses on which a process and all that it started listen."""
    family = [psutil.Process(leader.pid), *psutil.Process(leader.pid).children(recursive=True)]
    sockets = [connection for process in family for connection in process.net_connections("inet")]
    return {
        connection.laddr.ip for connection in sockets if connection.status == psutil.CONN_LISTEN
    }


@pytest.mark.long
def test_the_pages_answer_their_own_address_alone_and_end_when_seqline_ui_is_killed(
    project: Path, tmp_path: Path
) -> None:
    """In a folder of a name that is no address as it stands; the artifacts of a run come out of
    it."""
    root = project.rename(project.parent / f"{project.name} a?b#c%20d it's")
    (root / "mlflow.db").chmod(0o644)
    tracking.sync(root)
    [run] = all_runs(mlflow_store.connect(root))
    with pages(root) as (process, port):
        assert (root / "mlflow.db").stat().st_mode & 0o777 == 0o600
        assert listeners(process) == {"127.0.0.1"}
        search = "/ajax-api/2.0/mlflow/experiments/search"
        assert request(port, "POST", search, b'{"max_results": 1}')[0] == 200
        assert request(port, "GET", "/", Host="rebound.example")[0] == 403
        assert (
            request(port, "POST", search, b'{"max_results": 1}', Origin="http://elsewhere.example")[
                0
            ]
            == 403
        )
        _, headers, _ = request(port, "GET", "/version", Origin="http://elsewhere.example")
        assert "access-control-allow-origin" not in headers
        status, _, body = request(
            port, "GET", f"/get-artifact?path=samples.json&run_uuid={run.info.run_id}"
        )
        assert (status, b"the answer of lstm" in body) == (200, True)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.kill()
        process.wait()
        psutil.wait_procs(children, timeout=HANG_SECONDS)
        assert not [
            child
            for child in children
            if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        ]
    assert [path for path in root.parent.iterdir() if path.name.startswith(project.name)] == [root]


def test_the_address_of_the_store_is_not_on_the_server_s_command_line(tmp_path: Path) -> None:
    root = tmp_path / "a?b"
    words = mlflow_ui.command(root, 5000)
    assert words[words.index("--artifacts-destination") + 1] == (root / "mlartifacts").as_uri()
    assert not any("sqlite" in word for word in words)
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert describe.uri(root).startswith("sqlite+pysqlite:///file:/")
