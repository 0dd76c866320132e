"""Journal of flows, `.seqline/flow/history.jsonl`: a line when one begins, and one when it ends.

It needs no server.
"""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.core import locks, state_dir
from pipeline.core.errors import describe_error

SUCCESSFUL = ("promoted", "kept", "nothing", "done")  # states of a flow that completed


@dataclass(slots=True)
class Record:
    """`state` is "" until it ended, then one of `SUCCESSFUL`, `failed` or `cancelled`."""

    id: str
    flow: str
    pid: int
    because: str
    began: str
    ended: str = ""
    state: str = ""
    summary: str = ""

    @property
    def succeeded(self) -> bool:
        """Return whether the flow completed, with or without a promotion."""
        return self.state in SUCCESSFUL


@contextmanager
def record_flow(root: Path, flow: str, because: str = "") -> Iterator[Record]:
    """Record the flow that runs in the block, which sets `state` and `summary`.

    An exception is recorded as failed or, if it is an interrupt, as cancelled.
    """
    record = Record(
        id=uuid.uuid4().hex, flow=flow, pid=os.getpid(), because=because, began=timestamp()
    )
    _append(root, record)
    try:
        yield record
        record.state = record.state or "done"
    except Exception as error:
        record.state = "failed"
        record.summary = describe_error(error) or type(error).__name__
        raise
    except BaseException:
        record.state = "cancelled"
        record.summary = "interrupted"
        raise
    finally:
        record.ended = timestamp()
        _append(root, record)


def read(root: Path) -> list[Record]:
    """List the flows in the order in which they began."""
    try:
        lines = (root / state_dir.JOURNAL).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []

    records: dict[str, Record] = {}
    for line in lines:
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError):  # cut off by a full disk, or of another version
            continue
        records[record.id] = record  # the line of a flow's end replaces that of its beginning
    return list(records.values())


def is_running(root: Path, record: Record) -> bool:
    """Return whether the flow still runs: its process holds the project's lock."""
    if record.ended:
        return False
    owner = locks.owner(root / state_dir.FLOW_LOCK)
    return owner is not None and owner.pid == record.pid


def timestamp() -> str:
    """The present time in UTC, as the records write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _append(root: Path, record: Record) -> None:
    path = root / state_dir.JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)
    # A single write to a file opened to append keeps the lines of two flows apart.
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
