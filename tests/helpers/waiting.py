"""Waiting for what other processes do, without a bound that a slow machine could reach."""

import time
from collections.abc import Callable
from typing import Any

HANG_SECONDS = 600.0  # a test that waits so long has hung; no measure of anything


def wait_for(seen: Callable[[], Any], what: str = "an answer that is true") -> Any:
    """What `seen` returns, once it is true; a file that another process writes is not true before
    it is whole."""
    until = time.monotonic() + HANG_SECONDS
    while not (found := seen()):
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.05)
    return found
