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
from pipeline.errors import UserError

Log = Callable[[dict[str, float], int], None]
NAME = "metrics.jsonl"
_FIGURES = b'{"step"'
_FLUSH_SECONDS = 0.25


class Spool:
    """`log(metrics, step)` for the training loop: a few microseconds each, and no failure of the disk's stops a training."""

    def __init__(self, file: BinaryIO) -> None:
        self._file: BinaryIO | None = file
        self._flushed = time.monotonic()

    def __call__(self, metrics: dict[str, float], step: int) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        self._write({"step": int(step), "at": now(), "metrics": values})
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def end(self, status: str) -> None:
        """Tell the follower that no more will come; `status` is MLflow's word for how it ended."""
        self._write({"end": status, "at": now()})
        self.flush()

    def flush(self) -> None:
        self._flushed = time.monotonic()
        if self._file is not None:
            self._guard(self._file.flush)

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is not None:
            line = json.dumps(record).encode() + b"\n"
            file = self._file
            self._guard(lambda: file.write(line))

    def _guard(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except OSError as error:
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
    """
    if os.environ.get("SEQLINE_TRACKING") == "off":
        yield _nowhere
        return
    block = _block(root, run) if params is None else dict(params)
    header = {"run": run, "digest": digest, "params": block, "tags": dict(tags or {}), "at": now()}
    file = _open(work / NAME, header, root)
    if file is None:
        yield _nowhere
        return
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
        with suppress(OSError):
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


def _open(path: Path, header: dict[str, Any], root: Path) -> BinaryIO | None:
    try:
        _begin(path, header)
        _start_follower(path, root)
        return path.open("ab")
    except OSError as error:
        _warn(error)
        return None


def _begin(path: Path, header: dict[str, Any]) -> None:
    """Write the header and, of an earlier process's spool for the same digest, every whole line of figures."""
    head, *rest = path.read_bytes().splitlines(keepends=True) if path.exists() else [b"{}"]
    same = json.loads(head).get("digest") == header["digest"]
    kept = [line for line in rest if same and line.startswith(_FIGURES) and line.endswith(b"\n")]
    beside = path.with_suffix(".partial")
    beside.write_bytes(b"".join([json.dumps(header).encode() + b"\n", *kept]))
    beside.replace(path)  # an earlier process's follower still reads the old file


def _start_follower(path: Path, root: Path) -> None:
    """Its own session keeps a Ctrl-C from it, and makes the niceness that it gives itself its own.

    It gets the spool as an open file, so that it does not matter when the work folder goes, and none of our own streams, so
    that nobody who waits for the end of our output waits for it.
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
    with path.open("rb") as lines, path.with_name("tracking.log").open("ab") as said:
        process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdin=lines, stdout=said, stderr=said, start_new_session=True
        )
    threading.Thread(target=process.wait, daemon=True).start()  # takes its exit status, so that no zombie stays


def _warn(error: OSError) -> None:
    print(f"seqline: tracking stopped, training goes on: {error}. `seqline sync` will fill the gap.", file=sys.stderr)
