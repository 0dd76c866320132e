"""`seqline schedule`: the retraining is served on a cron line, at an interval or when data change,
until it is told to stop.

Prefect's server keeps the schedule and starts nothing itself: this process asks it for runs that
are due, and does them one after the other. Whatever fell due meanwhile is made good by one run
(`retrain.stand_in`), so that nothing piles up."""

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
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runner import Runner
from prefect.schedules import Cron, Interval, Schedule
from prefect.server.schemas.schedules import CronSchedule

from pipeline.core.errors import UserError, nobody_reads, refuse, told
from pipeline.flow import (
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

_LONGEST = 366 * 86_400.0  # seconds
_POLL_SECONDS = 5.0  # between two questions for runs that are due
_BEAT_SECONDS = 10.0  # between two marks of life
_AHEAD = 20  # runs to come that are written down
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Times of retraining: at a `schedule` (None for no set times), and `on_data_change`, looking
    every so many seconds."""

    schedule: Schedule | None
    words: str
    on_data_change: bool
    every: float
    jobs: int | None


def terms(
    cron: str | None, interval: str | None, on_data_change: bool, every: str, jobs: int | None
) -> Terms:
    """The command's options, understood; UserError for a line that is no cron line and a time that
    is no time."""
    if not (cron or interval or on_data_change):
        todo = "For example --cron '0 3 * * *'."
        raise refuse("seqline schedule", "no time", "--cron, --interval or --on-data-change", todo)
    if jobs is not None and jobs < 1:
        raise refuse("--jobs", jobs, "at least 1")
    words, schedule = [], None
    if cron is not None:
        zone = _zone()
        schedule = _cron(cron, zone)
        words.append(f"cron {cron!r} in {zone}")
    elif interval is not None:
        schedule = Interval(
            timedelta(seconds=seconds(interval, "--interval")), anchor_date=datetime.now(UTC)
        )
        words.append(f"every {interval}")
    pause = seconds(every, "--every")
    if on_data_change:
        words.append("when data change")
    return Terms(
        schedule=schedule,
        words=", ".join(words),
        on_data_change=on_data_change,
        every=pause,
        jobs=jobs,
    )


def _zone() -> str:
    """Return the name of the machine's time zone; print a warning if UTC is used for want of a
    name."""
    zone = time_zone.machine_zone()
    if zone.problem:
        print(f"seqline: warning: {zone.problem}", file=sys.stderr, flush=True)
    return zone.name


def _cron(line: str, zone: str) -> Schedule:
    """Schedule of a cron line; UserError for any other text, and for a time that never comes, as on
    30 February."""
    try:
        schedule = Cron(line, timezone=zone)
        # Compute one date as the server's scheduler does: 30 February has none, and raises.
        asyncio.run(CronSchedule(cron=line, timezone=zone).get_dates(1))
    except ValueError:
        todo = (
            "Minute, hour, day of the month, month, day of the week: '0 3 * * *' is every "
            "night at three."
        )
        raise refuse("--cron", repr(line), "five fields as cron has them", todo) from None
    return schedule


def seconds(text: str, where: str) -> float:
    """90, 90s, 15m, 2h or 1d in seconds; UserError for anything else, and for no time at all."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if not found or not float(found[1]):
        raise refuse(where, repr(text[:60]), "a time such as 90, 15m, 2h or 1d")
    duration = float(found[1]) * _UNITS[found[2]]
    if duration > _LONGEST:
        raise refuse(where, repr(text[:60]), "at most 366d")
    return duration


def serve(root: Path, when: Terms) -> None:
    """Serve until Ctrl-C or SIGTERM, which end a run that is under way too; UserError if no real
    server can be reached."""
    settings = sections.load(root).schedule
    prefect_server.require_standing_server()
    if settings.retry_forever:
        retry_forever.install()
    os.chdir(root)  # the flow works in this process's directory: no request can name another
    if exposed := prefect_server.exposure_warning():
        print(f"seqline: warning: {exposed}", file=sys.stderr, flush=True)
    with served_schedule.schedule_lock(root), prefect_server.refuse_server_errors():
        asyncio.run(_Serving(root, when).run())


class _Serving:
    def __init__(self, root: Path, when: Terms) -> None:
        self._root, self._when, self._name = root, when, events.deployment_name(root)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        # none begins early
        runner = Runner(name=self._name, limit=1, query_seconds=_POLL_SECONDS, prefetch_seconds=0)
        deployment = await self._deploy(runner)
        self._begin()
        running = asyncio.create_task(runner.start())
        while not runner.started and not running.done():
            await asyncio.sleep(0.05)
        loop = asyncio.get_running_loop()
        # after the runner set its own, which ends it in the middle
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        beside = [self._repeat(lambda: self._beat(deployment), _BEAT_SECONDS)]
        if self._when.on_data_change:
            watch = events.SourceWatcher(self._root)
            beside.append(self._repeat(watch.check, self._when.every))
        tasks = [asyncio.create_task(one) for one in beside]
        print(
            f"seqline: {self._when.words}: serving {events.FLOW}/{self._name} (Ctrl-C ends it)",
            flush=True,
        )
        told = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({running, told, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        # by a fault of ours: better no schedule than half a one
        broken = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        if self._stopping.is_set() or broken:
            await runner.astop()
        await running
        for task in broken:
            task.result()
        served_schedule.write(self._root, replace(self._served, ended=journal.timestamp()))

    async def _deploy(self, runner: Runner) -> UUID:
        """Create the deployment, or bring the one of before level: with this schedule alone, and
        active."""
        return await runner.aadd_flow(
            retrain,
            name=self._name,
            schedules=[self._when.schedule] if self._when.schedule else [],
            paused=False,
            triggers=[events.trigger(self._name)] if self._when.on_data_change else [],
            parameters={"jobs": self._when.jobs},
            description=f"Retraining of {self._root}: {self._when.words}.",
            tags=["seqline"],
        )

    def _begin(self) -> None:
        """Say what was missed while nobody served, and write down that now somebody does."""
        before, records, now = (
            served_schedule.read(self._root),
            journal.read(self._root),
            journal.timestamp(),
        )
        late = (
            served_schedule.missed_runs(self._root, before, records, datetime.now(UTC))
            if before
            else []
        )
        if late:
            print(
                f"seqline: {len(late)} runs were due since {late[0]} and did not begin", flush=True
            )
        self._served = served_schedule.ServedSchedule(
            words=self._when.words, pid=os.getpid(), since=now, seen=now, ended="", due=tuple(late)
        )
        served_schedule.write(self._root, self._served)

    async def _beat(self, deployment: UUID) -> None:
        """Write down that this process lives, and which runs the server will start next."""
        records, now = journal.read(self._root), datetime.now(UTC)
        late = served_schedule.missed_runs(self._root, self._served, records, now)
        coming = [time for time in await _next_starts(deployment) if time not in late]
        self._served = replace(self._served, seen=journal.timestamp(), due=(*late, *coming))
        served_schedule.write(self._root, self._served)

    async def _repeat(self, do: Callable[[], Coroutine[Any, Any, None]], pause: float) -> None:
        """Do it every `pause` seconds; a server that is gone for a while, or a source, is told once
        and waited for.

        Any other fault comes out, and ends the schedule: nobody would see that a part of it has
        stopped."""
        last = ""
        while True:
            for stream in (sys.stdout, sys.stderr):
                # Prefect's runner passes on what a run prints, and would fail on a lost stream
                nobody_reads(stream)
            try:
                await do()
                last = ""
            except (UserError, *SERVER_ERRORS) as error:
                now = told(error) or type(error).__name__
                if isinstance(error, httpx.TransportError):
                    now = f"Prefect's server does not answer ({now}); no run begins until it does"
                if now != last:
                    with suppress(OSError):
                        print(f"seqline: {now}", flush=True)
                last = now
            await asyncio.sleep(pause)


async def _next_starts(deployment: UUID) -> list[str]:
    """Start times of the deployment's next runs, from the server."""
    scheduled = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    async with get_client() as client:
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment]), state=scheduled
            ),
            sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
            limit=_AHEAD,
        )
    times = [run.next_scheduled_start_time for run in runs if run.next_scheduled_start_time]
    return [time.astimezone(UTC).isoformat(timespec="seconds") for time in times]
