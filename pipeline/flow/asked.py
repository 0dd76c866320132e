"""What Prefect's server knows of the project's deployments: runs to come, late ones, failed ones."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

from pipeline.flow import events

_RECENT = 20


def told(root: Path) -> str:
    """In words: the last runs by their states, late ones, and the next one."""
    wanted = DeploymentFilter(name=DeploymentFilterName(any_=[events.deployment_name(root)]))
    with get_client(sync_client=True) as client:
        found = client.read_deployments(deployment_filter=wanted)
        if not found:
            return "it knows no schedule of this project"
        own = FlowRunFilterDeploymentId(any_=[found[0].id])
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
    words = ["paused"] if found[0].paused else []
    words += (
        [f"last {len(begun)} runs: {', '.join(f'{n} {name.lower()}' for name, n in states.most_common())}"] if begun else []
    )
    words += [f"{len(late)} late"] if late else []
    words += [f"next at {coming[0].astimezone():%Y-%m-%d %H:%M:%S}"] if coming else []
    return "; ".join(words) or "no run yet"


def _state(**wanted: Any) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(**wanted))
