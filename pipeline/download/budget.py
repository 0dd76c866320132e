"""Budget of one source: seconds, bytes and requests that its download may take in all, restarts
included.

The spending is recorded in the work folder, next to the partial downloads, under a digest of the
source's section. It is deleted after a complete download. Several processes that download the same
source spend from the same budget."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path

from pipeline.core import config
from pipeline.core.atomic import write_file
from pipeline.core.errors import name_file_in_errors, refuse
from pipeline.core.locks import file_lock
from pipeline.download.failures import BudgetSpent

SECTION = "download"
_SECONDS_BETWEEN_SAVES = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """The section `download` of flow.yaml: the budget of each source (`corpora.<name>.source`).

    `seconds` count only while a request is open, not during pauses or between runs. `bytes` are the
    received bytes, with headers and encryption. `requests` count each attempt, range and
    redirect."""

    seconds: float
    bytes: int
    requests: int

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise refuse(field.name, getattr(self, field.name), "more than 0")


# The values of the flow.yaml that comes with seqline.
SHIPPED = Budget(seconds=5400.0, bytes=10_000_000_000, requests=1000)


def load(root: Path) -> Budget:
    """Load the section `download` of the project's flow.yaml; the shipped values without the
    file."""
    flow = root / "flow.yaml"
    if not flow.exists():
        return SHIPPED
    return config.load(Budget, config.section(flow, SECTION), SECTION)


@dataclass(slots=True)
class _Costs:
    """Spent seconds, bytes and requests."""

    seconds: float = 0.0
    bytes: int = 0
    requests: int = 0

    def __add__(self, extra: "_Costs") -> "_Costs":
        return _Costs(
            self.seconds + extra.seconds, self.bytes + extra.bytes, self.requests + extra.requests
        )


class Account:
    """Spending of the source `source` (its corpus and its section as text) and its budget.

    The methods that spend raise `BudgetSpent` once the budget is spent.
    """

    def __init__(self, budget: Budget, work: Path, source: str) -> None:
        self._budget = budget
        self._path = work / f"{sha256(source.encode(errors='surrogateescape')).hexdigest()}.spent"
        self._saved = _read(self._path)
        self._unsaved = _Costs()
        # During an exchange: when the clock was last read.
        self._started: float | None = None
        self._saved_at = time.monotonic()

    @property
    def spent(self) -> str:
        """The first key of the budget that is spent; "" if none is."""
        costs = self._costs()
        return next(
            (key for key, limit in asdict(self._budget).items() if getattr(costs, key) >= limit), ""
        )

    def advice(self) -> str:
        """Advice for a user whose budget is spent."""
        return f"Raise {SECTION}.{self.spent} in flow.yaml, or delete {self._path} to begin anew."

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Count one request, and the time until the block ends."""
        self.check()
        self._unsaved.requests += 1
        self._started = time.monotonic()
        self._save()  # before the request: a kill must not undo it
        try:
            yield
        finally:
            self._read_clock()
            self._started = None
            self._save()

    def receive(self, count: int) -> None:
        """Count received bytes."""
        self._unsaved.bytes += count
        if time.monotonic() - self._saved_at >= _SECONDS_BETWEEN_SAVES:
            self._save()
        if self._costs().bytes > self._budget.bytes:
            raise self._refusal("bytes")

    def seconds_left(self) -> float:
        """Remaining seconds, more than 0."""
        remaining = self._budget.seconds - self._costs().seconds
        if remaining <= 0:
            raise self._refusal("seconds")
        return remaining

    def check(self) -> None:
        """Raise `BudgetSpent` if the budget is spent."""
        if key := self.spent:
            raise self._refusal(key)

    def forget(self) -> None:
        """Delete the recorded spending."""
        with file_lock(self._path.with_suffix(".lock")):
            self._path.unlink(missing_ok=True)
        self._saved = _Costs()
        self._unsaved = _Costs()

    def _refusal(self, key: str) -> BudgetSpent:
        limit = getattr(self._budget, key)
        return BudgetSpent(
            f"its source's budget of {limit:{'g' if key == 'seconds' else 'd'}} {key} is spent"
        )

    def _costs(self) -> _Costs:
        running = _Costs(0.0 if self._started is None else time.monotonic() - self._started)
        return self._saved + self._unsaved + running

    def _read_clock(self) -> None:
        if self._started is not None:
            now = time.monotonic()
            self._unsaved.seconds += now - self._started
            self._started = now

    def _save(self) -> None:
        """Add unsaved costs to those in the file, which other processes may have changed."""
        self._read_clock()
        with file_lock(self._path.with_suffix(".lock")), name_file_in_errors(self._path):
            self._saved = _read(self._path) + self._unsaved
            # Not synced: after a power cut, the spending may begin anew.
            write_file(self._path, json.dumps(asdict(self._saved)).encode(), sync=False)
        self._unsaved = _Costs()
        self._saved_at = time.monotonic()


def _read(path: Path) -> _Costs:
    """Load the costs in the file; zero if it does not exist or is damaged."""
    try:
        content = json.loads(path.read_text())
        costs = _Costs(float(content["seconds"]), int(content["bytes"]), int(content["requests"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return _Costs()

    sound = math.isfinite(costs.seconds) and min(costs.seconds, costs.bytes, costs.requests) >= 0
    return costs if sound else _Costs()
