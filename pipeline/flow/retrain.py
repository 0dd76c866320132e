"""`retrain`: take over new data, bring the DAG up to date, let what was trained challenge the
champions, publish, tell.

Whatever fails on the way, the champions stay: an alias moves only after a decision that is on
record. Where nothing changed there is nothing to do, which takes seconds."""

import os
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled, Completed, Failed

from pipeline import tracking
from pipeline.core.errors import UserError, printable, refuse, told
from pipeline.dag import refresh
from pipeline.dag.project_lock import alone
from pipeline.flow import (
    MOST_JOBS,
    challenge,
    devices,
    journal,
    notify,
    pending_publish,
    project_folder,
    publish,
    sections,
)
from pipeline.flow.challenge import Verdict
from pipeline.flow.prefect_flow import reproduce
from pipeline.flow.sections import Sections
from pipeline.flow.server_errors import SERVER_ERRORS

_STEP: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False, "retries": 0}
_MOST_LETTERS = 200  # of the reason that a request gives


class RetrainingFailed(Exception):
    """A retraining that went no further; what it came to is in its summary."""


@dataclass(slots=True)
class Progress:
    """Progress of a retraining: lines for the summary, whether anything was made or decided, and
    the new champions."""

    lines: list[str] = field(default_factory=list)
    changed: bool = False
    promoted: list[str] = field(default_factory=list)

    @property
    def event(self) -> notify.Event:
        """The word for it, if all went well."""
        return "promoted" if self.promoted else "kept" if self.changed else "nothing"


def _run_name() -> str:
    return _one_line(flow_run.get_parameters().get("because", ""))


@flow(name="retrain", flow_run_name=_run_name, retries=0, persist_result=False)
def retrain(jobs: int | None = None, because: str = "on schedule") -> State[Any]:
    """Retrain the project in the working directory, `jobs` stages at a time (null for one per
    core).

    A request to Prefect's server may give any parameters: `jobs` has bounds, and `because` is only
    shown."""
    try:
        home = project_folder.folder()
        if jobs is not None and not 1 <= jobs <= MOST_JOBS:
            raise refuse("jobs", jobs, f"1 to {MOST_JOBS}, or null for one per core")
    except UserError as error:
        get_run_logger().error(str(error))
        return Failed(message=str(error))
    because, served = _one_line(because), deployment.id is not None
    # else the command holds it
    held: AbstractContextManager[None] = alone(home, wait=True) if served else nullcontext()
    with held, journal.record_flow(home, "retrain", because) as record:
        done, rules = Progress(), None
        event: notify.Event = "failed"
        try:
            rules = sections.load(home)
            if served:
                skip_due_runs(UUID(str(deployment.id)), UUID(str(flow_run.id)))
            run_steps(home, rules, jobs or devices.cores(), done)
            event = done.event
        except (UserError, RetrainingFailed) as error:
            done.lines += [str(error)] if str(error) else []
        except Exception as error:
            # a fault of ours is reported to the notified command too, and raised again
            done.lines.append(f"{type(error).__name__}: {told(error)}")
            run_notify_command(home, rules, event, done)
            raise
        run_notify_command(home, rules, event, done)
        record.state, record.summary = event, "\n".join(done.lines)
    get_run_logger().info(record.summary)
    if served:
        print(f"seqline: {because}: {record.summary}", flush=True)
    return (Failed if event == "failed" else Completed)(message=record.summary)


def _one_line(text: Any) -> str:
    """Return the text in one short line without control characters, for records and terminals."""
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= _MOST_LETTERS else line[: _MOST_LETTERS - 3] + "..."


def run_steps(home: Path, rules: Sections, jobs: int, done: Progress) -> None:
    """`RetrainingFailed` if a stage or a contest failed, a contest after all else is
    done."""
    # while dvc.lock is still that of the retraining that made it
    if pending_publish.read(home) is not None:
        publish_pending(home, rules.publish, done, earlier=True)
    done.lines += pull_new_data(home)
    cut_off = pending_publish.begin(home)
    outcome = reproduce(home, (), jobs)
    done.lines.append(outcome.summary())
    if not outcome.ok:
        raise RetrainingFailed
    done.changed = outcome.changed_outputs
    # by a stage that failed, say, which somebody has mended by hand since
    owed = done.changed or cut_off
    if owed:
        pending_publish.add(home)  # whatever fails from here on
    pending_publish.end(home)
    if owed and os.environ.get("SEQLINE_TRACKING") != "off":
        done.lines.append(sync_mlflow(home))
    decided = evaluate_challengers(home, done)
    if done.changed or owed or not decided:  # a contest may have failed after its promotion
        pending_publish.add(home)
        publish_pending(home, rules.publish, done, earlier=False)
    if not decided:
        raise RetrainingFailed


