"""`python -m pipeline.tracking.follower --root ROOT --spool PATH --parent PID < PATH`: the
follower, a process next to a training that sends its spool to MLflow; started by `live` only.

It retries failed calls with growing pauses, and runs at the lowest priority. It ends soon after the
training, finished or not: else dozens of followers would wait for a processor on a busy machine.
One of them stays, and sends what the others left. A follower reads no more of the spool than it
has sent, so a dead server costs no memory.

To import MLflow takes a process over a second of a core. So a training has to last for some seconds
before its follower imports it, and the one follower that stays sends all shorter trainings of that
time."""

import argparse
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO, TypeVar

from pipeline.core.errors import describe_error
from pipeline.core.locks import try_lock
from pipeline.tracking import run_lock, spools

T = TypeVar("T")
_NICE = 19.0  # the lowest priority
_DELAY_SECONDS = 30.0  # a training that lasts longer is sent while it runs
_IDLE_SECONDS = 10.0  # how long the follower that stays waits for the next training
_GRACE_SECONDS = 30.0  # how long it continues without its training
_PARENT_SECONDS = 5.0  # to create a parent run takes less than one
_CALL_SECONDS = 5.0  # for a call in progress to return after that
_HANG_SECONDS = 600.0  # no call takes so long, however busy the machine
_POLL_SECONDS = 0.5
_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.tracking.follower", description=__doc__
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--spool", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()

    lower_priority()
    lines = sys.stdin.buffer
    watch = Watch(lines, arguments.parent, arguments.root)
    watch.start()
    if follow(lines, arguments.root, arguments.spool, watch):
        send_all_pending(arguments.root, watch)


def lower_priority() -> None:
    """Set the lowest priority: next to a training on one core, it gets 15 parts of 1039, 1.4 %
    (Linux's weights).

    SEQLINE_FOLLOWER_NICE overrides it, for machines that are always busy.
    """
    with suppress(OSError):
        os.nice(int(_setting("SEQLINE_FOLLOWER_NICE", _NICE)))

    # With autogroups, Linux weighs whole sessions against each other; this one has one process.
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(os.nice(0)))


def _setting(variable: str, default: float) -> float:
    """Read a number from an environment variable; the default for anything else, since nobody reads
    errors here."""
    try:
        return float(os.environ.get(variable, default))
    except ValueError:
        return default


def delay() -> float:
    """Seconds that a training has to last for its follower to send it while it runs.

    SEQLINE_FOLLOWER_DELAY overrides the default."""
    return _setting("SEQLINE_FOLLOWER_DELAY", _DELAY_SECONDS)


class Watch:
    """Watch on the training process; ends this process soon after the training, unless no other
    follower stays."""

    def __init__(self, lines: BinaryIO, parent: int, root: Path) -> None:
        self._lines = lines
        self._parent = parent
        self._lock = run_lock.locks(root) / f"followers{spools.store_id()}.lock"
        self._claimed: TextIO | None = None
        self._claiming = threading.Lock()
        self._ended: float | None = None
        self._returned = time.monotonic()
        self._grace = _setting("SEQLINE_FOLLOWER_SECONDS", _GRACE_SECONDS)

    def start(self) -> None:
        """Begin to watch: this process ends when it is late."""
        threading.Thread(target=self._exit_when_late, daemon=True).start()

    def alive(self) -> bool:
        return os.getppid() == self._parent

    def over(self) -> bool:
        """Return whether the training ended: it wrote an end, or its process is gone."""
        if self._ended is None and (not self.alive() or self._has_end_record()):
            self._ended = time.monotonic()
        return self._ended is not None

    def returned(self) -> None:
        """Note that a call to the store returned."""
        self._returned = time.monotonic()

    def late(self) -> bool:
        """Return whether to end, done or not: after a grace period, unless this is the follower
        that stays."""
        if self._graced(self._ended if self.over() else None):
            return not self.claim() or time.monotonic() - self._returned > _HANG_SECONDS
        return False

    def fails_too_long(self, since: float) -> bool:
        """Return whether the store has failed for the grace period after the training."""
        return self.over() and self._graced(max(since, self._ended or since))

    def _graced(self, since: float | None) -> bool:
        return since is not None and time.monotonic() - since > self._grace

    def claim(self) -> bool:
        """Become the one follower that stays; return whether this is it."""
        with self._claiming:
            if self._claimed is None:
                self._lock.parent.mkdir(parents=True, exist_ok=True)
                handle = self._lock.open("a+")
                if not try_lock(handle):
                    handle.close()
                    return False
                self._claimed = handle  # the system frees it as the process ends
            return True

    def stays(self) -> bool:
        """Return whether this is the one follower that stays."""
        return self._claimed is not None

    def pause(self, seconds: float) -> None:
        """Sleep, but wake when the training ends: then there is something to do."""
        deadline = time.monotonic() + seconds
        over = self.over()
        while time.monotonic() < deadline and self.over() == over:
            time.sleep(min(_POLL_SECONDS, seconds))

    def _has_end_record(self) -> bool:
        size = os.fstat(self._lines.fileno()).st_size
        return spools.END in os.pread(self._lines.fileno(), 100, max(0, size - 100))

    def _exit_when_late(self) -> None:
        while not self.late():
            time.sleep(_POLL_SECONDS)
        time.sleep(_CALL_SECONDS)
        # Not sys.exit: the main thread may hang in a call to the store.
        os._exit(1)


