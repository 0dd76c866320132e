"""A server as a process on loopback that ends when this process does, even by SIGKILL."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.core import loopback
from pipeline.core.errors import refuse

HOST = "127.0.0.1"
_START_SECONDS = 90.0
_END_SECONDS = 5.0  # for each signal
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
# exit statuses after Ctrl-C or a signal
_EXPECTED_STATUSES = (0, *(-number for number in _SIGNALS), *(128 + number for number in _SIGNALS))


def address(port: int) -> str:
    """The server's URL."""
    return f"http://{HOST}:{port}"


def run_until_interrupted(
    subcommand: str, server: "subprocess.Popen[bytes]", port: int, message: str
) -> None:
    """Print the message once the server is up; end its process group at Ctrl-C or SIGTERM."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, signal.default_int_handler)  # KeyboardInterrupt
        wait_until_up(server, address(port))
        if server.poll() is None:
            print(f"seqline: {message}", flush=True)
        server.wait()
    except KeyboardInterrupt:
        print()
    finally:
        end(server)

    if server.returncode not in _EXPECTED_STATUSES:
        raise refuse(
            f"seqline {subcommand}",
            f"a server that ended with status {server.returncode}",
            "it to run",
            "See the lines above.",
        )


def start(
    command: list[str], folder: Path, environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a server in its own process group, with its output on stderr.

    It ends as soon as this process does, even by SIGKILL: tied_process.py, which starts it, waits
    for the end of a pipe. `environment` is added to its environment."""
    defaults = {
        # a dozen processes for jobs, which this project does not have
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",  # of MLflow's own imports
        # MLflow starts uvicorn by its name
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }

    # -P: the folder of tied_process.py must not be on its import path.
    tied = [sys.executable, "-P", str(Path(__file__).with_name("tied_process.py")), *command]
    env = {**os.environ, **defaults, **(environment or {})}
    return subprocess.Popen(
        tied, cwd=folder, env=env, stdin=subprocess.PIPE, stdout=2, process_group=0
    )


def check_port(port: int) -> None:
    """Raise UserError if the port is in use or no port."""
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise refuse(
                "--port", port, f"a free port ({error.strerror})", "Name another: --port N."
            ) from None
        except OverflowError:
            raise refuse("--port", port, "a number from 1 to 65535") from None


def wait_until_up(server: "subprocess.Popen[bytes]", address: str) -> None:
    """Wait until the server responds, ends, or exceeds its time to start."""
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        if loopback.answers(f"{address}/health"):
            return
        time.sleep(0.2)


def end(server: "subprocess.Popen[bytes]") -> None:
    """End the server's whole process group, workers included: SIGTERM first, then SIGKILL."""
    # The end of the pipe ends it too (tied_process.py).
    if server.stdin is not None:
        with suppress(OSError):
            server.stdin.close()

    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(_END_SECONDS)
            if _is_empty(server.pid, _END_SECONDS):
                return
        except ProcessLookupError:
            server.wait()
            return
        except subprocess.TimeoutExpired:
            continue


def _is_empty(group: int, seconds: float) -> bool:
    """Wait up to `seconds` for all processes of the group to end; return whether they did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
