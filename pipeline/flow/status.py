"""`seqline status`: what was retrained last, what is due next, what failed or was missed, and who is champion.

It needs no server: flows and the schedule leave records in `.seqline/flow/`. Where a server is configured and answers, it is
asked too.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UserError
from pipeline.flow import history, served
from pipeline.flow.history import Record

_RECENT = 20  # flows among which failed ones are counted


class Report(NamedTuple):
    """Lines of (what, how it is), and whether all is well."""

    lines: list[tuple[str, str]]
    well: bool


def report(root: Path, now: datetime | None = None) -> Report:
    """How retraining stands in the project `root`."""
    now = now or datetime.now(UTC)
    records, plan = history.read(root), served.read(root)
    flows = [record for record in records if record.flow == "retrain"]
    late = served.missed(plan, records, now) if plan else []
    lines = [
        ("at work", _at_work(records)),
        ("last run", _told(flows[-1]) if flows else "none yet: `seqline retrain`"),
        ("last success", next((_told(flow) for flow in reversed(flows) if flow.good), "none yet")),
        *_failed(flows[-_RECENT:]),
        *([("missed", f"{len(late)} due and not begun, the first at {_shown(late[0])}")] if late else []),
        ("schedule", _schedule(plan)),
        ("next run", _next(plan, now)),
        *_asked(),
        *_champions(root),
    ]
    well = not late and (not flows or flows[-1].good or _running(flows[-1]))
    return Report(lines, well)
