"""The training's side of tracking: figures go to a file, and a process of its own carries them to MLflow.

Nothing here waits for anybody: a slow, stalled or dead server is felt by that process alone. `SEQLINE_TRACKING=off` switches
both off. The spool is JSON lines: a header, then `{"step": n, "at": ms, "metrics": {...}}` each, then `{"end": status}`.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from pipeline import config
from pipeline.errors import UserError, printable

Log = Callable[[dict[str, float], int], None]
NAME = "metrics.jsonl"
_FIGURES = b'{"step"'
_FLUSH_SECONDS = 0.25
# Whatever a disk, a damaged file, odd settings or a lack of memory, descriptors and threads can raise: figures are not worth
# a training.
_FAULTS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    subprocess.SubprocessError,
)


class Spool:
    """`log(metrics, step)` for the training loop: a few microseconds each, and no fault of its own stops a training."""

    def __init__(self, file: BinaryIO) -> None:
        self._file: BinaryIO | None = file
        self._flushed = time.monotonic()

    def __call__(self, metrics: dict[str, float], step: int) -> None:
        self._write(lambda: {"step": int(step), "at": now(), "metrics": {n: float(v) for n, v in metrics.items()}})
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def end(self, status: str) -> None:
        """Tell the follower that no more will come; `status` is MLflow's word for how it ended."""
        self._write(lambda: {"end": status, "at": now()})
        self.flush()

    def flush(self) -> None:
        self._flushed = time.monotonic()
        if self._file is not None:
            self._guard(self._file.flush)

    def _write(self, record: Callable[[], dict[str, Any]]) -> None:
        file = self._file
        if file is not None:
            self._guard(lambda: file.write(json.dumps(record()).encode() + b"\n"))

    def _guard(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except _FAULTS as error:
            self._file = None
            _warn(error)


@contextmanager
def live(
    *,
    run: str,
    digest: str,
    work: Path,
    root: Path,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[Log]:
    """A `log(metrics, step)` whose figures appear in MLflow while the block runs; leaving it never waits for a server.

    `run` and `digest` (code, params and data) key the MLflow run; a rerun with both the same goes on in the same one, and
    what it repeats of the steps since its checkpoint counts once. `work` is an existing folder for the spool, `root` the
    folder with `dvc.yaml`, `params` the run's block (with `task` and `corpus`), by default that in `root/params.yaml`.

    Whatever is wrong with the spool or the follower is one line on stderr, and the training goes on without them.
    """
    if os.environ.get("SEQLINE_TRACKING") == "off":
        yield _nowhere
        return
    opened = _open(work / NAME, root, run, digest, params, tags)
    if opened is None:
        yield _nowhere
        return
    file, over = opened
    log = Spool(file)
    try:
        yield log
    except KeyboardInterrupt:
        log.end("KILLED")
        raise
    except BaseException:
        log.end("FAILED")
        raise
    else:
        log.end("FINISHED")
    finally:
        over.set()
        with suppress(*_FAULTS):  # closing flushes
            file.close()


def now() -> int:
    """Milliseconds since 1970, MLflow's clock."""
    return time.time_ns() // 1_000_000


def _nowhere(metrics: dict[str, float], step: int) -> None:
    """The log of a training that nobody follows."""


def _block(root: Path, run: str) -> dict[str, Any]:
    try:
        return dict(config.section(root / "params.yaml", f"runs.{run}"))
    except UserError:
        return {}


def _open(
    path: Path, root: Path, run: str, digest: str, params: Mapping[str, Any] | None, tags: Mapping[str, str] | None
) -> tuple[BinaryIO, threading.Event] | None:
    """The spool, to be written to, and what is to be set once the training is over; None if tracking cannot begin."""
    try:
        block = _block(root, run) if params is None else dict(params)
        header = {"run": run, "digest": digest, "params": block, "tags": dict(tags or {}), "at": now()}
        over = threading.Event()
        _begin(path, header)
        _start_follower(path, root, over)
        return path.open("ab"), over
    except _FAULTS as error:
        _warn(error)
        return None


def _begin(path: Path, header: dict[str, Any]) -> None:
    """Write the header and, of an earlier process's spool for the same digest, every whole line of figures."""
    content = json.dumps(header, default=str).encode() + b"\n" + b"".join(_kept(path, header["digest"]))
    beside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        beside.write_bytes(content)
        beside.replace(path)  # an earlier process's follower still reads the old file
    finally:
        beside.unlink(missing_ok=True)


def _kept(path: Path, digest: str) -> list[bytes]:
    """The lines of figures of an earlier process for this digest; none of a spool that is damaged at its head."""
    try:
        head, *rest = path.read_bytes().splitlines(keepends=True)
        same = json.loads(head)["digest"] == digest
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return []
    return [line for line in rest if same and line.startswith(_FIGURES) and line.endswith(b"\n")]


def _start_follower(path: Path, root: Path, over: threading.Event) -> None:
    """Its own session keeps a Ctrl-C from it, and makes the niceness that it gives itself its own.

    It gets the spool as an open file, so that it does not matter when the work folder goes, and none of our own streams, so
    that nobody who waits for the end of our output waits for it. One that fails before the training is `over` is told.
    """
    command = [
        sys.executable,
        "-m",
        "pipeline.tracking",
        "follow",
        "--root",
        str(root.resolve()),
        "--parent",
        str(os.getpid()),
    ]
    log = path.with_name("tracking.log")
    with path.open("rb") as lines, log.open("ab") as said:
        process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdin=lines, stdout=said, stderr=said, start_new_session=True
        )

    def reap() -> None:
        """Take its exit status, so that no zombie stays."""
        status = process.wait()
        if status and not over.is_set():
            _warn(f"its process ended with status {status}, see {log}")

    threading.Thread(target=reap, daemon=True).start()


def _warn(reason: object) -> None:
    said = printable(" ".join(str(reason).split()) or type(reason).__name__)
    with suppress(*_FAULTS):  # stderr may be gone too
        print(f"seqline: tracking stopped, training goes on: {said}. `seqline sync` will fill the gap.", file=sys.stderr)
