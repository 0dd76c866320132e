"""`seqline status`: the last and the next retraining, failed and missed runs, the champions, and
the level that their test sets have left for challenges.

It needs no server: flows and the schedule leave records in `.seqline/flow/`. If a server is
configured and answers, its deployments are shown too.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import UserError, redact
from pipeline.dag.run_settings import FILE
from pipeline.flow import journal, served_schedule
from pipeline.flow import progress as flow_progress
from pipeline.flow.journal import Record
from pipeline.flow.progress import Progress
from pipeline.flow.served_schedule import ServedSchedule
from pipeline.promotion import settings as rules
from pipeline.tracking import describe

_NOT_IN_USE = "not set up, and optional: `seqline retrain` once, `seqline schedule` every night"
_RECENT = 20  # flows among which failed ones are counted


class Report(NamedTuple):
    """Lines of (subject, detail), whether nothing needs attention, and the progress of the flow
    that runs its stages, if one does."""

    lines: list[tuple[str, str]]
    healthy: bool
    progress: Progress | None


def report(root: Path, now: datetime | None = None) -> Report:
    """Describe the state of retraining in the project `root`."""
    now = now or datetime.now(UTC)
    records = journal.read(root)
    schedule = served_schedule.read(root)
    flows = [record for record in records if record.flow == "retrain"]
    successes = [record for record in flows if record.succeeded]
    late = served_schedule.missed_runs(root, schedule, records, now) if schedule else []
    server, server_is_healthy = _server(root)

    progress = flow_progress.read(root)
    lines = [("running", _running(root, records, progress))]
    if flows or schedule is not None:
        lines.append(("last run", _flow(root, flows[-1]) if flows else "none yet"))
        lines.append(("last success", _flow(root, successes[-1]) if successes else "none yet"))
        lines += _failures(root, flows[-_RECENT:])
        if late:
            lines.append(("missed", f"{len(late)} overdue, the first at {_local(late[0])}"))
        lines.append(("schedule", _schedule(root, schedule)))
        lines.append(("next run", _next_run(root, schedule, now)))
    elif not server:  # whose deployments may retrain
        lines.append(("retraining", _NOT_IN_USE))
    if server:
        lines.append(("server", server))
    champions, levels_are_left = _champions(root, now)
    lines += champions

    # A schedule that was not ended on purpose should still be served.
    was_killed = (
        schedule is not None
        and not schedule.ended
        and not served_schedule.is_served(root, schedule)
    )
    last_is_healthy = not flows or flows[-1].succeeded or journal.is_running(root, flows[-1])
    is_healthy = server_is_healthy and not late and not was_killed and last_is_healthy
    return Report(lines, is_healthy and levels_are_left, progress)


def _running(root: Path, records: Sequence[Record], progress: Progress | None) -> str:
    stages = "" if progress is None else f"{progress}; "
    running = [
        f"{stages}{record.flow} since {_local(record.began)} (process {record.pid})"
        for record in records
        if journal.is_running(root, record)
    ]
    return "; ".join(running) or "nothing"


def _flow(root: Path, record: Record) -> str:
    """One flow in a line: when it began, why, and how it ended."""
    began = f"{_local(record.began)}, {record.because}"
    if record.ended:
        duration = datetime.fromisoformat(record.ended) - datetime.fromisoformat(record.began)
        return f"{began}: {record.state} in {duration.total_seconds():.0f} s"
    if journal.is_running(root, record):
        return f"{began}: running"
    return f"{began}: killed: its process no longer exists"


def _failures(root: Path, flows: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Number of the flows that did not complete, and the latest one with its reason."""
    failed = [flow for flow in flows if not flow.succeeded and not journal.is_running(root, flow)]
    if not failed:
        return

    last = failed[-1]
    # A summary has many lines: show the first failed stage or refused value.
    causes = [line for line in last.summary.splitlines() if line.startswith(("FAILED", "got"))]
    reason = " ".join((causes[0] if causes else last.summary).split())[:200]
    detail = f"{len(failed)} of the last {len(flows)}; {_flow(root, last)}"
    yield "failed", f"{detail} ({reason})" if reason else detail


def _schedule(root: Path, schedule: ServedSchedule | None) -> str:
    if schedule is None:
        return "none: `seqline schedule`"
    if schedule.ended:
        return f"{schedule.words}: not served since {_local(schedule.ended)}, when it was ended"
    if not served_schedule.is_served(root, schedule):
        return (
            f"{schedule.words}: not served since {_local(schedule.seen)}: its process no longer "
            "exists"
        )
    return f"{schedule.words}: served by process {schedule.pid} since {_local(schedule.since)}"


def _next_run(root: Path, schedule: ServedSchedule | None, now: datetime) -> str:
    if schedule is None or not served_schedule.is_served(root, schedule):
        return "none"
    upcoming = [time for time in schedule.due if datetime.fromisoformat(time) >= now]
    return _local(upcoming[0]) if upcoming else "at no set time"


def _server(root: Path) -> tuple[str, bool]:
    """Describe the configured server, "" for none, and its deployments; whether those are healthy
    whose runs leave no records here."""
    from pipeline.flow import prefect_server

    prefect_server.quiet()
    url = prefect_server.configured_url()
    if not url:
        return "", True
    if not prefect_server.is_reachable():
        return f"{redact(url)} does not answer; this is from local records", True

    from pipeline.flow import deployments

    status = deployments.status(root)
    return f"{redact(url)}: {status.summary}", status.healthy


def _champions(root: Path, now: datetime) -> tuple[list[tuple[str, str]], bool]:
    """Each champion, and what is left of its test set's level; whether every one has some left."""
    has_store = (describe.home(root) / "mlflow.db").exists()
    if not os.environ.get("MLFLOW_TRACKING_URI") and not has_store:
        return [("champions", "none yet")], True  # MLflow's client would create the store

    from pipeline.flow import level_report
    from pipeline.tracking import registry

    lines: list[tuple[str, str]] = []
    levels_are_left = True
    try:
        settings = rules.load(root / FILE)
        for name, periods in registry.champions(root).items():
            if not periods:
                continue
            version = periods[0].version
            since = f", since {periods[0].since} UTC" if periods[0].since else ""
            lines.append(("champion", f"{version}, {version.run}{since}: {version.score}"))

            level = level_report.report(root, name, settings, now)
            lines.append(("challenges", level.line))
            levels_are_left = levels_are_left and not level.is_spent
    except UserError as error:
        lines.append(("champions", str(error)))
    return lines, levels_are_left


def _local(time: str) -> str:
    """A recorded time, in this machine's time zone."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
