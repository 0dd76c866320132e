"""What Prefect's server knows of the project's deployments: runs to come, late ones, failed ones."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from pipeline.flow import events

_RECENT = 50


def told(root: Path) -> str:
    """In words, the last runs by their states, and the next one."""
    wanted = DeploymentFilter(name=DeploymentFilterName(any_=[events.deployment_name(root)]))
    with get_client(sync_client=True) as client:
        found = client.read_deployments(deployment_filter=wanted)
        if not found:
            return "it knows no schedule of this project"
        [deployment] = found
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id])),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=_RECENT,
        )
    now = datetime.now(UTC)
    past = Counter(run.state_name or "unknown" for run in runs if not _to_come(run, now))
    words = [f"{count} {name.lower()}" for name, count in past.most_common()] or ["no run yet"]
    coming = sorted(run.expected_start_time for run in runs if _to_come(run, now) and run.expected_start_time)
    paused = ["paused"] if deployment.paused else []
    later = [f"next at {coming[0].astimezone():%Y-%m-%d %H:%M:%S}"] if coming else []
    return ", ".join([*paused, *words, *later])


def _to_come(run: FlowRun, now: datetime) -> bool:
    return run.state_name == "Scheduled" and run.expected_start_time is not None and run.expected_start_time >= now
