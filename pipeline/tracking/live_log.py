"""The training's side of tracking: figures go to a file, and a process of its own carries them to
MLflow.

Nothing here waits for anybody: a slow, stalled or dead server is felt by that process alone.
`SEQLINE_TRACKING=off` switches both off. The spool is JSON lines: a header, then `{"step": n, "at":
ms, "metrics": {...}}` each, then `{"end": status}`."""

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

from pipeline.core import config
from pipeline.core.atomic import write_file
from pipeline.core.errors import UserError, printable

Log = Callable[[dict[str, float], int], None]
NAME = "metrics.jsonl"
_FIGURES = b'{"step"'
_FLUSH_SECONDS = 0.25
# Errors of disks, of damaged files and odd settings, and of too little memory, descriptors or
# threads. All are caught: losing figures must not stop a training. KeyboardInterrupt and assertions
# are not among them.
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
    """`log(metrics, step)` for the training loop: takes microseconds, and no error of its own stops
    a training."""

    def __init__(self, file: BinaryIO) -> None:
        self._file: BinaryIO | None = file
        self._flushed = time.monotonic()

    def __call__(self, metrics: dict[str, float], step: int) -> None:
        self._write(
            lambda: {
                "step": int(step),
                "at": now(),
                "metrics": {n: float(v) for n, v in metrics.items()},
            }
        )
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
    """A `log(metrics, step)` whose figures appear in MLflow while the block runs; leaving it never
    waits for a server.

    `run` and `digest` (code, params and data) key the MLflow run; a rerun with both the same goes
    on in the same one, and what it repeats of the steps since its checkpoint counts once. `work` is
    an existing folder for the spool, `root` the folder with `dvc.yaml`, `params` the run's block
    (with `task` and `corpus`), by default that in `root/params.yaml`.

    Whatever is wrong with the spool or the follower is one line on stderr, and the training goes on
    without them."""
    if os.environ.get("SEQLINE_TRACKING") == "off":
        yield _nowhere
        return
    opened = _open(work / NAME, root, run, digest, params, tags)
    if opened is None:
        yield _nowhere
        return
    file, ended = opened
    log = Spool(file)
    try:
        yield log
    except KeyboardInterrupt:
        log.end("KILLED")
        raise
    except BaseException:  # SystemExit too, by which a stage ends after a mistake
        log.end("FAILED")
        raise
    else:
        log.end("FINISHED")
    finally:
        ended.set()
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
    path: Path,
    root: Path,
    run: str,
    digest: str,
    params: Mapping[str, Any] | None,
    tags: Mapping[str, str] | None,
) -> tuple[BinaryIO, threading.Event] | None:
    """Open the spool, and start its follower; None if either fails. The event is to be set when the
    training ends."""
    try:
        block = _block(root, run) if params is None else dict(params)
        header = {
            "run": run,
            "digest": digest,
            "params": block,
            "tags": dict(tags or {}),
            "at": now(),
        }
        ended = threading.Event()
        _begin(path, header)
        _start_follower(path, root, ended)
        return path.open("ab"), ended
    except _FAULTS as error:
        _warn(error)
        return None


def _begin(path: Path, header: dict[str, Any]) -> None:
    """Write the header and, of an earlier process's spool for the same digest, every whole line of
    figures."""
    head = json.dumps(header, default=str).encode() + b"\n"
    # Not in place: an earlier process's follower still reads the old file.
    write_file(path, head + b"".join(_earlier_figures(path, header["digest"])))


def _earlier_figures(path: Path, digest: str) -> list[bytes]:
    """Return the lines of figures of an earlier process for this digest; none if the spool's header
    is damaged."""
    try:
        head, *rest = path.read_bytes().splitlines(keepends=True)
        same = json.loads(head)["digest"] == digest
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return []
    return [line for line in rest if same and line.startswith(_FIGURES) and line.endswith(b"\n")]


def _start_follower(path: Path, root: Path, ended: threading.Event) -> None:
    """Its own session keeps a Ctrl-C from it, and makes the niceness that it gives itself its own.

    It gets the spool as an open file, so that it does not matter when the work folder goes, and
    none of our own streams, so that nobody who waits for the end of our output waits for it. Its
    failure before the training has `ended` is printed."""
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
    with path.open("rb") as lines, log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            stdin=lines,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def reap() -> None:
        """Take its exit status, so that no zombie stays."""
        status = process.wait()
        if status and not ended.is_set():
            _warn(f"its process ended with status {status}, see {log}")

    threading.Thread(target=reap, daemon=True).start()


def _warn(reason: object) -> None:
    line = printable(" ".join(str(reason).split()) or type(reason).__name__)
    with suppress(*_FAULTS):  # stderr may be closed too
        print(
            (
                f"seqline: tracking stopped, training goes on: {line}. `seqline sync` will fill "
                "the "
                "gap."
            ),
            file=sys.stderr,
        )
