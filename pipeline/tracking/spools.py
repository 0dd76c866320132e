"""Spools: the files in which trainings leave their metrics, times and origin for MLflow.

They lie in the project's own folder, so that they outlive the copies in which `dvc exp run --queue`
and `--temp` train. A spool is pending until all of it is in MLflow. Then only its times are kept,
for a store that is lost and filled again. No mlflow here.

A spool is JSON lines: a header, `{"active": ms}` of earlier processes of the training, their
metrics, `{"began": ms}`, `{"step": n, "at": ms, "metrics": {...}}` for each call,
and `{"end": status, "at": ms}`."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.core import process_identity
from pipeline.core.atomic import write_file
from pipeline.core.errors import redact
from pipeline.core.locks import try_lock
from pipeline.tracking import run_lock

METRICS = b'{"step"'
END = b'{"end"'
STATUS = ("FINISHED", "FAILED", "KILLED")
_LOCK_SECONDS = 3.0  # the lock is held for milliseconds
_FAULTS = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolInfo:
    """Facts of a spool about its training.

    Times are in milliseconds since 1970: `start` of the training, `began` of its last process, and
    `last` of its last record. `active` are the milliseconds of its processes: a training that was
    killed and resumed has several. `status` is "" without a record of the end."""

    path: Path
    header: dict[str, Any]
    start: int
    began: int
    last: int
    active: int
    status: str

    @property
    def key(self) -> tuple[str, str]:
        """The run's name and digest."""
        return self.header["run"], self.header["digest"]

    @property
    def process(self) -> str:
        """The process that trains, as `process_identity` writes it."""
        return str(self.header.get("process", ""))

    @property
    def store_id(self) -> str:
        """`store_id()` of the training."""
        return str(self.header.get("store", ""))

    @property
    def over(self) -> bool:
        """Return whether the training ended, or its process is gone."""
        if self.status:
            return True
        process = process_identity.parse(self.process)
        return process is None or not process.is_alive()

    @property
    def is_foreign(self) -> bool:
        """Return whether the training has not ended and its process cannot be seen from here: it is
        of another container, machine or boot."""
        process = process_identity.parse(self.process)
        if self.status or process is None:
            return False
        own = process_identity.current_process()
        return (process.boot_id, process.namespace) != (own.boot_id, own.namespace)


def now() -> int:
    """Milliseconds since 1970, MLflow's clock."""
    return time.time_ns() // 1_000_000


def steady() -> int:
    """Milliseconds of a clock that nobody sets."""
    return time.monotonic_ns() // 1_000_000


def path_of(root: Path, key: tuple[str, str]) -> Path:
    """Path of the spool of a run's name and digest."""
    return _folder(root) / f"{run_lock.file_name(key)}.jsonl"


def find(root: Path, key: tuple[str, str]) -> SpoolInfo | None:
    """The spool of a run's name and digest, or what is kept of it once it is recorded; None if the
    run was not trained here."""
    path = path_of(root, key)
    return read(path) or read(_recorded(path))


def _folder(root: Path) -> Path:
    return run_lock.locks(root) / "spools"


def _recorded(path: Path) -> Path:
    return path.parent / "recorded" / path.name


def create(path: Path, header: dict[str, Any]) -> None:
    """Write the beginning of a spool for a training that starts, or is resumed, now.

    A resumed training keeps its start, and the metrics and time of its earlier processes."""
    lines: list[bytes] = []
    began = now()
    start = began
    key = (header["run"], header["digest"])
    with _changing(path):  # without the lock too: a training waits for nobody
        earlier = read(path) or read(_recorded(path))
        # After its end it is another training, with the same outcome.
        if earlier is not None and earlier.key == key and earlier.status != "FINISHED":
            start = earlier.start
            lines = [encode({"active": earlier.active}), *_metrics(earlier.path)]

        head = encode({**header, "at": start, "process": str(process_identity.current_process())})
        # Not in place: an earlier process's follower still reads the old file.
        write_file(path, b"".join([head, *lines, encode({"began": began})]))