def retry(action: Callable[[], T], watch: Watch, failures: tuple[type[BaseException], ...]) -> T:
    """Return what `action` returns; retry it on `failures`; TimeoutError once the watch is late, or
    the store fails for too long."""
    since = time.monotonic()
    for pause in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
        try:
            return action()
        except failures as error:
            now, problem = time.strftime("%H:%M:%S"), describe_error(error)[:300]
            print(f"{now} {type(error).__name__}: {problem}", flush=True)
        finally:
            watch.returned()
        if watch.late() or watch.fails_too_long(since):
            break
        watch.pause(pause)
    raise TimeoutError("the store did not answer before the training was over")


def follow(lines: BinaryIO, root: Path, path: Path, watch: Watch) -> bool:
    """Send the open spool `lines` at `path` to the store of the project `root` until its training
    has ended and all is sent, or leave it to the follower that stays if the training is short;
    return whether to send what others have left."""
    header = json.loads(lines.readline())
    key = (header["run"], header["digest"])
    try:
        with run_lock.sole(root, key, lambda: not watch.late(), "follower") as is_held:
            if not watch.over():
                watch.pause(delay())
            # Meanwhile the lock tells a machine that cannot see the process that it trains.
            if not watch.over():
                from pipeline.tracking import sender

                call = _retried(watch, is_held)
                sender.send(lines, root, path, header, watch, call, _PARENT_SECONDS)
                return True
    except (run_lock.Busy, _LockLost):
        return True  # another follower, or `seqline sync`, completes the run
    except TimeoutError:
        return False
    return wait_to_send(lines, path, watch)


def wait_to_send(lines: BinaryIO, path: Path, watch: Watch) -> bool:
    """Wait until another follower has sent the spool at `path`, open as `lines`, or until this one
    is the follower that stays, or late; return whether it is the one that stays."""
    while spools.is_same(lines, path) and not watch.late():
        if watch.claim():
            return True
        time.sleep(_POLL_SECONDS)
    return False


def send_all_pending(root: Path, watch: Watch) -> None:
    """Send the spools of trainings that are over, if their followers did not.

    One follower at a time does so, of those with the same store. It waits for those that are still
    at it, for trainings that may prove to be short, and for some seconds for the next training."""
    tried: set[tuple[Path, str]] = set()
    idle = min(_IDLE_SECONDS, delay())
    needed = time.monotonic()
    while True:
        left = [
            spool
            for spool in spools.pending(root)
            if spool.store_id == spools.store_id() and (spool.path, spool.process) not in tried
        ]
        now = time.monotonic()
        if left or spools.has_recent(root, delay()):
            needed = now
        if not left and not (watch.stays() and now - needed < idle):
            return
        if not watch.claim():
            return
        from pipeline.tracking import sender  # imports mlflow

        for spool in left:
            with (
                suppress(run_lock.Busy, _LockLost),
                run_lock.sole(root, spool.key, lambda: False, "follower") as is_held,
            ):
                tried.add((spool.path, spool.process))
                try:
                    sender.send_pending(root, spool.path, _retried(watch, is_held))
                except TimeoutError:
                    return
        watch.returned()
        watch.pause(_POLL_SECONDS)


class _LockLost(Exception):
    """The lock of the run now belongs to `seqline sync`."""


def _retried(watch: Watch, is_held: Callable[[], bool]) -> Callable[..., Any]:
    """Return a caller of actions on the store that retries them while the run's lock is held."""
    from pipeline.tracking import mlflow_store

    def call(action: Callable[..., T], *arguments: Any, **named: Any) -> T:
        def attempt() -> T:
            if not is_held():
                raise _LockLost
            return action(*arguments, **named)

        return retry(attempt, watch, mlflow_store.Failure)

    return call


if __name__ == "__main__":
    main()
