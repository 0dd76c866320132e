"""`seqline status`: what was retrained last, what is due next, what failed or was missed, and who
is champion.

It needs no server: flows and the schedule leave records in `.seqline/flow/`. Where a server is
configured and answers, it is asked too."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import UserError, shown
from pipeline.flow import journal, served_schedule
from pipeline.flow.journal import Record
from pipeline.flow.served_schedule import ServedSchedule
from pipeline.tracking import describe

_RECENT = 20  # flows among which failed ones are counted


class Report(NamedTuple):
    """Lines of (what, how it is), and whether all is well."""

    lines: list[tuple[str, str]]
    healthy: bool


def report(root: Path, now: datetime | None = None) -> Report:
    """Describe the state of retraining in the project `root`."""
    now = now or datetime.now(UTC)
    records, plan = journal.read(root), served_schedule.read(root)
    flows = [record for record in records if record.flow == "retrain"]
    late = served_schedule.missed_runs(root, plan, records, now) if plan else []
    server, elsewhere = _asked(root)
    lines = [
        ("at work", _at_work(root, records)),
        ("last run", _told(root, flows[-1]) if flows else "none yet: `seqline retrain`"),
        (
            "last success",
            next((_told(root, flow) for flow in reversed(flows) if flow.succeeded), "none yet"),
        ),
        *_failed(root, flows[-_RECENT:]),
        *(
            [("missed", f"{len(late)} due and not begun, the first at {_shown(late[0])}")]
            if late
            else []
        ),
        ("schedule", _schedule(root, plan)),
        ("next run", _next(root, plan, now)),
        ("server", server),
        *_champions(root),
    ]
    gone = plan is not None and not plan.ended and not served_schedule.is_served(root, plan)
    well = (
        elsewhere
        and not late
        and not gone
        and (not flows or flows[-1].succeeded or journal.is_running(root, flows[-1]))
    )
    return Report(lines, well)


def _at_work(root: Path, records: Sequence[Record]) -> str:
    busy = [record for record in records if journal.is_running(root, record)]
    return (
        "; ".join(f"{one.flow} since {_shown(one.began)} (process {one.pid})" for one in busy)
        or "nothing"
    )


def _told(root: Path, record: Record) -> str:
    """One flow in a line: when, how it ended, and the last thing that its summary says."""
    when = f"{_shown(record.began)}, {record.because}"
    if not record.ended:
        return (
            f"{when}: "
            f"{'at work' if journal.is_running(root, record) else 'cut off: its process is gone'}"
        )
    took = datetime.fromisoformat(record.ended) - datetime.fromisoformat(record.began)
    return f"{when}: {record.state} in {took.total_seconds():.0f} s"


def _failed(root: Path, flows: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Number of the last flows that did not complete, and the reason of the latest one."""
    bad = [flow for flow in flows if not flow.succeeded and not journal.is_running(root, flow)]
    if bad:
        why = next(
            (line for line in bad[-1].summary.splitlines() if line.startswith(("FAILED", "got"))),
            bad[-1].summary,
        )
        reason = " ".join(why.split())[:200]
        yield (
            "failed",
            (
                f"{len(bad)} of the last {len(flows)}; "
                f"{_told(root, bad[-1])}{f' ({reason})' if reason else ''}"
            ),
        )


def _schedule(root: Path, plan: ServedSchedule | None) -> str:
    if plan is None:
        return "none: `seqline schedule`"
    if plan.ended:
        return f"{plan.words}: not served since {_shown(plan.ended)}, when it was ended"
    if not served_schedule.is_served(root, plan):
        return f"{plan.words}: not served since {_shown(plan.seen)}: its process is gone"
    return f"{plan.words}: served by process {plan.pid} since {_shown(plan.since)}"


def _next(root: Path, plan: ServedSchedule | None, now: datetime) -> str:
    if plan is None or not served_schedule.is_served(root, plan):
        return "none"
    coming = [time for time in plan.due if datetime.fromisoformat(time) >= now]
    return _shown(coming[0]) if coming else "at no set time"


def _asked(root: Path) -> tuple[str, bool]:
    """Ask the server for the project's deployments, if one is configured, and for the state of
    those whose runs leave no records here."""
    from pipeline.flow import prefect_server

    prefect_server.quiet()
    if not prefect_server.configured_url():
        return "none is configured; this is from the records at hand", True
    address = shown(str(prefect_server.configured_url()))
    if not prefect_server.is_reachable():
        return f"{address} does not answer; this is from the records at hand", True
    from pipeline.flow import deployments

    told = deployments.status(root)
    return f"{address}: {told.summary}", told.healthy


def _champions(root: Path) -> Iterator[tuple[str, str]]:
    if (
        not os.environ.get("MLFLOW_TRACKING_URI")
        and not (describe.home(root) / "mlflow.db").exists()
    ):
        yield "champions", "none yet"  # looking must not make the store
        return
    from pipeline.tracking import registry

    try:
        for reigns in registry.champions(root).values():
            if reigns:
                version, since = reigns[0].version, reigns[0].since
                yield (
                    "champion",
                    (
                        f"{version}, {version.run}{f', since {since} UTC' if since else ''}: "
                        f"{version.score}"
                    ),
                )
    except UserError as error:
        yield "champions", str(error)


def _shown(stamp: str) -> str:
    """A time as people here read it."""
    return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")
