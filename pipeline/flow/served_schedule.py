"""State of a served schedule, `.seqline/flow/schedule.json`: when runs are due, and whether they
began.

`seqline status` reads it where no server answers; it also shows the runs that no server was there
to start."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.core import process_identity
from pipeline.core.atomic import atomic_file, try_lock
from pipeline.core.errors import refuse
from pipeline.flow import journal
from pipeline.flow.journal import Record

SCHEDULE = Path(".seqline/flow/schedule.json")
_LOCK = SCHEDULE.with_suffix(".lock")
_GRACE = timedelta(minutes=2)  # a run that is due may still be on its way
# as the server's clock may be another, and a worker of a pool begins some seconds early
_EARLY = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Served:
    """A schedule in `words`, served by the process `pid`, `seen` alive last; `ended` is "" unless
    it was ended on purpose.

    `due` holds the times of runs to come, and of those past that no flow has begun after.
    """

    words: str
    pid: int
    since: str
    seen: str
    ended: str
    due: tuple[str, ...]


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Be the only process that serves the project's schedule; UserError naming the other."""
    path = root / _LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        if not try_lock(lock):
            served = read(root)
            holder = (
                f"process {served.pid}, which serves {served.words}"
                if served
                else "another process, which serves one"
            )
            raise refuse(
                "seqline schedule",
                holder,
                "no other one of this project",
                "End it, then run this again.",
            )
        process_identity.sign(lock)
        yield


def write(root: Path, served: Served) -> None:
    """Replace the file in one step."""
    with atomic_file(root / SCHEDULE) as beside:
        beside.write_text(json.dumps(asdict(served), indent=1) + "\n", encoding="utf-8")


def read(root: Path) -> Served | None:
    """The schedule served last; None if there never was one."""
    try:
        values = json.loads((root / SCHEDULE).read_text(encoding="utf-8"))
        return Served(**values | {"due": tuple(values["due"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def missed(root: Path, served: Served, records: Sequence[Record], now: datetime) -> list[str]:
    """The due times that passed without a retraining that began since, or is at work: oldest
    first."""
    began = [datetime.fromisoformat(record.began) for record in records if record.flow == "retrain"]
    last = max(began, default=datetime.min.replace(tzinfo=UTC))
    at_work = any(record.flow == "retrain" and journal.running(root, record) for record in records)
    ended = datetime.fromisoformat(served.ended) if served.ended else now
    past = [
        time
        for time in served.due
        if last + _EARLY < datetime.fromisoformat(time) < min(now - _GRACE, ended)
    ]
    return [] if at_work else past


def serving(root: Path, served: Served) -> bool:
    """Return whether its process still serves it: it holds the lock."""
    return not served.ended and journal.holder(root / _LOCK) == served.pid
