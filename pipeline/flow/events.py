"""The event `seqline.data.changed`: whoever sees that a source has changed emits it, and a
deployment is started by it."""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

from prefect.events import DeploymentEventTrigger, Event
from prefect.events.clients import get_events_client
from prefect.events.schemas.events import Resource

from pipeline.core.errors import refuse, shown, told
from pipeline.dag import refresh
from pipeline.flow import journal, prefect_server
from pipeline.tracking import describe

FLOW = "retrain"
DATA_CHANGED = "seqline.data.changed"
# after which a change is told again that nobody took over, its run having failed
_REPEAT_SECONDS = 3600.0


def deployment_name(root: Path) -> str:
    """The name of the project's deployment: its folder's, and something of its place, since names
    recur."""
    home = describe.home(root)
    return f"{home.name}-{hashlib.sha256(str(home).encode()).hexdigest()[:6]}"


def trigger(name: str) -> DeploymentEventTrigger:
    """Starts the deployment for every event that tells of a change in the project's sources."""
    return DeploymentEventTrigger(
        name=f"{name}: data changed",
        expect={DATA_CHANGED},
        match={"prefect.resource.id": resource(name)},
        parameters={"because": "{{ event.payload.corpora }} changed"},
    )


def resource(name: str) -> str:
    """Prefect's resource of a project's events."""
    return f"seqline.project.{name}"


async def emit(root: Path, changed: Mapping[str, str]) -> None:
    """Tell the server of the corpora that changed, and return when it has confirmed; UserError if
    it takes no events."""
    name = deployment_name(root)
    about = Resource({"prefect.resource.id": resource(name), "prefect.resource.name": name})
    event = Event(
        event=DATA_CHANGED,
        resource=about,
        payload={"corpora": ", ".join(changed), "hashes": dict(changed)},
    )
    try:
        async with get_events_client(reconnection_attempts=1, checkpoint_every=1) as client:
            await client.emit(event)
    except Exception as error:
        # websockets' own, httpx's, OSError, and a bare one where the credentials are refused
        got = (
            f"{shown(str(prefect_server.configured_url()))}, which takes no events "
            f"({told(error) or type(error).__name__})"
        )
        todo = "Events come by a websocket: see that a proxy before the server lets it pass."
        raise refuse("PREFECT_API_URL", got, "a server that takes them", todo) from error


def emit_and_wait(root: Path, changed: Mapping[str, str]) -> None:
    """`emit`, for a command; UserError if there is no server to tell."""
    prefect_server.require_standing_server()
    asyncio.run(emit(root, changed))


class SourceWatcher:
    """Looks at the sources from time to time, and emits an event once for every change that has
    come to rest; again after a while, if no flow is at work and the change was not taken over."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: Mapping[str, str] = {}
        self._told: Mapping[str, str] = {}
        self._at = 0.0

    async def check(self) -> None:
        """One look. Files may still be on their way in, so that two looks must see the same before
        it is told."""
        now = (await asyncio.to_thread(refresh.look, self._root)).changed
        if now and now == self._seen and (now != self._told or self._is_due()):
            await emit(self._root, now)
            self._told, self._at = now, time.monotonic()
            print(f"seqline: {', '.join(now)} changed", flush=True)
        self._seen = now

    def _is_due(self) -> bool:
        at_work = any(journal.is_running(self._root, record) for record in journal.read(self._root))
        return time.monotonic() - self._at > _REPEAT_SECONDS and not at_work