@contextmanager
def _changing(path: Path) -> Iterator[bool]:
    """Hold the lock under which spools of the folder are replaced and removed: a follower that
    records a spool must not remove the one of a training that is resumed just then.

    Yield whether it is held: a process that was stopped may keep it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    patient = run_lock.patience(_LOCK_SECONDS)
    with path.parent.with_name("spools.lock").open("a") as handle:
        while not (is_held := try_lock(handle)) and patient():
            time.sleep(0.02)
        yield is_held


def encode(record: dict[str, Any]) -> bytes:
    """Return the line of a spool that holds the record."""
    return json.dumps(record, default=str).encode() + b"\n"


def _metrics(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [line for line in file if line.startswith(METRICS) and line.endswith(b"\n")]


def read(path: Path) -> SpoolInfo | None:
    """Read a spool; None if there is none, or if its header is damaged. Other damaged lines are
    skipped."""
    with suppress(OSError), path.open("rb") as file:
        return read_file(file, path)
    return None


def read_file(file: BinaryIO, path: Path) -> SpoolInfo | None:
    """Read an open spool from its beginning, as `read`."""
    with suppress(*_FAULTS):
        file.seek(0)
        header = json.loads(file.readline())
        kinds = {"run": str, "digest": str, "params": dict, "tags": dict}
        if not all(isinstance(header[field], kind) for field, kind in kinds.items()):
            return None
        return _read(path, header, file)
    return None


def _read(path: Path, header: dict[str, Any], lines: Iterable[bytes]) -> SpoolInfo:
    start = int(header["at"])
    active, began, last = 0, start, start
    status = ""
    for record in _records(lines):
        if isinstance(record.get("active"), int):
            active, began, last = record["active"], last, last
        elif isinstance(record.get("began"), int):
            began = last = record["began"]
        elif isinstance(record.get("at"), int):
            last = record["at"]
        status = record["end"] if record.get("end") in STATUS else status
    return SpoolInfo(
        path=path,
        header=header,
        start=start,
        began=began,
        last=last,
        active=active + max(0, last - began),
        status=status,
    )


def _records(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict):
                yield record


def pending(root: Path) -> list[SpoolInfo]:
    """Spools of trainings that are over and not all in MLflow, the oldest first."""
    spools = [read(path) for path in sorted(_folder(root).glob("*.jsonl"))]
    left = [spool for spool in spools if spool is not None and spool.over]
    return sorted(left, key=lambda spool: spool.start)


def has_recent(root: Path, seconds: float) -> bool:
    """Return whether a training runs that began, or was resumed, less than so many seconds ago."""
    since = now() - seconds * 1000
    spools = (read(path) for path in _folder(root).glob("*.jsonl"))
    return any(spool is not None and spool.began > since and not spool.over for spool in spools)


def store_id() -> str:
    """Return a hash of the address of the MLflow store, without its password, and of the name of
    its experiment, as this process has them; "" for the project's own store."""
    address = redact(os.environ.get("MLFLOW_TRACKING_URI", "")).rstrip("/")
    values = [address, os.environ.get("MLFLOW_EXPERIMENT_NAME", "")]
    return f"-{hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]}" if any(values) else ""


def is_same(spool: BinaryIO, path: Path) -> bool:
    """Return whether the open file is the one at `path`: neither recorded nor replaced."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(spool.fileno()))
    return False


def mark_recorded(spool: BinaryIO, path: Path) -> None:
    """Keep the times of a spool alone, as MLflow has all of it.

    `spool` is the open file that was recorded. A newer one at `path` stays as it is. The times of a
    training that finished stay if its repetition did not. Without the lock all stays, and is sent
    once more."""
    content = read_file(spool, path)
    with suppress(FileNotFoundError), _changing(path) as is_held:
        if content is None or not is_held or not is_same(spool, path):
            return
        before = read(_recorded(path))
        if before is not None and before.status == "FINISHED" != content.status:
            path.unlink()
            return
        lines = [
            {**content.header, "at": content.start},
            {"active": content.active},
            {"end": content.status or "KILLED", "at": content.start},
        ]
        kept = _recorded(path)
        kept.parent.mkdir(exist_ok=True)
        write_file(kept, b"".join(map(encode, lines)), sync=False)
        path.unlink()
