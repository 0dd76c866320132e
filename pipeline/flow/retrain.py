"""The flow `retrain`: pull data, bring the DAG up to date, evaluate challengers, publish, notify.

Whatever fails on the way, the champions stay: an alias moves only after a recorded decision. If
nothing changed, the flow takes seconds.
"""

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
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled, Completed, Failed

from pipeline import tracking
from pipeline.core import params
from pipeline.core.errors import UserError, describe_error, printable, refuse
from pipeline.dag import refresh
from pipeline.dag.project_lock import flow_lock
from pipeline.flow import (
    MOST_JOBS,
    challenge,
    deployments,
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

# Prefect neither caches nor repeats a step: DVC and the registry know what is done already.
_STEP: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False, "retries": 0}
_LONGEST_REASON = 200  # characters of the reason that a request gives


class RetrainingFailed(Exception):
    """A retraining that did not complete; the reasons are in its summary."""


@dataclass(slots=True)
class Progress:
    """Lines of the summary, whether any output or decision is new, and the new champions."""

    lines: list[str] = field(default_factory=list)
    changed: bool = False
    promoted: list[str] = field(default_factory=list)

    @property
    def event(self) -> notify.Event:
        """The event of a retraining that completed."""
        if self.promoted:
            return "promoted"
        return "kept" if self.changed else "nothing"


@flow(
    name="retrain",
    flow_run_name=lambda: _one_line(flow_run.get_parameters().get("because", "")),
    retries=0,
    persist_result=False,
)
def retrain(jobs: int | None = None, because: str = "on schedule") -> State[Any]:
    """Retrain the project in the working directory, `jobs` stages at a time (null for one per
    core).

    A request to Prefect's server may give any parameters: `jobs` has bounds, and `because` is only
    shown."""
    try:
        root = project_folder.folder()
        if jobs is not None and not 1 <= jobs <= MOST_JOBS:
            raise refuse("jobs", jobs, f"1 to {MOST_JOBS}, or null for one per core")
    except UserError as error:
        get_run_logger().error(str(error))
        return Failed(message=str(error))

    because = _one_line(because)
    is_served = deployment.id is not None
    # `seqline retrain` calls the flow with the lock taken.
    lock: AbstractContextManager[None] = flow_lock(root, wait=True) if is_served else nullcontext()
    with lock, journal.record_flow(root, "retrain", because) as record:
        progress = Progress()
        settings = None
        event: notify.Event = "failed"
        try:
            settings = sections.load(root)
            # Before hours of training: challengers could not be evaluated.
            params.require_test(root / "params.yaml")
            if is_served:
                skip_due_runs(UUID(str(deployment.id)), UUID(str(flow_run.id)))
            run_steps(root, settings, jobs or devices.cores(), progress)
            event = progress.event
        except (UserError, RetrainingFailed) as error:
            progress.lines += [str(error)] if str(error) else []
        except Exception as error:
            # A fault of ours: notify as for any failure, and raise it.
            progress.lines.append(f"{type(error).__name__}: {describe_error(error)}")
            run_notify_command(root, settings, event, progress)
            raise
        run_notify_command(root, settings, event, progress)
        record.state = event
        record.summary = "\n".join(progress.lines)

    get_run_logger().info(record.summary)
    if is_served:
        print(f"seqline: {because}: {record.summary}", flush=True)
    return (Failed if event == "failed" else Completed)(message=record.summary)


def _one_line(text: Any) -> str:
    """Return the text in one short line without control characters, for records and terminals."""
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 3] + "..."


def run_steps(root: Path, settings: Sections, jobs: int, progress: Progress) -> None:
    """Run all steps. RetrainingFailed if a stage failed; also if a challenger evaluation failed,
    but only after the other evaluations and the publishing."""
    # Publish an earlier retraining's results first, while dvc.lock still holds their hashes.
    if pending_publish.read(root) is not None:
        publish_pending(root, settings.publish, progress, earlier=True)

    progress.lines += pull_new_data(root)
    was_interrupted = pending_publish.begin(root)
    outcome = reproduce(root, (), jobs)
    progress.lines.append(outcome.summary())
    if not outcome.ok:
        raise RetrainingFailed
    progress.changed = outcome.changed_outputs

    # An interrupted retraining may have left outputs that a user's `dvc repro` completed since.
    unpublished = progress.changed or was_interrupted
    if unpublished:
        pending_publish.add(root)  # before any further step can fail
    pending_publish.end(root)
    if unpublished and os.environ.get("SEQLINE_TRACKING") != "off":
        progress.lines.append(sync_mlflow(root))

    all_evaluated = evaluate_challengers(root, progress)
    # A failed evaluation may have promoted its challenger before it failed.
    if progress.changed or unpublished or not all_evaluated:
        pending_publish.add(root)
        publish_pending(root, settings.publish, progress, earlier=False)
    if not all_evaluated:
        raise RetrainingFailed


