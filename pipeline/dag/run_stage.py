"""Run one stage: start it, forward its log, enforce its time limit, retry where that can help, and
end its whole process group.

Every stage of the DAG runs through `run`, in a flow (`prefect_flow`) and by force (`force_stage`).
The stages of a challenger's evaluation are no DVC stages: they run on other paths, without retries,
through `run_process` (promotion/stage_commands.py).
"""

import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.dag import process_groups, run_settings
from pipeline.dag.graph import kind
from pipeline.dag.stage_process import LOST, StageProcess, Starter

State = Literal["cached", "ran", "failed", "blocked", "cancelled"]

_POLL_SECONDS = 0.2
_UNCHANGED = re.compile(r"Stage '[^']+' (?:didn't change, skipping|is cached - skipping run)")
# messages of dvc/rwlock.py and dvc/lock.py
_BUSY = re.compile(r"is busy, it is being blocked by|Unable to acquire lock")
# the message of pipeline/download/fetch.py after its own attempts
_NETWORK = re.compile(r"^seqline: .*, \d+ times\b", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Result of a stage. `cached`: it was up to date. `why`: the reason, in one line, for a stage
    that failed or was blocked."""

    state: State
    seconds: float = 0.0
    log: Path | None = None
    why: str = ""


class Exit(NamedTuple):
    """End of a process: its exit status, its output, and whether its time limit ended it."""

    status: int
    output: str
    timed_out: bool


class Log:
    """A stage's log file, read as it grows. What earlier attempts or stages wrote is skipped."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._file = path.open("rb")
        self._file.seek(0, os.SEEK_END)
        self._rest = b""
        self.text = ""

    def lines(self, last: bool = False) -> list[str]:
        """Return the complete lines since the last call; if it is the last one, the rest too."""
        *complete, self._rest = (self._rest + self._file.read()).split(b"\n")
        if last:
            complete.append(self._rest)
            self._rest = b""
            self._file.close()

        lines = [line.decode("utf-8", "replace").rstrip("\r") for line in complete]
        self.text += "".join(f"{line}\n" for line in lines)
        return lines


def run(
    dvc: Starter,
    address: str,
    env: Mapping[str, str],
    log: Path,
    rules: run_settings.Run,
    stop: threading.Event,
    on_line: Callable[[str], None],
) -> Result:
    """Run the stage `address` by `dvc`; `on_line` gets its log line by line.

    Setting `stop` ends the stage and all processes that it started."""
    start = time.monotonic()
    limit = rules.time_limits.get(kind(address))
    attempt = 0
    while True:
        status, output, timed_out = run_process(
            dvc.root, lambda: dvc.start(address, log, env), log, limit, stop, on_line
        )
        seconds = time.monotonic() - start
        if status == 0:
            state: State = "cached" if _UNCHANGED.search(output) else "ran"
            return Result(state=state, seconds=seconds, log=log)
        if stop.is_set():
            return Result(state="cancelled", seconds=seconds, log=log)
        if timed_out:
            why = timeout(address, kind(address), limit)
            return Result(state="failed", seconds=seconds, log=log, why=why)
        if attempt == rules.retries or not _can_retry(address, output):
            why = reason(output, status)
            return Result(state="failed", seconds=seconds, log=log, why=why)

        pause = rules.retry_seconds * 2**attempt
        attempt += 1
        on_line(
            f"seqline: attempt {attempt} failed ({reason(output, status)}); "
            f"the next one in {pause:g} s"
        )
        stop.wait(pause)


def run_process(
    root: Path,
    start: Callable[[], StageProcess],
    path: Path,
    limit: int | None,
    stop: threading.Event,
    on_line: Callable[[str], None] = lambda line: None,
) -> Exit:
    """Start a process that appends to the log `path`, and wait for its end.

    All processes of its group are ended with it, when `stop` is set, and after `limit` seconds."""
    log = Log(path)
    timed_out = False
    status: int | None = None
    started = time.monotonic()

    stage = start()
    try:
        while (status := stage.wait(_POLL_SECONDS)) is None and not stop.is_set():
            _forward(log.lines(), on_line)
            if limit is not None and time.monotonic() - started > limit:
                timed_out = True
                break
    finally:
        # Also after the stage's end: a background process may be left in its group.
        if stage.wait_started():
            process_groups.end(root, stage.group, gently=status is None)
        if status is None:  # stopped, or timed out
            stage.wait(process_groups.END_SECONDS)
        _forward(log.lines(last=True), on_line)
    return Exit(LOST if stage.status is None else stage.status, log.text, timed_out)


def timeout(name: str, kind: str, limit: int | None) -> str:
    """Return the message for a stage that its time limit ended."""
    return f"{name} timed out after {limit} s (run.time_limits.{kind})."


def _forward(lines: list[str], on_line: Callable[[str], None]) -> None:
    for line in lines:
        if line.strip():
            on_line(line)


def _can_retry(address: str, output: str) -> bool:
    """Return whether another attempt can help: the network failed, or another dvc held a lock."""
    if _BUSY.search(output):
        return True
    return kind(address) == "download" and _NETWORK.search(output) is not None


def reason(output: str, status: int) -> str:
    """Return the line that explains the failure: the stage's message, else DVC's, else the last
    line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    messages = [line.removeprefix("seqline: ") for line in lines if line.startswith("seqline: ")]
    if messages:
        return messages[-1]
    if status == LOST:
        return "the process that runs DVC died"
    if status < 0:
        return f"the process was killed by signal {-status}"

    dvc = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    # The last line of a traceback is more specific than DVC's message.
    errors = [line for line in lines if re.match(r"\w*(?:Error|Exception)\b", line)]
    return (errors or dvc or lines or [f"exit status {status}"])[-1]
