"""`python -m pipeline.tracking.follower --root ROOT --parent PID < SPOOL`: the follower, a process
next to a training that sends its spool to MLflow; started by `live` only.

It retries failed calls with growing pauses, runs at the lowest priority, and ends soon after the
training does. It reads no more of the spool than it has sent, so a dead server costs no memory."""

import argparse
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pipeline.core.errors import describe_error
from pipeline.tracking import describe, run_lock

T = TypeVar("T")
_NICE = 19.0  # the lowest priority
_GRACE_SECONDS = 30.0  # how long it continues without its training
_PARENT_SECONDS = 5.0  # to create a parent run takes less than one
_CALL_SECONDS = 5.0  # for a call in progress to return after that
_POLL_SECONDS = 0.5
_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
_BATCH = 500  # lines read at once
_STATUS = ("FINISHED", "FAILED", "KILLED")
Point = tuple[str, float, int, int]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.tracking.follower", description=__doc__
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()

    lower_priority()
    follow(sys.stdin.buffer, arguments.root, arguments.parent)


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


class Watch:
    """Watch on the training process; ends this process soon after the training."""

    def __init__(self, lines: BinaryIO, parent: int) -> None:
        self._lines = lines
        self._parent = parent
        self._ended: float | None = None
        self._grace = _setting("SEQLINE_FOLLOWER_SECONDS", _GRACE_SECONDS)
        threading.Thread(target=self._exit_when_late, daemon=True).start()

    def alive(self) -> bool:
        return os.getppid() == self._parent

    def over(self) -> bool:
        """Return whether the training ended: it wrote an end, or its process is gone."""
        if self._ended is None and (not self.alive() or self._has_end_record()):
            self._ended = time.monotonic()
        return self._ended is not None

    def late(self) -> bool:
        """Return whether the grace period after the training is over."""
        return (
            self.over() and self._ended is not None and time.monotonic() - self._ended > self._grace
        )

    def pause(self, seconds: float) -> None:
        """Sleep, but wake when the training ends: then there is something to do."""
        deadline = time.monotonic() + seconds
        over = self.over()
        while time.monotonic() < deadline and self.over() == over:
            time.sleep(min(_POLL_SECONDS, seconds))

    def _has_end_record(self) -> bool:
        size = os.fstat(self._lines.fileno()).st_size
        return b'{"end"' in os.pread(self._lines.fileno(), 100, max(0, size - 100))

    def _exit_when_late(self) -> None:
        while not self.late():
            time.sleep(_POLL_SECONDS)
        time.sleep(_CALL_SECONDS)
        # Not sys.exit: the main thread may hang in a call to the store.
        os._exit(1)


def retry(action: Callable[[], T], watch: Watch, failures: tuple[type[BaseException], ...]) -> T:
    """Return what `action` returns; retry it on `failures`; TimeoutError once the watch is late."""
    for pause in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
        try:
            return action()
        except failures as error:
            now, problem = time.strftime("%H:%M:%S"), describe_error(error)[:300]
            print(f"{now} {type(error).__name__}: {problem}", flush=True)
        if watch.late():
            break
        watch.pause(pause)
    raise TimeoutError("the store did not answer before the training was over")


def follow(lines: BinaryIO, root: Path, parent: int) -> None:
    """Send the spool `lines` of the process `parent` to the store of the project `root` until both
    have ended."""
    header = json.loads(lines.readline())
    watch = Watch(lines, parent)
    key = (header["run"], header["digest"])
    # Each of these ends the follower: `seqline sync` completes the run.
    expected = suppress(TimeoutError, run_lock.Busy, _LockLost)
    with expected, run_lock.sole(root, key, lambda: not watch.late(), "follower") as is_held:
        _send(lines, root, header, watch, is_held)


class _LockLost(Exception):
    """The lock of the run now belongs to `seqline sync`."""