def evaluate_challengers(root: Path, progress: Progress) -> bool:
    """Evaluate the challenger of every registered model; return whether all evaluations completed.
    After a failed one the others still run."""
    completed = True
    for name, runs in challenge.runs_by_model(root).items():
        try:
            verdict = evaluate_challenger.with_options(task_run_name=name)(root, name, runs)
        except (UserError, *SERVER_ERRORS) as error:
            reason = describe_error(error) or type(error).__name__
            progress.lines.append(f"FAILED challenger evaluation of {name}: {reason}")
            completed = False
            continue
        progress.lines.append(verdict.line)
        progress.changed = progress.changed or verdict.event in ("promoted", "kept")
    return completed


def publish_pending(
    root: Path, settings: publish.Publish, progress: Progress, earlier: bool
) -> None:
    """Publish what is pending: results of this retraining or, if `earlier`, of one before it that
    was interrupted or failed to publish them."""
    champions, result = publish_results(root, settings)
    progress.lines += result.lines
    if earlier and not result.succeeded:
        return
    progress.promoted += champions
    if earlier:
        progress.lines += [
            f"{champion} is champion since an earlier retraining, and is published now"
            for champion in champions
        ]


@task(name="refresh", **_STEP)
def pull_new_data(root: Path) -> list[str]:
    """Pull new data of the sources that are not pinned; return lines for the summary."""
    result = refresh.refresh(root)
    return [
        *result.troubles,
        *(
            f"{name}: its source has changed, and its new data were pulled"
            for name in result.changed
        ),
    ]


@task(name="register", **_STEP)
def sync_mlflow(root: Path) -> str:
    """Record in MLflow what it lacks, and register versions of the evaluated runs."""
    return tracking.sync(root)


@task(name="evaluate challenger", **_STEP)
def evaluate_challenger(root: Path, name: str, runs: list[str]) -> Verdict:
    """Compare champion and challenger of `name`; show the decision as a Prefect artifact."""
    verdict = challenge.evaluate(root, name, runs)
    get_run_logger().info(verdict.line)
    if not verdict.markdown:
        return verdict

    key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    try:
        create_markdown_artifact(verdict.markdown, key=key, description=verdict.line)
    except SERVER_ERRORS as error:
        # The decision stands: MLflow has its record.
        problem = f"{name}: the decision is missing on Prefect's pages: {describe_error(error)}"
        return replace(verdict, line=f"{verdict.line}\n{problem}")
    return verdict


@task(name="publish", **_STEP)
def publish_results(
    root: Path, settings: publish.Publish
) -> tuple[list[str], publish.PublishResult]:
    """Publish to DVC's remote and git, as flow.yaml says; return the champions among the results.
    If a step fails, the results stay pending for the next retraining."""
    champions, replaced = pending_publish.champions(root)
    message = f"Retrained: {', '.join(champions)} champion" if champions else "Retrained"
    result = publish.publish(root, settings, champions, message)
    if result.succeeded:
        pending_publish.clear(root)
    too_late = [
        f"{champion} was promoted but not published: dvc.lock now holds another model"
        for champion in replaced
    ]
    return champions, publish.PublishResult([*too_late, *result.lines], result.succeeded)


def run_notify_command(
    root: Path, settings: Sections | None, event: notify.Event, progress: Progress
) -> None:
    """Run the command `notify` of flow.yaml; a failure adds a line to the summary."""
    if settings is not None:
        summary = "\n".join(progress.lines)
        problem = notify.run_command(root, settings.notify, event, summary)
        progress.lines += [problem] if problem else []


def skip_due_runs(deployment_id: UUID, current: UUID) -> None:
    """Cancel the deployment's other runs that are due: the run `current` does all their work."""
    skipped: State[Any] = Cancelled(
        name="Skipped", message=f"skipped, as the run {current} does its work"
    )
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(
            flow_run_filter=deployments.run_filter(deployment_id, any_=[StateType.SCHEDULED]),
            sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
        ):
            start = run.next_scheduled_start_time
            if run.id != current and start and start <= datetime.now(UTC):
                client.set_flow_run_state(run.id, skipped, force=True)
