"""`seqline schedule`: serve the retraining on a cron line, at an interval or on data changes.

Prefect's server keeps the schedule and starts nothing. This process polls it for runs that are due
and starts them one at a time. One run stands for all that fell due meanwhile
(`retrain.skip_due_runs`), so that none pile up.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runner import Runner
from prefect.schedules import Cron, Interval, Schedule
from prefect.server.schemas.schedules import CronSchedule

from pipeline.core.errors import UserError, describe_error, reader_closed, refuse
from pipeline.flow import (
    commands,
    deployments,
    events,
    journal,
    prefect_server,
    retry_forever,
    sections,
    served_schedule,
    time_zone,
)
from pipeline.flow.retrain import retrain
from pipeline.flow.server_errors import SERVER_ERRORS

_LONGEST_SECONDS = 366 * 86_400.0
_POLL_SECONDS = 5.0  # between two requests for runs that are due
_HEARTBEAT_SECONDS = 10.0
_UPCOMING_RUNS = 20  # that the heartbeat writes down
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Times of retraining: at a `schedule` (None for no set times), and `on_data_change`, with
    `every` seconds between two checks of the sources.

    `words` describe both for messages. `jobs` stages run at a time (None: one per core).
    """

    schedule: Schedule | None
    words: str
    on_data_change: bool
    every: float
    jobs: int | None


def terms(
    cron: str | None, interval: str | None, on_data_change: bool, every: str, jobs: int | None
) -> Terms:
    """Parse the command's options; UserError for a wrong cron line or duration."""
    if not (cron or interval or on_data_change):
        raise refuse(
            "seqline schedule",
            "no time",
            "--cron, --interval or --on-data-change",
            "For example --cron '0 3 * * *'.",
        )
    commands.check_jobs(jobs)

    schedule: Schedule | None = None
    words = []
    if cron is not None:
        zone, problem = time_zone.machine_zone()
        if problem:
            print(f"seqline: warning: {problem}", file=sys.stderr, flush=True)
        schedule = _cron(cron, zone)
        words.append(f"cron {cron!r} in {zone}")
    elif interval is not None:
        duration = timedelta(seconds=seconds(interval, "--interval"))
        schedule = Interval(duration, anchor_date=datetime.now(UTC))
        words.append(f"every {interval}")
    if on_data_change:
        words.append("when data change")

    return Terms(
        schedule=schedule,
        words=", ".join(words),
        on_data_change=on_data_change,
        every=seconds(every, "--every"),
        jobs=jobs,
    )


def _cron(line: str, zone: str) -> Schedule:
    """Schedule of a cron line; UserError for any other text, and for a time that never comes, as on
    30 February."""
    try:
        # Compute one date as the server's scheduler does: 30 February has none, and raises.
        asyncio.run(CronSchedule(cron=line, timezone=zone).get_dates(1))
        return Cron(line, timezone=zone)
    except ValueError:
        raise refuse(
            "--cron",
            repr(line),
            "five fields as cron has them",
            "Minute, hour, day of the month, month, day of the week: '0 3 * * *' is every "
            "night at three.",
        ) from None


