"""The process beside a training that carries its spool to MLflow: patient, nice, and gone soon
after the training is.

A call that fails is repeated with growing pauses; nothing is read ahead of what was sent, so a dead
server costs no memory."""

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pipeline.core.errors import told
from pipeline.tracking import describe, run_lock

T = TypeVar("T")
_NICE = 19.0  # the lowest priority
_GRACE_SECONDS = 30.0  # how long it goes on without its training
_POLL_SECONDS = 0.5
_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
_BATCH = 500  # lines read at once
_STATUS = ("FINISHED", "FAILED", "KILLED")
Point = tuple[str, float, int, int]


def lower_priority() -> None:
    """The lowest priority: on a core that a training fills, it gets 15 parts of 1039, 1.4 %
    (Linux's weights).

    SEQLINE_FOLLOWER_NICE says otherwise, for machines that are always busy.
    """
    with suppress(OSError):
        os.nice(int(_setting("SEQLINE_FOLLOWER_NICE", _NICE)))
    # Linux may weigh whole sessions against each other, and this one is ours alone
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
    """Knows whether the training is still under way, and sees to it that this process does not
    outlive it by long."""

    def __init__(self, lines: BinaryIO, parent: int) -> None:
        self._lines = lines
        self._parent = parent
        self._ended: float | None = None
        self._grace = _setting("SEQLINE_FOLLOWER_SECONDS", _GRACE_SECONDS)
        threading.Thread(target=self._bury, daemon=True).start()

    def alive(self) -> bool:
        return os.getppid() == self._parent

    def over(self) -> bool:
        """Return whether the training ended, by its own word or by its process being gone."""
        if self._ended is None and (not self.alive() or self._said_end()):
            self._ended = time.monotonic()
        return self._ended is not None

    def late(self) -> bool:
        return (
            self.over() and self._ended is not None and time.monotonic() - self._ended > self._grace
        )

    def pause(self, seconds: float) -> None:
        """Sleep, but not through the training's end: then there is something to do."""
        until = time.monotonic() + seconds
        over = self.over()
        while time.monotonic() < until and self.over() == over:
            time.sleep(min(_POLL_SECONDS, seconds))

    def _said_end(self) -> bool:
        size = os.fstat(self._lines.fileno()).st_size
        return b'{"end"' in os.pread(self._lines.fileno(), 100, max(0, size - 100))

    def _bury(self) -> None:
        while not self.late():
            time.sleep(_POLL_SECONDS)
        time.sleep(5.0)  # for a call under way to come back
        os._exit(1)


def retry(action: Callable[[], T], watch: Watch, failures: tuple[type[BaseException], ...]) -> T:
    """Return what `action` returns; try again while it fails and the watch lasts; TimeoutError once
    it is late."""
    for pause in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
        try:
            return action()
        except failures as error:
            print(
                f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {told(error)[:300]}",
                flush=True,
            )
        if watch.late():
            break
        watch.pause(pause)
    raise TimeoutError("the store did not answer before the training was over")


def follow(lines: BinaryIO, root: Path, parent: int) -> None:
    """Carry the spool `lines` of the process `parent` to the store of the project `root` until both
    have ended."""
    header = json.loads(lines.readline())
    watch = Watch(lines, parent)
    key = (header["run"], header["digest"])
    leaving = suppress(TimeoutError, run_lock.Busy, _TakenOver)
    with leaving, run_lock.sole(root, key, lambda: not watch.late(), "follower") as ours:
        _carry(lines, root, header, watch, ours)


class _TakenOver(Exception):
    """The lock of the run now belongs to `seqline sync`."""


def _carry(
    lines: BinaryIO, root: Path, header: dict[str, Any], watch: Watch, ours: Callable[[], bool]
) -> None:
    from pipeline.tracking import mlflow_store

    def surely(action: Callable[..., T], *given: Any, **named: Any) -> T:
        def once() -> T:
            if not ours():
                raise _TakenOver
            return action(*given, **named)

        return retry(once, watch, mlflow_store.Failure)

    client = surely(mlflow_store.connect, root)
    run = surely(open_run, client, root, header)
    last = {
        name: max(steps, default=-1)
        for name, steps in surely(mlflow_store.logged_steps, client, run).items()
    }
    status = "KILLED"
    for points, end in read_batches(lines, watch):
        # a resumed training repeats steps
        fresh = [point for point in points if point[3] > last.get(point[0], -1)]
        surely(mlflow_store.log, client, run.info.run_id, metrics=fresh)
        last |= {name: step for name, _, _, step in fresh}
        status = end or status
    surely(client.set_terminated, run.info.run_id, status)


def open_run(client: Any, root: Path, header: dict[str, Any]) -> Any:
    """The MLflow run of the spool, made if need be, with all that is known before the first
    step."""
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
    stages, corpus = describe.read_lock(root), str(block.get("corpus"))
    mlflow_store.log_params(
        client, run, {**describe.settings(block), **describe.corpus_settings(stages, corpus)}
    )
    outs = {
        **describe.hashes(stages, f"encode@{corpus}", "outs"),
        **describe.hashes(stages, f"vocab@{corpus}", "outs"),
    }
    mlflow_store.log_inputs(client, run, outs)
    return run


def read_batches(lines: BinaryIO, watch: Watch) -> Iterator[tuple[list[Point], str]]:
    """The spool's points as (name, value, ms, step), as they come, with the status written at its
    end, before that ""."""
    while True:
        over = watch.over()  # asked first: what is written before the end is read after it
        points: list[Point] = []
        end, read = "", 0
        for line in complete_lines(lines):
            read += 1
            status, logged = _parse(line)
            points += logged
            end = status or end
            if read == _BATCH:
                break
        if read:
            yield points, end
        if end or (over and not read):
            return
        if read < _BATCH:
            watch.pause(_POLL_SECONDS)


def _parse(line: bytes) -> tuple[str, list[Point]]:
    """Return the status and points of a line; neither for a damaged line, for which `seqline sync`
    makes up."""
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
    """The lines that are there; one that is still being written stays for the next time."""
    while True:
        place = lines.tell()
        line = lines.readline()
        if not line.endswith(b"\n"):
            lines.seek(place)
            return
        yield line
