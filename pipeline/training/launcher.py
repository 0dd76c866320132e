"""Start the processes of a training on one machine, and end them together.

torch's elastic agent and TCPStore are not used: both listen on every interface without
authentication, and the agent unpickles what it receives. Here the environment holds the rank. The
processes meet through a file (torch's FileStore) in a folder that only this user can open.
"""

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.core.atomic import atomic_file
from pipeline.core.errors import UserError

PEER_LOST = 76
"""Exit status of a process that ended because another did (EX_PROTOCOL): it is not the cause."""

_LAUNCHER = "SEQLINE_LAUNCHER"  # pid of the launcher
_FOLDER = "SEQLINE_RANKS"  # the private folder
_GRACE_SECONDS = 10.0


def is_launched() -> bool:
    """Return whether torchrun or `launch` started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def private_folder() -> Path | None:
    """The private folder of a process that `launch` started; None under torchrun."""
    return Path(os.environ[_FOLDER]) if _FOLDER in os.environ else None


def launch(count: int, module: str, work: Path) -> int:
    """Run this command again as `count` processes on this machine.

    Returns the exit status of the first process to fail, or 0. The private folder is made in
    `work`.
    """
    work.mkdir(parents=True, exist_ok=True)
    private = Path(tempfile.mkdtemp(prefix="ranks-", dir=work)).resolve()  # mode 0700
    processes: list[subprocess.Popen[bytes]] = []

    try:
        for rank in range(count):
            environment = os.environ | _environment(rank, count, private)
            processes.append(
                subprocess.Popen([sys.executable, "-m", module, *sys.argv[1:]], env=environment)
            )
        status = _wait(processes, private)
    except BaseException:
        # Ctrl-C included: the processes got its signal too, and may end by themselves
        _end(processes, after=1.0)
        raise
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return status


def _environment(rank: int, count: int, private: Path) -> dict[str, str]:
    """Environment of one process: its rank among `count`, and the loopback interface for
    exchanges."""
    loopback = _loopback()
    # as torchrun sets it; devices.prepare sets training.threads later
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": threads,
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": f"={loopback}",  # `=`: this name exactly, not as a prefix
        _LAUNCHER: str(os.getpid()),
        _FOLDER: str(private),
    }


def _loopback() -> str:
    """The interface with the address 127.0.0.1: `lo` on Linux, `lo0` on macOS."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == "127.0.0.1" for address in addresses):
            return str(name)
    raise UserError(
        "compute.processes: got no loopback interface; expected one with 127.0.0.1. Bring it "
        "up, or use 1."
    )


def _wait(processes: list[subprocess.Popen[bytes]], private: Path) -> int:
    """Wait until all processes have ended; once one fails, end the others. Returns the status."""
    ended: queue.Queue[int] = queue.Queue()

    def watch(rank: int) -> None:
        processes[rank].wait()
        ended.put(rank)

    for rank in range(len(processes)):
        threading.Thread(target=watch, args=(rank,), daemon=True).start()

    failed: list[int] = []
    for _ in processes:
        rank = ended.get()
        if processes[rank].returncode:
            failed.append(rank)
            if len(failed) == 1:
                _end(processes, after=1.0)
    if not failed:
        return 0

    saved = {rank: error for rank in failed if (error := _saved_error(private, rank))}
    statuses = {
        rank: saved[rank].status if rank in saved else processes[rank].returncode for rank in failed
    }
    # Losing a peer is not the cause, unless there is no other failure. Of the others, one that
    # saved its error is: gloo may abort the rest before that process has ended.
    causes = [rank for rank in failed if statuses[rank] != PEER_LOST] or failed
    cause = next((rank for rank in causes if rank in saved), causes[0])
    status = statuses[cause]
    if status < 0:
        print(
            f"seqline: training: process {cause + 1} of {len(processes)} was killed by "
            f"signal {-status}. Run again: it resumes from the last saved state.",
            file=sys.stderr,
        )
        return 128 - status  # as a shell does

    # The first process prints its own error if it ends by itself, but not that it lost another.
    if cause in saved and (status == PEER_LOST or processes[0].returncode != status):
        print(f"seqline: {saved[cause].message}", file=sys.stderr)
    return status


def _end(processes: list[subprocess.Popen[bytes]], after: float) -> None:
    """Wait `after` seconds for the processes to end; then terminate, at last kill them."""
    for stop, seconds in (
        (None, after),
        (subprocess.Popen.terminate, _GRACE_SECONDS),
        (subprocess.Popen.kill, None),
    ):
        for process in processes:
            if stop is not None and process.poll() is None:
                stop(process)

        deadline = None if seconds is None else time.monotonic() + seconds
        while any(process.poll() is None for process in processes):
            if deadline is not None and time.monotonic() > deadline:
                break
            time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class _SavedError:
    """The error of a process, and the status with which it is about to end."""

    status: int
    message: str


def save_error(error: UserError, status: int) -> None:
    """Save the error of this process, which will end with this status, for the launcher.

    The launcher prints it unless the first process printed the same error.
    """
    private = private_folder()
    if private is None:
        return
    file = private / f"error-{os.environ['RANK']}"
    # A full disk must not hide the error.
    with suppress(OSError), atomic_file(file) as partial:
        partial.write_text(json.dumps([status, str(error)]), encoding="utf-8")


def _saved_error(private: Path, rank: int) -> _SavedError | None:
    file = private / f"error-{rank}"
    return _SavedError(*json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def exit_with_parent() -> None:
    """End this process when the launcher, or torchrun, is killed: it would be an orphan."""
    if _LAUNCHER in os.environ or "TORCHELASTIC_RUN_ID" in os.environ:
        # The launcher may be dead already: its pid is in the environment.
        parent = int(os.environ.get(_LAUNCHER, os.getppid()))
        threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _exit_with(parent: int) -> None:
    # an orphan gets another parent
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
