"""The event `seqline.data.changed`: emitted when a source has changed, it starts a deployment."""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

from prefect.events import DeploymentEventTrigger, Event
from prefect.events.clients import get_events_client
from prefect.events.schemas.events import Resource

from pipeline.core.errors import describe_error, redact, refuse
from pipeline.dag import refresh
from pipeline.flow import journal, prefect_server
from pipeline.tracking import describe

FLOW = "retrain"
DATA_CHANGED = "seqline.data.changed"
_REPEAT_SECONDS = 3600.0  # until an event is repeated whose run has failed


def deployment_name(root: Path) -> str:
    """Name the project's deployment by its folder's name and a hash of the path, since names
    recur."""
    home = describe.home(root)
    return f"{home.name}-{hashlib.sha256(str(home).encode()).hexdigest()[:6]}"


def trigger(name: str) -> DeploymentEventTrigger:
    """Trigger that starts the deployment for each event on the project's sources."""
    return DeploymentEventTrigger(
        name=f"{name}: data changed",
        expect={DATA_CHANGED},
        match={"prefect.resource.id": resource(name)},
        parameters={"because": "{{ event.payload.corpora }} changed"},
    )


def resource(name: str) -> str:
    """Prefect's resource id in the project's events."""
    return f"seqline.project.{name}"


async def emit(root: Path, changed: Mapping[str, str]) -> None:
    """Send the changed corpora, with their new hashes, and wait for the server's confirmation.
    UserError if it accepts no events."""
    name = deployment_name(root)
    project = Resource({"prefect.resource.id": resource(name), "prefect.resource.name": name})
    event = Event(
        event=DATA_CHANGED,
        resource=project,
        payload={"corpora": ", ".join(changed), "hashes": dict(changed)},
    )
    try:
        async with get_events_client(reconnection_attempts=1, checkpoint_every=1) as client:
            await client.emit(event)
    except Exception as error:
        # Errors of websockets and httpx, OSError, and a bare Exception for refused credentials.
        raise refuse(
            "PREFECT_API_URL",
            f"{redact(str(prefect_server.configured_url()))}, which takes no events "
            f"({describe_error(error) or type(error).__name__})",
            "a server that takes them",
            "Events come by a websocket: see that a proxy before the server lets it pass.",
        ) from error


def emit_and_wait(root: Path, changed: Mapping[str, str]) -> None:
    """Run `emit` in a command; UserError if no standing server answers."""
    prefect_server.require_standing_server()
    asyncio.run(emit(root, changed))


class SourceWatcher:
    """Debounced watch on the sources: emits one event for each change.

    The event is repeated after `_REPEAT_SECONDS` if the new data are still not pulled and no flow
    runs.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._previous: Mapping[str, str] = {}
        self._emitted: Mapping[str, str] = {}
        self._emitted_at = 0.0

    async def check(self) -> None:
        """Compare the sources with their copies; emit an event if the change is new."""
        changed = (await asyncio.to_thread(refresh.compare_sources, self._root)).changed
        # Debounce: files may still be arriving, so two checks in a row must agree.
        is_settled = changed == self._previous
        if changed and is_settled and (changed != self._emitted or self._may_repeat()):
            await emit(self._root, changed)
            self._emitted = changed
            self._emitted_at = time.monotonic()
            print(f"seqline: {', '.join(changed)} changed", flush=True)
        self._previous = changed

    def _may_repeat(self) -> bool:
        runs = any(journal.is_running(self._root, record) for record in journal.read(self._root))
        return time.monotonic() - self._emitted_at > _REPEAT_SECONDS and not runs