def _send(
    lines: BinaryIO, root: Path, header: dict[str, Any], watch: Watch, is_held: Callable[[], bool]
) -> None:
    from pipeline.tracking import mlflow_store, parent_runs

    def call(action: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        def attempt() -> T:
            if not is_held():
                raise _LockLost
            return action(*args, **kwargs)

        return retry(attempt, watch, mlflow_store.Failure)

    client = call(mlflow_store.connect, root)
    run = call(open_run, client, root, header)
    last_step = {
        name: max(steps, default=-1)
        for name, steps in call(mlflow_store.logged_steps, client, run).items()
    }

    setting = parent_runs.setting_of(header["run"], header["params"])
    parent_id = call(_attach, client, root, setting, run, _PARENT_SECONDS)
    status = "KILLED"
    for points, end in read_batches(lines, watch):
        # A resumed training repeats the steps since its checkpoint: log each step once.
        fresh = [point for point in points if point[3] > last_step.get(point[0], -1)]
        call(mlflow_store.log, client, run.info.run_id, metrics=fresh)
        last_step |= {name: step for name, _, _, step in fresh}
        status = end or status
        parent_id = parent_id or call(_attach, client, root, setting, run, 0.0)
    call(client.set_terminated, run.info.run_id, status)
    if parent_id:
        call(parent_runs.end, client, parent_id)


def _attach(client: Any, root: Path, setting: Any, run: Any, seconds: float) -> str:
    """Make the run a child of its setting's parent; return the parent's id.

    "" if there is no setting, or if others create the parent for longer than `seconds`: the curves
    must not wait for them."""
    from pipeline.tracking import parent_runs

    if setting is None:
        return ""
    deadline = time.monotonic() + seconds
    patient = lambda: time.monotonic() < deadline  # noqa: E731
    with suppress(run_lock.Busy), run_lock.sole(root, setting.key, patient, "follower"):
        return parent_runs.attach(client, setting, run)
    return ""


def open_run(client: Any, root: Path, header: dict[str, Any]) -> Any:
    """Return the MLflow run of the spool, created if need be, with its tags, params and inputs."""
    from pipeline.tracking import mlflow_store

    block = header["params"]
    tags = {
        **describe.labels(header["run"], block),
        **{str(k): str(v) for k, v in header["tags"].items()},
    }
    key = (header["run"], header["digest"])
    task = str(block.get("task", "other"))
    run = mlflow_store.find_run(client, task, key)
    if run is None:
        run = mlflow_store.create_run(
            client, root, task, key, {**describe.origin(root), **tags, "seqline.recorded": "live"}
        )
    else:
        client.update_run(run.info.run_id, status="RUNNING")
        mlflow_store.log(client, run.info.run_id, tags=tags)

    stages = describe.read_lock(root)
    corpus = str(block.get("corpus"))
    mlflow_store.log_params(
        client, run, {**describe.settings(block), **describe.corpus_settings(stages, corpus)}
    )
    inputs = {
        **describe.hashes(stages, f"encode@{corpus}", "outs"),
        **describe.hashes(stages, f"vocab@{corpus}", "outs"),
    }
    mlflow_store.log_inputs(client, run, inputs)
    return run


def read_batches(lines: BinaryIO, watch: Watch) -> Iterator[tuple[list[Point], str]]:
    """Yield the spool's points (name, value, ms, step) as they come, with the status.

    The status is "" until the record of the end."""
    while True:
        # Before reading: what was written before the end is then read after it.
        over = watch.over()
        batch = [_parse(line) for line in itertools.islice(complete_lines(lines), _BATCH)]
        end = next((status for status, _ in reversed(batch) if status), "")
        if batch:
            yield [point for _, points in batch for point in points], end
        if end or (over and not batch):
            return
        if len(batch) < _BATCH:
            watch.pause(_POLL_SECONDS)


def _parse(line: bytes) -> tuple[str, list[Point]]:
    """Return the status and points of a line; neither for a damaged line, which `seqline sync`
    makes up for."""
    try:
        record = json.loads(line)
        points: list[Point] = [
            (describe.mlflow_name(name), float(value), int(record["at"]), int(record["step"]))
            for name, value in record.get("metrics", {}).items()
        ]
        return (record["end"] if record.get("end") in _STATUS else ""), points
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return "", []


def complete_lines(lines: BinaryIO) -> Iterator[bytes]:
    """Yield the complete lines; one that is still being written stays for the next call."""
    while True:
        position = lines.tell()
        line = lines.readline()
        if not line.endswith(b"\n"):
            lines.seek(position)
            return
        yield line


if __name__ == "__main__":
    main()
