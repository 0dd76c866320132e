"""The project's deployments on Prefect's server: scheduled, late and failed runs."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from pipeline.core import errors, git
from pipeline.flow import events
from pipeline.flow.server_errors import SERVER_ERRORS
from pipeline.tracking import describe

_RECENT = 20  # runs whose states are counted
_GRACE = timedelta(minutes=2)  # a run that is due may still be starting
# Steps that `prefect deploy` writes into `pull`: the first one where the user names none.
_SET_DIRECTORY = "prefect.deployments.steps.set_working_directory"
_CLONE = "prefect.deployments.steps.git_clone"
_BAD = (StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
_SKIPPED = "Skipped"  # by retrain.skip_due_runs, as another run does its work


class DeploymentStatus(NamedTuple):
    """Summary of deployments, and whether those without records in this folder are healthy."""

    summary: str
    healthy: bool


def status(root: Path) -> DeploymentStatus:
    """Describe each deployment of the retraining in this folder or in clones of it: the states of
    the last runs, the number of late runs, and the next run.

    `healthy` is about clones only, since the local journal covers runs in this folder. A clone's
    deployment is unhealthy if its last run failed, or if one is late while none runs.
    """
    home = describe.home(root)
    retrainings = FlowFilter(name=FlowFilterName(any_=[events.FLOW]))
    try:
        with get_client(sync_client=True) as client:
            deployments = client.read_deployments(flow_filter=retrainings)
            remotes = _remotes(home)
            local = [deployment for deployment in deployments if _is_in(home, deployment)]
            cloned = [
                deployment
                for deployment in deployments
                if deployment not in local and _is_cloned(remotes, deployment)
            ]
            statuses = [(deployment, _status(client, deployment)) for deployment in local + cloned]
    except SERVER_ERRORS as error:
        reason = errors.describe_error(error) or type(error).__name__
        return DeploymentStatus(f"its deployments could not be read: {reason}", True)

    parts = [
        f"{deployment.name}: {status.summary}" if len(statuses) > 1 else status.summary
        for deployment, status in statuses
    ]
    healthy = all(status.healthy for deployment, status in statuses if deployment in cloned)
    return DeploymentStatus(" | ".join(parts) or "it has no deployment of this project", healthy)


def _is_in(home: Path, deployment: DeploymentResponse) -> bool:
    """Return whether its runs work in the folder `home`: `seqline schedule` serves it there, or its
    `pull` steps set that working directory."""
    if deployment.name == events.deployment_name(home):
        return True
    steps = [step[_SET_DIRECTORY] for step in deployment.pull_steps or () if _SET_DIRECTORY in step]
    folder = Path(steps[-1]["directory"] if steps else deployment.path or "")
    return folder.is_absolute() and folder.resolve() == home


def _is_cloned(remotes: Sequence[str], deployment: DeploymentResponse) -> bool:
    """Return whether its workers clone one of the remotes."""
    steps = [step[_CLONE] for step in deployment.pull_steps or () if _CLONE in step]
    return any(_normalised(str(step.get("repository", ""))) in remotes for step in steps)


def _remotes(home: Path) -> list[str]:
    """Normalised addresses of the remotes of the repository in `home`."""
    rows = [line.split() for line in git.text_output(home, "remote", "-v").splitlines()]
    return [_normalised(row[1]) for row in rows if len(row) > 1]


def _normalised(address: str) -> str:
    """Host and path of a repository's address, without protocol, user, port and `.git`."""
    if "://" not in address:
        address = re.sub(r"^([^/:]+):/?", r"ssh://\1/", address)  # git@host:me/project
    parts = urlsplit(errors.redact(address))
    path = unquote(parts.path).rstrip("/").removesuffix(".git").rstrip("/")
    return f"{parts.hostname or ''}{path}"


def _status(client: SyncPrefectClient, deployment: DeploymentResponse) -> DeploymentStatus:
    begun = client.read_flow_runs(
        flow_run_filter=run_filter(deployment.id, not_any_=[StateType.SCHEDULED]),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,  # the latest first
        limit=_RECENT,
    )
    scheduled = client.read_flow_runs(
        flow_run_filter=run_filter(deployment.id, any_=[StateType.SCHEDULED]),
        sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
    )

    now = datetime.now(UTC)
    states = Counter(run.state_name or "unknown" for run in begun)
    times = [run.next_scheduled_start_time for run in scheduled if run.next_scheduled_start_time]
    late = [time for time in times if time < now]
    upcoming = [time for time in times if time >= now]

    parts = ["paused"] if deployment.paused else []
    if begun:
        counts = ", ".join(f"{count} {name.lower()}" for name, count in states.most_common())
        parts.append(f"last {len(begun)} runs: {counts}")
    if late:
        parts.append(f"{len(late)} late")
    if upcoming:
        parts.append(f"next at {upcoming[0].astimezone():%Y-%m-%d %H:%M:%S}")

    # Healthy: a run is running, or the last one completed and none is late.
    last_states = [run.state for run in begun if run.state and run.state.name != _SKIPPED]
    is_running = any(not state.is_final() for state in last_states)
    failed = last_states[:1] and last_states[0].type in _BAD
    is_late = late and min(late) < now - _GRACE
    healthy = is_running or not (failed or is_late)
    return DeploymentStatus("; ".join(parts) or "no run yet", healthy)


def run_filter(deployment_id: UUID, **types: Any) -> FlowRunFilter:
    """Filter for the deployment's runs whose state is of these types (`any_` or `not_any_`)."""
    return FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(**types)),
    )
