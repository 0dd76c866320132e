"""What Prefect's server knows of the project's deployments: runs to come, late ones, failed ones."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
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
from prefect.exceptions import PrefectException

from pipeline import errors
from pipeline.flow import events
from pipeline.tracking import describe

_RECENT = 20


_WORKPLACE = "prefect.deployments.steps.set_working_directory"  # what `prefect deploy` writes where no `pull` is named


def told(root: Path) -> str:
    """In words, for every deployment of the retraining in this folder: the last runs by state, late ones, and the next."""
    try:
        with get_client(sync_client=True) as client:
            wanted = FlowFilter(name=FlowFilterName(any_=[events.FLOW]))
            found = [one for one in client.read_deployments(flow_filter=wanted) if _is_of(describe.home(root), one)]
            words = [(f"{one.name}: " if len(found) > 1 else "") + _told(client, one) for one in found]
    except (httpx.HTTPError, PrefectException, OSError) as error:
        return f"it could not be asked: {errors.told(error) or type(error).__name__}"
    return " | ".join(words) or "it knows no schedule of this project"


def _is_of(home: Path, deployment: DeploymentResponse) -> bool:
    """Whether its runs work in the folder `home`; one whose workers clone the project works in none that is known here."""
    places = [step[_WORKPLACE]["directory"] for step in deployment.pull_steps or () if _WORKPLACE in step]
    place = Path(*places[-1:] or [deployment.path or ""], str(deployment.parameters.get("root", ".")))
    return place.is_absolute() and place.resolve() == home


def _told(client: SyncPrefectClient, deployment: DeploymentResponse) -> str:
    own = FlowRunFilterDeploymentId(any_=[deployment.id])
    begun = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(deployment_id=own, state=_state(not_any_=[StateType.SCHEDULED])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=_RECENT,
    )
    waiting = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(deployment_id=own, state=_state(any_=[StateType.SCHEDULED])),
        sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
    )
    now, states = datetime.now(UTC), Counter(run.state_name or "unknown" for run in begun)
    times = [run.next_scheduled_start_time for run in waiting if run.next_scheduled_start_time]
    late, coming = [time for time in times if time < now], [time for time in times if time >= now]
    words = ["paused"] if deployment.paused else []
    words += (
        [f"last {len(begun)} runs: {', '.join(f'{n} {name.lower()}' for name, n in states.most_common())}"] if begun else []
    )
    words += [f"{len(late)} late"] if late else []
    words += [f"next at {coming[0].astimezone():%Y-%m-%d %H:%M:%S}"] if coming else []
    return "; ".join(words) or "no run yet"


def _state(**wanted: Any) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(**wanted))