def seconds(text: str, where: str) -> float:
    """Convert 90, 90s, 15m, 2h or 1d to seconds; UserError for any other text, and for zero."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if not match or not float(match[1]):
        raise refuse(where, repr(text[:60]), "a time such as 90, 15m, 2h or 1d")
    duration = float(match[1]) * _UNITS[match[2]]
    if duration > _LONGEST_SECONDS:
        raise refuse(where, repr(text[:60]), "at most 366d")
    return duration


def serve(root: Path, terms: Terms) -> None:
    """Serve until Ctrl-C or SIGTERM, which end a run that is under way too.

    UserError for a mistake in flow.yaml, and if no standing server can be reached.
    """
    settings = sections.load(root).schedule
    prefect_server.require_standing_server()
    if settings.retry_forever:
        retry_forever.install()

    # Runs inherit this process's working directory: no request can name another.
    os.chdir(root)
    if warning := prefect_server.exposure_warning():
        print(f"seqline: warning: {warning}", file=sys.stderr, flush=True)
    with served_schedule.schedule_lock(root), prefect_server.refuse_server_errors():
        asyncio.run(_Serving(root, terms).run())


class _Serving:
    """Prefect's runner with a heartbeat and a watch on the sources.

    Prefect's `serve` has no handle on its runner: it could neither end the run under way and record
    it as cancelled, nor stop for a failed background task.
    """

    def __init__(self, root: Path, terms: Terms) -> None:
        self._root = root
        self._terms = terms
        self._name = events.deployment_name(root)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until `_stop` is set or a task fails; then pause the deployment."""
        runner = Runner(
            name=self._name,
            limit=1,
            pause_on_shutdown=True,
            query_seconds=_POLL_SECONDS,
            prefetch_seconds=0,  # no run begins early
        )
        # Create or update the deployment: active, with this schedule and trigger only.
        deployment = await runner.aadd_flow(
            retrain,
            name=self._name,
            schedules=[self._terms.schedule] if self._terms.schedule else [],
            paused=False,
            triggers=[events.trigger(self._name)] if self._terms.on_data_change else [],
            parameters={"jobs": self._terms.jobs},
            description=f"Retraining of {self._root}: {self._terms.words}.",
            tags=["seqline"],
        )
        self._write_start()

        running = asyncio.create_task(runner.start())
        while not runner.started and not running.done():
            await asyncio.sleep(0.05)
        # The runner has set a handler that exits at once; replace it once the runner has started.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)

        heartbeat = self._repeat(lambda: self._write_heartbeat(deployment), _HEARTBEAT_SECONDS)
        background = [asyncio.create_task(heartbeat)]
        if self._terms.on_data_change:
            watcher = events.SourceWatcher(self._root)
            background.append(asyncio.create_task(self._repeat(watcher.check, self._terms.every)))
        print(
            f"seqline: {self._terms.words}: serving {events.FLOW}/{self._name} (Ctrl-C ends it)",
            flush=True,
        )
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({running, stop, *background}, return_when=asyncio.FIRST_COMPLETED)

        # A background task ends only by a fault of ours. Then end the schedule, and raise the
        # fault, rather than serve without that task.
        failed = [task for task in background if task.done()]
        for task in background:
            task.cancel()
        if self._stop.is_set() or failed:
            await runner.astop()
        await running
        for task in failed:
            task.result()
        served_schedule.write(self._root, replace(self._served, ended=journal.timestamp()))

    def _write_start(self) -> None:
        """Record that the schedule is served; print the runs that were missed before."""
        previous = served_schedule.read(self._root)
        late = self._missed_runs(previous) if previous is not None else []
        if late:
            print(
                f"seqline: {len(late)} runs were due since {late[0]} and did not begin", flush=True
            )

        started = journal.timestamp()
        self._served = served_schedule.ServedSchedule(
            words=self._terms.words,
            pid=os.getpid(),
            since=started,
            seen=started,
            ended="",
            due=tuple(late),
        )
        served_schedule.write(self._root, self._served)

    async def _write_heartbeat(self, deployment: UUID) -> None:
        """Record that this process is alive, the missed runs, and those that the server will start
        next."""
        late = self._missed_runs(self._served)
        upcoming = [time for time in await _next_starts(deployment) if time not in late]
        self._served = replace(self._served, seen=journal.timestamp(), due=(*late, *upcoming))
        served_schedule.write(self._root, self._served)

    def _missed_runs(self, served: served_schedule.ServedSchedule) -> list[str]:
        records = journal.read(self._root)
        return served_schedule.missed_runs(self._root, served, records, datetime.now(UTC))

    async def _repeat(self, action: Callable[[], Coroutine[Any, Any, None]], pause: float) -> None:
        """Await `action` every `pause` seconds, also while the server or a source does not answer.

        The same error is printed once, not at every attempt. Other exceptions propagate: `run` then
        ends the schedule.
        """
        printed = ""
        while True:
            for stream in (sys.stdout, sys.stderr):
                # Prefect's runner forwards what a run prints, and would fail on a closed stream.
                reader_closed(stream)
            try:
                await action()
                printed = ""
            except (UserError, *SERVER_ERRORS) as error:
                problem = describe_error(error) or type(error).__name__
                if isinstance(error, httpx.TransportError):
                    problem = (
                        f"Prefect's server does not answer ({problem}); no run begins until it does"
                    )
                if problem != printed:
                    with suppress(OSError):
                        print(f"seqline: {problem}", flush=True)
                printed = problem
            await asyncio.sleep(pause)


async def _next_starts(deployment: UUID) -> list[str]:
    """Start times of the deployment's next runs, from the server."""
    async with get_client() as client:
        runs = await client.read_flow_runs(
            flow_run_filter=deployments.run_filter(deployment, any_=[StateType.SCHEDULED]),
            sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
            limit=_UPCOMING_RUNS,
        )
    times = [run.next_scheduled_start_time for run in runs if run.next_scheduled_start_time]
    return [time.astimezone(UTC).isoformat(timespec="seconds") for time in times]
