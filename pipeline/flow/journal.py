"""Journal of flows, `.seqline/flow/history.jsonl`: a line when one begins and when it ends. It
needs no server."""

import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.core import process_identity
from pipeline.core.errors import told

HISTORY = Path(".seqline/flow/history.jsonl")
GOOD = ("promoted", "kept", "nothing", "done")  # how a flow may end when all went well


@dataclass(slots=True)
class Record:
    """One flow: `state` is "" until it ended, then a word of `GOOD`, `failed` or `cancelled`."""

    id: str
    flow: str
    pid: int
    because: str
    began: str
    ended: str = ""
    state: str = ""
    summary: str = ""

    @property
    def good(self) -> bool:
        """Return whether it came to its end, whatever it found there."""
        return self.state in GOOD


@contextmanager
def recorded(root: Path, flow: str, because: str = "") -> Iterator[Record]:
    """A record to say `state` and `summary` in; what leaves the block as an exception is written
    down as such."""
    record = Record(id=uuid.uuid4().hex, flow=flow, pid=os.getpid(), because=because, began=stamp())
    _append(root, record)
    try:
        yield record
        record.state = record.state or "done"
    except Exception as error:  # whatever ends a flow is recorded, and raised again
        record.state, record.summary = "failed", told(error) or type(error).__name__
        raise
    except BaseException:
        record.state, record.summary = "cancelled", "interrupted"
        raise
    finally:
        record.ended = stamp()
        _append(root, record)


def read(root: Path) -> list[Record]:
    """The flows in the order in which they began."""
    try:
        lines = (root / HISTORY).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    records: dict[str, Record] = {}
    for line in lines:
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError):  # cut off by a full disk, or of another version
            continue
        records[record.id] = record
    return list(records.values())


def running(root: Path, record: Record) -> bool:
    """Return whether the flow is at work: its process holds the lock of `alone`."""
    return not record.ended and holder(root / ".seqline" / "flow" / "lock") == record.pid


def holder(lock: Path) -> int | None:
    """The number of the process that holds the lock, as that process wrote it into it; None if
    nobody does.

    Whether the lock is held is what counts, and the system knows it; a number alone may be a
    stranger's by now, or count in another PID namespace, as a container's does."""
    if not held(lock):
        return None
    identity = process_identity.read(lock)
    return identity.pid if identity else None


def held(lock: Path) -> bool:
    """Return whether some process holds the lock on this file; for a moment nobody else can take it
    then."""
    try:
        with lock.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def stamp() -> str:
    """Now, as the records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _append(root: Path, record: Record) -> None:
    path = root / HISTORY
    path.parent.mkdir(parents=True, exist_ok=True)
    # one write to a file opened to append: lines of two flows do not mix
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