def evaluate_challengers(home: Path, done: Progress) -> bool:
    """All contests; whether every one came to its end. One that breaks down keeps no other from
    being held."""
    well = True
    for name, runs in challenge.runs_by_model(home).items():
        try:
            verdict = evaluate_challenger.with_options(task_run_name=name)(home, name, runs)
        except (UserError, *SERVER_ERRORS) as error:
            done.lines.append(f"FAILED contest of {name}: {told(error) or type(error).__name__}")
            well = False
            continue
        done.lines.append(verdict.line)
        done.changed = done.changed or verdict.event in ("promoted", "kept")
    return well


def publish_pending(home: Path, rules: publish.Publish, done: Progress, earlier: bool) -> None:
    """Publish what there is: of this retraining or, `earlier`, of one that was cut off before it,
    or failed in it."""
    champions, sent = publish_results(home, rules)
    done.lines += sent.lines
    if not earlier or sent.succeeded:
        done.promoted += champions
        done.lines += [
            f"{one} is champion since an earlier retraining, and is published now"
            for one in champions
            if earlier
        ]


@task(name="refresh", **_STEP)
def pull_new_data(home: Path) -> list[str]:
    """New data of the sources that are not pinned; what there is to say of it."""
    found = refresh.refresh(home)
    return [
        *found.troubles,
        *(f"{name}: its source has changed and was taken over" for name in found.changed),
    ]


@task(name="register", **_STEP)
def sync_mlflow(home: Path) -> str:
    """Bring MLflow level, versions of what was evaluated included."""
    return tracking.sync(home)


@task(name="contest", **_STEP)
def evaluate_challenger(home: Path, name: str, runs: list[str]) -> Verdict:
    """Champion and challenger of `name`; the decision is an artifact on Prefect's pages too."""
    verdict = challenge.evaluate(home, name, runs)
    get_run_logger().info(verdict.line)
    if verdict.markdown:
        key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        try:
            create_markdown_artifact(verdict.markdown, key=key, description=verdict.line)
        except SERVER_ERRORS as error:  # the decision is taken, and MLflow has its record
            return replace(
                verdict, line=f"{verdict.line}\n{name}: not on Prefect's pages: {told(error)}"
            )
    return verdict


@task(name="publish", **_STEP)
def publish_results(home: Path, rules: publish.Publish) -> tuple[list[str], publish.PublishResult]:
    """To DVC's remote and into git, as flow.yaml has it; the champions among it. What fails is left
    to the next one."""
    champions, gone = pending_publish.champions(home)
    message = f"Retrained: {', '.join(champions)} champion" if champions else "Retrained"
    sent = publish.publish(home, rules, champions, message)
    if sent.succeeded:
        pending_publish.clear(home)
    late = [
        f"{one} was promoted and not published, and dvc.lock holds another model by now"
        for one in gone
    ]
    return champions, publish.PublishResult([*late, *sent.lines], sent.succeeded)


def run_notify_command(
    home: Path, rules: Sections | None, event: notify.Event, done: Progress
) -> None:
    """Tell those whom flow.yaml names; a failure in that is a line more."""
    if rules is not None and (
        trouble := notify.run_command(home, rules.notify, event, "\n".join(done.lines))
    ):
        done.lines.append(trouble)


def skip_due_runs(deployment_id: UUID, own: UUID) -> None:
    """Take back the deployment's other runs that are due: this one looks at the sources now and
    does all that they would."""
    waiting = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(
            flow_run_filter=waiting, sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC
        ):
            if (
                run.id != own
                and run.next_scheduled_start_time
                and run.next_scheduled_start_time <= datetime.now(UTC)
            ):
                skipped: State[Any] = Cancelled(
                    name="Skipped", message=f"another run stands in for it: {own}"
                )
                client.set_flow_run_state(run.id, skipped, force=True)
