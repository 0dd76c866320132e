"""Prefect's runner waits for a server that is gone, where by itself it would end after three
questions in vain.

A server is restarted now and then, and whoever serves a schedule should neither end nor end the
training under way for that. Prefect has no setting for it: the loop that asks is replaced in the
two modules that the runner uses it in."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
from prefect._internal import observers
from prefect.runner import _scheduled_run_poller

from pipeline.flow.server_errors import NO_PREFECT


def be_patient() -> None:
    """Let every runner of this process ask for ever."""
    for module in (observers, _scheduled_run_poller):
        assert hasattr(module, "critical_service_loop"), f"{module.__name__} of another Prefect"
        vars(module)["critical_service_loop"] = _ask_for_ever


async def _ask_for_ever(
    workload: Callable[[], Coroutine[Any, Any, Any]], interval: float, **_: Any
) -> None:
    """In place of Prefect's `critical_service_loop`; a question that the server answers with a
    refusal raises as it did."""
    while True:
        try:
            await workload()
        except (httpx.TransportError, *NO_PREFECT):
            pass  # told by the mark of life that fails for the same reason
        except httpx.HTTPStatusError as error:
            if error.response.status_code < 500:
                raise
        await asyncio.sleep(interval)
