"""The project's deployments on Prefect's server: scheduled, late and failed runs."""

import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from pipeline.core import errors
from pipeline.flow import events
from pipeline.flow.server_errors import SERVER_ERRORS
from pipeline.tracking import describe

_RECENT = 20
_GRACE = timedelta(minutes=2)  # a run that is due may still be on its way
# what `prefect deploy` writes where no `pull` is named
_WORKPLACE = "prefect.deployments.steps.set_working_directory"
_CLONE = "prefect.deployments.steps.git_clone"
_BAD = (StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
_NO_RUN = "Skipped"  # retrain.stand_in: cancelled, since another does all that it would


class DeploymentStatus(NamedTuple):
    """State of the server, and of deployments without records in this folder."""

    summary: str
    healthy: bool


def status(root: Path) -> DeploymentStatus:
    """For every deployment of the retraining in this folder or in clones: the last runs by state,
    late ones, and the next.

    Of runs in this folder the records at hand tell whether all is well; those of a clone are gone
    with it, so that it is not where the last run came to no good end, or one is late while none is
    at work."""
    try:
        with get_client(sync_client=True) as client:
            home, wanted = describe.home(root), FlowFilter(name=FlowFilterName(any_=[events.FLOW]))
            found, addresses = client.read_deployments(flow_filter=wanted), _addresses(home)
            here = [one for one in found if _is_in(home, one)]
            cloned = [one for one in found if one not in here and _is_cloned(addresses, one)]
            all_told = [(one, _told(client, one)) for one in [*here, *cloned]]
    except SERVER_ERRORS as error:
        return DeploymentStatus(
            f"it could not be asked: {errors.told(error) or type(error).__name__}", True
        )
    words = [(f"{one.name}: " if len(all_told) > 1 else "") + how.summary for one, how in all_told]
    well = all(how.healthy for one, how in all_told if one in cloned)
    return DeploymentStatus(" | ".join(words) or "it knows no schedule of this project", well)


def _is_in(home: Path, deployment: DeploymentResponse) -> bool:
    """Return whether its runs work in the folder `home`: `seqline schedule` serves it there, or a
    worker is sent there."""
    if deployment.name == events.deployment_name(home):
        return True
    places = [
        step[_WORKPLACE]["directory"] for step in deployment.pull_steps or () if _WORKPLACE in step
    ]
    place = Path(*places[-1:] or [deployment.path or ""])
    return place.is_absolute() and place.resolve() == home


def _is_cloned(addresses: Sequence[str], deployment: DeploymentResponse) -> bool:
    """Return whether its workers clone what lies at one of the addresses."""
    steps = [step[_CLONE] for step in deployment.pull_steps or () if _CLONE in step]
    return any(_plain(str(step.get("repository", ""))) in addresses for step in steps)


def _addresses(home: Path) -> list[str]:
    """Addresses of the remotes of the repository in `home`."""
    try:
        done = subprocess.run(
            ["git", "remote", "-v"],
            cwd=home,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return []
    return [
        _plain(words[1]) for words in map(str.split, done.stdout.splitlines()) if len(words) > 1
    ]


def _plain(address: str) -> str:
    """The address without what does not tell where it is: how it is reached, who asks, and how it
    is written."""
    if "://" not in address:
        address = re.sub(r"^([^/:]+):/?", r"ssh://\1/", address)  # git@host:me/project
    parts = urlsplit(errors.shown(address))
    place = unquote(parts.path).rstrip("/").removesuffix(".git").rstrip("/")
    return f"{parts.hostname or ''}{place}"


def _told(client: SyncPrefectClient, deployment: DeploymentResponse) -> DeploymentStatus:
    own = FlowRunFilterDeploymentId(any_=[deployment.id])
    begun = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=own, state=_state(not_any_=[StateType.SCHEDULED])
        ),
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
        [
            (
                f"last {len(begun)} runs: "
                f"{', '.join(f'{n} {name.lower()}' for name, n in states.most_common())}"
            )
        ]
        if begun
        else []
    )
    words += [f"{len(late)} late"] if late else []
    words += [f"next at {coming[0].astimezone():%Y-%m-%d %H:%M:%S}"] if coming else []
    return DeploymentStatus(
        "; ".join(words) or "no run yet", _is_well(begun, bool(late) and min(late) < now - _GRACE)
    )


def _is_well(begun: Sequence[FlowRun], late: bool) -> bool:
    """Of the runs that began, the latest first: whether the last came to its end, and none is due
    while none is at work."""
    states = [run.state for run in begun if run.state is not None and run.state.name != _NO_RUN]
    at_work = any(not state.is_final() for state in states)
    ended = [state.type for state in states if state.is_final()]
    return at_work or not (late or any(state in _BAD for state in ended[:1]))


def _state(**wanted: Any) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(**wanted))
