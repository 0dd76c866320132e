"""One stage: started, watched, its log passed on, held to its time, tried again where that can
help, and ended whole."""

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pipeline.dag import process_groups, run_settings
from pipeline.dag.fork_client import LOST, Child
from pipeline.dag.graph import kind

State = Literal["cached", "ran", "failed", "blocked", "cancelled"]

_POLL_SECONDS = 0.2
_UNCHANGED = re.compile(r"Stage '[^']+' (?:didn't change, skipping|is cached - skipping run)")
# dvc/rwlock.py, dvc/lock.py
_BUSY = re.compile(r"is busy, it is being blocked by|Unable to acquire lock")
# pipeline/download/fetch.py, after its own attempts
_NETWORK = re.compile(r"^seqline: .*, \d+ times\b", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Result of a stage. `cached`: nothing had to be done. `why`: for one that failed or was
    blocked, in a line."""

    state: State
    seconds: float = 0.0
    log: Path | None = None
    why: str = ""


class Starter(Protocol):
    """Interface that starts stages in the project `root`: `ForkServer`, or `forced.Forced`."""

    root: Path

    def start(self, address: str, log: Path, env: Mapping[str, str]) -> Child:
        """The stage in a process group of its own, its output added to `log`."""


class Log:
    """A stage's log file, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._file = path.open("rb")
        self._rest = b""
        self.text = ""

    def lines(self, last: bool = False) -> list[str]:
        """Return the output since the last call, whole lines only unless it is the last time."""
        *whole, self._rest = (self._rest + self._file.read()).split(b"\n")
        if last:
            whole, self._rest = [*whole, self._rest], b""
            self._file.close()
        found = [line.decode("utf-8", "replace").rstrip("\r") for line in whole]
        self.text += "".join(f"{line}\n" for line in found)
        return found


def run(
    workers: Starter,
    address: str,
    env: Mapping[str, str],
    log: Path,
    rules: run_settings.Run,
    stop: threading.Event,
    tell: Callable[[str], None],
) -> Result:
    """Run the stage `address`; `tell` gets its log line by line. Setting `stop` ends it and all
    that it started."""
    began, attempt = time.monotonic(), 0
    while True:
        status, said, why = _once(
            workers, address, env, log, rules.time_limits.get(kind(address)), stop, tell
        )
        took = time.monotonic() - began
        if stop.is_set() and status != 0:
            return Result(state="cancelled", seconds=took, log=log)
        if status == 0:
            return Result(
                state="cached" if _UNCHANGED.search(said) else "ran", seconds=took, log=log
            )
        if why or attempt == rules.retries or not _may_pass(address, said):
            return Result(state="failed", seconds=took, log=log, why=why or reason(said, status))
        pause = rules.retry_seconds * 2**attempt
        attempt += 1
        tell(
            f"seqline: attempt {attempt} failed ({reason(said, status)}); the next one in "
            f"{pause:g} s"
        )
        stop.wait(pause)


def _once(
    workers: Starter,
    address: str,
    env: Mapping[str, str],
    path: Path,
    limit: int | None,
    stop: threading.Event,
    tell: Callable[[str], None],
) -> tuple[int, str, str]:
    """Exit status, what was said, and why it was ended by us if it was."""
    log, began, why, status = Log(path), time.monotonic(), "", None
    log.lines()
    log.text = ""  # of an earlier attempt
    child = workers.start(address, path, env)
    try:
        while (status := child.wait(_POLL_SECONDS)) is None and not stop.is_set():
            _pass_on(log.lines(), tell)
            if limit is not None and time.monotonic() - began > limit:
                why = (
                    f"{address}: got {limit} s of run.time_limits; expected it to end. It was "
                    "ended."
                )
                break
    finally:
        if child.known():
            process_groups.end(workers.root, child.group, gently=status is None)
        if status is None:
            child.wait(process_groups.END_SECONDS)
        _pass_on(log.lines(last=True), tell)
    return (LOST if child.status is None else child.status), log.text, why


def _pass_on(lines: list[str], tell: Callable[[str], None]) -> None:
    for line in lines:
        if line.strip():
            tell(line)


def _may_pass(address: str, said: str) -> bool:
    """Return whether another attempt can help: the network failed, or another dvc held a lock.
    Never for a mistake."""
    if _BUSY.search(said):
        return True
    return kind(address) == "download" and _NETWORK.search(said) is not None


def reason(said: str, status: int) -> str:
    """The line that says what went wrong: the stage's own, else DVC's, else the last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    own = [line.removeprefix("seqline: ") for line in lines if line.startswith("seqline: ")]
    if own:
        return own[-1]
    if status == LOST:
        return "the process that runs DVC died"
    if status < 0:
        return f"dvc was killed by signal {-status}"
    dvc = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    # the end of a traceback
    errors = [line for line in lines if re.match(r"\w*(?:Error|Exception)\b", line)]
    return (errors or dvc or lines or [f"exit status {status}"])[-1]
