"""Polling of Prefect's server without a limit of retries, in place of Prefect's own.

Prefect's runner polls in `critical_service_loop`, which raises after three failed requests in a
row. A restart of the server would so end `seqline schedule`, and the training under way. Prefect
has no setting for this limit, so `install` replaces the function in the two private modules that a
runner calls it from.

No other module uses private Prefect names. `schedule.retry_forever: false` in flow.yaml leaves
Prefect's functions as they are.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
from prefect._internal import observers
from prefect.runner import _scheduled_run_poller

from pipeline.flow.server_errors import NOT_PREFECT

# The first watches for runs that a user cancels, the second for runs that are due.
_MODULES = (observers, _scheduled_run_poller)


def install() -> None:
    """Let every runner of this process poll its server forever."""
    for module in _MODULES:
        # `vars` alone would add the name to a Prefect that has renamed its function.
        assert hasattr(module, "critical_service_loop"), f"{module.__name__}: another Prefect"
        vars(module)["critical_service_loop"] = _poll_forever


async def _poll_forever(
    workload: Callable[[], Coroutine[Any, Any, Any]], interval: float, **_: Any
) -> None:
    """Stand-in for Prefect's `critical_service_loop`: await `workload` every `interval` seconds.

    As there, a status below 500, which is the server's refusal, raises.
    """
    while True:
        try:
            await workload()
        except (httpx.TransportError, *NOT_PREFECT):
            pass  # The schedule's heartbeat fails for the same reason, and prints it.
        except httpx.HTTPStatusError as error:
            if error.response.status_code < 500:
                raise
        await asyncio.sleep(interval)
