"""The training's side of tracking: metrics go to a file, the spool; the follower, a separate
process, sends them to MLflow.

Nothing here waits for a server: a slow, stalled or dead one delays only the follower. Whatever
becomes of the follower, the spool stays until it is recorded (spools.py). `SEQLINE_TRACKING=off`
disables both."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.core import config
from pipeline.core import params as project_params
from pipeline.core.errors import UserError, printable
from pipeline.tracking import describe, run_names, spools

Log = Callable[[dict[str, float], int], None]
LOG = "tracking.log"
_CODE = Path(__file__).parents[2]
_FLUSH_SECONDS = 0.25
# Errors of disks, damaged files and invalid settings, and of too little memory, descriptors or
# threads. All are caught: lost metrics must not stop a training. KeyboardInterrupt and assertions
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
    """`log(metrics, step)` for the training loop.

    A call takes microseconds. An error ends the log of metrics, and never stops the training; the
    end is written if that is possible again. Without a `file` nothing is logged. Times do not jump
    with the system's clock."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file
        self._failed = False
        self._flushed = time.monotonic()
        self._opened, self._opened_at = spools.steady(), spools.now()

    def __call__(self, metrics: dict[str, float], step: int) -> None:
        self._write(
            lambda: {
                "step": int(step),
                "at": self._now(),
                "metrics": {name: float(value) for name, value in metrics.items()},
            }
        )
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def end(self, status: str) -> None:
        """Write the end of the spool with MLflow's status of the run."""
        record = {"end": status, "at": self._now()}
        if not self._failed:
            self._write(lambda: record)
            self.flush()
        elif self._file is not None:
            with suppress(*_FAULTS):  # a disk that was full may have room again
                self._file.write(spools.encode(record))
                self._file.flush()

    def _now(self) -> int:
        """Milliseconds since 1970, by a clock that nobody sets."""
        return self._opened_at + spools.steady() - self._opened

    def flush(self) -> None:
        self._flushed = time.monotonic()
        self._guard(lambda file: file.flush())

    def _write(self, record: Callable[[], dict[str, Any]]) -> None:
        self._guard(lambda file: file.write(spools.encode(record())))

    def _guard(self, action: Callable[[BinaryIO], Any]) -> None:
        if self._file is None or self._failed:
            return
        try:
            action(self._file)
        except _FAULTS as error:
            self._failed = True
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
    """Yield a `log(metrics, step)` whose metrics appear in MLflow while the block runs, after the
    first half minute.

    `run` and `digest` (of code, params and data) identify the MLflow run. A rerun with the same two
    continues it, and steps that are repeated since the checkpoint are logged once. `work` is an
    existing folder for the follower's log. `root` is the folder with `dvc.yaml`. `params` is the
    run's block (with `task` and `corpus`), by default that in `root/params.yaml`.

    Leaving the block never waits for a server. An error of the spool or the follower is one line on
    stderr, and the training continues without them."""
    ended = threading.Event()
    file = _open(work, root, run, digest, params, tags, ended)
    log = Spool(file)
    try:
        yield log
    except KeyboardInterrupt:
        log.end("KILLED")
        raise
    except BaseException:  # SystemExit too, by which a stage ends after a UserError
        log.end("FAILED")
        raise
    else:
        log.end("FINISHED")
    finally:
        ended.set()
        if file is not None:
            with suppress(*_FAULTS):  # closing flushes, which may fail on a full disk
                file.close()


def _open(
    work: Path,
    root: Path,
    run: str,
    digest: str,
    params: Mapping[str, Any] | None,
    tags: Mapping[str, str] | None,
    ended: threading.Event,
) -> BinaryIO | None:
    """Open the spool and start its follower; None if the spool fails, or if tracking is off.

    Without a follower the spool waits for `seqline sync`."""
    if os.environ.get("SEQLINE_TRACKING") == "off":
        return None
    try:
        if params is None:
            with suppress(UserError):
                params = asdict(project_params.run(root / "params.yaml", run))
        path = spools.path_of(root, (run, digest))
        spools.create(path, _header(root, run, digest, dict(params or {}), dict(tags or {})))
        file = path.open("ab")
    except _FAULTS as error:
        _warn(error)
        return None
    try:
        _start_follower(path, work / LOG, root, ended)
    except _FAULTS as error:
        _warn(error)
    return file


def _header(
    root: Path, run: str, digest: str, block: dict[str, Any], tags: dict[str, str]
) -> dict[str, Any]:
    """Facts of the training that the follower may not find later: DVC deletes the copy in which an
    experiment runs."""
    corpus: dict[str, Any] = {}
    with suppress(UserError):
        corpus = config.section(root / "params.yaml", f"corpora.{block.get('corpus')}") or {}
    return {
        "run": run,
        "digest": digest,
        "root": str(root.resolve()),
        "store": spools.store_id(),
        "params": block,
        "corpus": corpus,
        "tags": tags,
        "origin": describe.origin(root),
        "label": run_names.label(run, block, corpus, run_names.committed_params(root)),
    }


def _start_follower(spool: Path, log: Path, root: Path, ended: threading.Event) -> None:
    """Start the follower of the spool; print its failure if the training has not `ended` then.

    Its own session keeps it from a Ctrl-C, and makes its niceness independent of the training's. It
    gets none of our own streams: whoever waits for the end of our output would wait for the
    follower too."""
    # By its pid, the follower notices when the training is gone.
    command = [
        sys.executable,
        "-m",
        "pipeline.tracking.follower",
        "--root",
        str(root.resolve()),
        "--spool",
        str(spool),
        "--parent",
        str(os.getpid()),
    ]
    with spool.open("rb") as lines, log.open("ab") as output:
        process = subprocess.Popen(
            command,
            # In the project: DVC may delete an experiment's copy before the follower has begun.
            cwd=describe.home(_CODE),
            stdin=lines,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def reap() -> None:
        """Wait for the exit status, so that no zombie stays."""
        status = process.wait()
        if status and not ended.is_set():
            _warn(f"the follower ended with status {status}, see {log}")

    threading.Thread(target=reap, daemon=True).start()


def _warn(reason: object) -> None:
    line = printable(" ".join(str(reason).split()) or type(reason).__name__)
    with suppress(*_FAULTS):  # stderr may be closed too
        print(
            f"seqline: tracking stopped, training continues: {line}. `seqline sync` will fill the "
            "gap.",
            file=sys.stderr,
        )
