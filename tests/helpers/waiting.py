"""Waiting for what other processes do, without a bound that a slow machine could reach."""

import time
from collections.abc import Callable
from typing import Any

HANG_SECONDS = 600.0  # a test that waits so long has hung; no measure of anything
_POLL_SECONDS = (0.05, 0.5)  # at first, and at most: a question may cost a server's time
_POLL_SHARE = 0.02  # of the time that has passed


def wait_for(seen: Callable[[], Any], what: str = "an answer that is true") -> Any:
    """What `seen` returns, once it is true; a file that another process writes is not true before
    it is whole."""
    began = time.monotonic()
    while not (found := seen()):
        waited = time.monotonic() - began
        assert waited < HANG_SECONDS, f"waited in vain for {what}"
        least, most = _POLL_SECONDS
        time.sleep(min(max(least, _POLL_SHARE * waited), most))
    return found
