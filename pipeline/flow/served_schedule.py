"""State of a served schedule, `.seqline/flow/schedule.json`: due runs, and the process that serves.

`seqline status` reads it without a server. It also shows runs that were due while nothing served.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.core import locks, state_dir
from pipeline.core.atomic import atomic_file
from pipeline.core.errors import refuse
from pipeline.core.locks import LockedElsewhere, owned_lock
from pipeline.flow import journal
from pipeline.flow.journal import Record

_GRACE = timedelta(minutes=2)  # a run that is due may still be starting
# The server's clock may differ from this machine's, and a pool's worker begins some seconds early.
_CLOCK_TOLERANCE = timedelta(seconds=15)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The section `schedule` of flow.yaml. `retry_forever`: keep polling a Prefect server that does
    not answer (`pipeline.flow.retry_forever`); if false, Prefect's runner ends, as it does by
    itself, after three failed requests in a row."""

    retry_forever: bool


@dataclass(frozen=True, slots=True)
class ServedSchedule:
    """A schedule described by `words`, served by the process `pid`; `seen` is its last heartbeat.

    `ended` is "" unless it was ended on purpose. `due` holds the times of upcoming runs, and of
    past ones after which no flow has begun.
    """

    words: str
    pid: int
    since: str
    seen: str
    ended: str
    due: tuple[str, ...]


@contextmanager
def schedule_lock(root: Path) -> Iterator[None]:
    """Be the only process that serves the project's schedule; UserError naming the other."""
    with ExitStack() as stack:
        try:
            stack.enter_context(owned_lock(root / state_dir.SCHEDULE_LOCK, wait=False))
        except LockedElsewhere:
            served = read(root)
            raise refuse(
                "seqline schedule",
                f"process {served.pid}, which serves {served.words}"
                if served is not None
                else "another process, which serves one",
                "no other one of this project",
                "End it, then run this again.",
            ) from None

        yield


def write(root: Path, served: ServedSchedule) -> None:
    """Replace the file in one step."""
    with atomic_file(root / state_dir.SCHEDULE) as temporary:
        temporary.write_text(json.dumps(asdict(served), indent=1) + "\n", encoding="utf-8")


def read(root: Path) -> ServedSchedule | None:
    """Load the schedule served last; None if there never was one."""
    try:
        values = json.loads((root / state_dir.SCHEDULE).read_text(encoding="utf-8"))
        return ServedSchedule(**values | {"due": tuple(values["due"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def missed_runs(
    root: Path, served: ServedSchedule, records: Sequence[Record], now: datetime
) -> list[str]:
    """List the due times that passed without a retraining, oldest first.

    One retraining stands for all runs that were due before it. So a time is missed only if no
    retraining has begun since, and none is running now.
    """
    retrainings = [record for record in records if record.flow == "retrain"]
    if any(journal.is_running(root, record) for record in retrainings):
        return []

    began = [datetime.fromisoformat(record.began) for record in retrainings]
    last = max(began, default=datetime.min.replace(tzinfo=UTC))
    # After the schedule was ended on purpose, none was due.
    ended = datetime.fromisoformat(served.ended) if served.ended else now
    until = min(now - _GRACE, ended)
    return [
        time
        for time in served.due
        if last + _CLOCK_TOLERANCE < datetime.fromisoformat(time) < until
    ]


def is_served(root: Path, served: ServedSchedule) -> bool:
    """Return whether its process still serves it: it holds the lock."""
    if served.ended:
        return False
    owner = locks.owner(root / state_dir.SCHEDULE_LOCK)
    return owner is not None and owner.pid == served.pid
