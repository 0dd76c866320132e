"""`seqline ui` and `seqline serve`: MLflow's own pages on the project's own store, and a version
that answers, on loopback.

The first is MLflow's server, the second our own (server.py). Both are processes that end when this
one does, a kill included (tied_server.py)."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from pipeline.core import loopback
from pipeline.core.errors import refuse, shown
from pipeline.tracking import artifacts, describe, mlflow_store, registry

_HOST = "127.0.0.1"
# the pages begin with those for chat agents otherwise
_PAGE = "/#/experiments?workflowType=machine_learning"
_START_SECONDS = 90.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
# status after Ctrl-C or a signal
_ENDED = (0, *(-number for number in _SIGNALS), *(128 + number for number in _SIGNALS))


def ui(root: Path, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM; UserError if the port is taken, or the store is a server with
    pages of its own."""
    if mlflow_store.is_server(root):
        raise refuse(
            "MLFLOW_TRACKING_URI",
            shown(describe.uri(root)),
            "no server, to serve the project's own store",
            "Open it as it is.",
        )
    _refuse_busy(port)
    with mlflow_store.open_store(root):
        pass
    mlflow_store.make_private(root)
    # its password has no place on a command line
    where = {"MLFLOW_BACKEND_STORE_URI": describe.uri(root)}
    server = start(command(root, port), describe.home(root), where)
    _until_told("ui", server, port, f"MLflow at {_address(port)}{_PAGE}")


def model(root: Path, version: str, port: int, hosts: Sequence[str]) -> None:
    """Answer for a version until Ctrl-C or SIGTERM; UserError if there is none, or the port is
    taken.

    `hosts`: names and ports by which a proxy or a tunnel calls the server, besides those of
    loopback."""
    uri = registry.uri(root, version)
    _refuse_busy(port)
    words = [sys.executable, "-m", "pipeline.tracking.server", uri, "--port", str(port)]
    allow = [word for host in hosts for word in ("--allow-host", host)]
    where = {"MLFLOW_TRACKING_URI": describe.uri(root), "SEQLINE_ROOT": str(describe.home(root))}
    told = (
        uri
        + f" at {_address(port)}/invocations, for POSTs of JSON such as "
        + '{"inputs": ["a text"]}'
    )
    _until_told("serve", start([*words, *allow], describe.home(root), where), port, told)


def _address(port: int) -> str:
    return f"http://{_HOST}:{port}"


def _until_told(who: str, server: "subprocess.Popen[bytes]", port: int, told: str) -> None:
    """Say `told` once the server answers, and end it with its whole process group at Ctrl-C or
    SIGTERM."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, _leave)
        wait_until_up(server, _address(port))
        if server.poll() is None:
            print(f"seqline: {told} (Ctrl-C ends it)", flush=True)
        server.wait()
    except KeyboardInterrupt:
        print()
    finally:
        end(server)
    if server.returncode not in _ENDED:
        raise refuse(
            f"seqline {who}",
            f"a server that ended with status {server.returncode}",
            "it to run",
            "See the lines above.",
        )


def command(root: Path, port: int) -> list[str]:
    """The server's command line, which the whole machine can read: one worker, on loopback, and no
    store's password.

    Requests must name this machine as their host, which stops pages that rebind a DNS name; pages
    of other sites get no answer from it."""
    hosts = f"localhost:{port},{_HOST}:{port}"
    origins = f"http://localhost:{port},http://{_HOST}:{port}"
    stores = ["--artifacts-destination", artifacts.artifact_folder(root).as_uri()]
    listen = ["--host", _HOST, "--port", str(port), "--workers", "1", "--allowed-hosts", hosts]
    allow = ["--cors-allowed-origins", origins]
    return [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        *stores,
        *listen,
        *allow,
        "--uvicorn-opts",
        "--log-level warning",
    ]


def start(
    words: list[str], folder: Path, where: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """The server in a process group of its own, so that it can be ended whole; what it says goes to
    stderr.

    It ends as soon as this process does, even by a kill: tied_server.py, which starts it, waits for
    the end of a pipe. `where` is added to its environment."""
    quiet = {
        # a dozen processes for jobs that this project has none of
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",  # of MLflow's own imports
        # it calls others by name
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    tied = [sys.executable, "-P", str(Path(__file__).with_name("tied_server.py")), *words]
    env = {**os.environ, **quiet, **(where or {})}
    return subprocess.Popen(
        tied, cwd=folder, env=env, stdin=subprocess.PIPE, stdout=2, process_group=0
    )


def _refuse_busy(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise refuse(
                "--port", port, f"a free port ({error.strerror})", "Name another: --port N."
            ) from None
        except OverflowError:
            raise refuse("--port", port, "a number from 1 to 65535") from None


def wait_until_up(server: "subprocess.Popen[bytes]", address: str) -> None:
    """Return once the server answers, has ended, or has had its time."""
    until = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < until:
        if loopback.answers(f"{address}/health"):
            return
        time.sleep(0.2)


def end(server: "subprocess.Popen[bytes]") -> None:
    """End the server's whole process group: it has a worker."""
    if server.stdin is not None:
        with suppress(OSError):
            server.stdin.close()
    for sign, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(server.pid, sign)
            server.wait(patience)
            if _is_empty(server.pid, patience):
                return
        except ProcessLookupError:
            server.wait()
            return
        except subprocess.TimeoutExpired:
            continue


def _is_empty(group: int, seconds: float) -> bool:
    """Wait up to `seconds` until no process of the group is left; return whether that is so."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def _leave(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
