"""Estimate of the time until a run ends, from the durations of earlier runs and of this one."""

import heapq
import time
from collections.abc import Callable, Mapping
from statistics import mean

from pipeline.dag import expected_time
from pipeline.dag.graph import Plan, kind
from pipeline.flow.devices import Slots

_RUNNING_SECONDS = 1.0  # left of a stage that runs longer than expected
_FEW = 1  # stages of a kind whose duration may be a default


class TimeLeft:
    """Time until the last stage of a plan ends, when stages start as the scheduler starts them:
    `jobs` at a time, within the places of `slots`, the critical path first.

    A stage's expected duration is that of its last run here, else the mean of its kind, else a
    share of the mean training's."""

    def __init__(
        self,
        plan: Plan,
        durations: Mapping[str, float],
        jobs: int,
        slots: Slots,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._durations = dict(durations)
        self._jobs = jobs
        self._slots = slots
        self._clock = clock
        self._priority = expected_time.priorities(plan, durations)
        self._left = dict.fromkeys(plan.stale())
        self._running: dict[str, float] = {}
        self._dependents: dict[str, list[str]] = {}
        for address in self._left:
            for need in plan.needs[address]:
                self._dependents.setdefault(need, []).append(address)

    def started(self, address: str) -> None:
        """Note the start of a stage."""
        self._running[address] = self._clock()

    def ended(self, address: str, seconds: float, ok: bool) -> None:
        """Note the end of a stage. If it failed, no stage that needs it will start."""
        self._running.pop(address, None)
        self._left.pop(address, None)
        if ok:
            self._durations[address] = seconds
            return
        for blocked in self._plan.below(address):
            self._left.pop(blocked, None)

    def seconds(self) -> float | None:
        """Return the expected time from now on; None while too little is known."""
        expected = self._expected()
        return None if expected is None else self._simulate(expected)

    def _expected(self) -> dict[str, float] | None:
        """Return the duration of each stage that is left; None if several stages are left of a kind
        of which none has ever run here, and which is no share of a training."""
        known: dict[str, list[float]] = {}
        for address, seconds in self._durations.items():
            known.setdefault(kind(address), []).append(seconds)
        means = {each: mean(seconds) for each, seconds in known.items()}
        if "train" in means:
            for each, share in expected_time.SHARES_OF_TRAINING.items():
                means.setdefault(each, share * means["train"])
        unknown = [kind(address) for address in self._left if kind(address) not in means]
        if any(unknown.count(each) > _FEW for each in set(unknown)):
            return None
        return {
            address: self._durations.get(
                address, means.get(kind(address), expected_time.default_seconds(address))
            )
            for address in self._left
        }

    def _simulate(self, expected: Mapping[str, float]) -> float:
        missing = {
            address: sum(need in self._left for need in self._plan.needs[address])
            for address in self._left
        }
        ends: list[tuple[float, str]] = []  # of the running stages
        ready: dict[bool, list[tuple[float, str]]] = {True: [], False: []}  # by `limited`
        taken = 0
        for address in self._left:
            if (since := self._running.get(address)) is not None:
                rest = max(expected[address] - (self._clock() - since), _RUNNING_SECONDS)
                heapq.heappush(ends, (rest, address))
                taken += self._limited(address)
            elif not missing[address]:
                self._push(ready, address)

        now = 0.0
        while True:
            # Start what is ready, the longest path first.
            while len(ends) < self._jobs:
                heaps = [ready[False]] + ([ready[True]] if taken < self._slots.places else [])
                heap = min(filter(None, heaps), default=None)
                if heap is None:
                    break
                _, address = heapq.heappop(heap)
                heapq.heappush(ends, (now + expected[address], address))
                taken += self._limited(address)

            if not ends:
                return now
            now, address = heapq.heappop(ends)
            taken -= self._limited(address)
            for dependent in self._dependents.get(address, ()):
                if dependent in missing:
                    missing[dependent] -= 1
                    if not missing[dependent]:
                        self._push(ready, dependent)

    def _limited(self, address: str) -> bool:
        return self._slots.needs_place(kind(address))

    def _push(self, ready: Mapping[bool, list[tuple[float, str]]], address: str) -> None:
        heapq.heappush(ready[self._limited(address)], (-self._priority[address], address))


def in_words(seconds: float) -> str:
    """Return a duration as a person estimates it: `40 s`, `3 min`, `2 h 10 min`."""
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
