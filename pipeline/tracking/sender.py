"""Send a spool to MLflow: by the follower while the training runs, and later by `seqline sync` or
another follower for a spool that is left. Imports mlflow."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from pipeline.tracking import describe, mlflow_store, parent_runs, run_lock, spools
from pipeline.tracking.setting import setting_of

_BATCH = 500  # lines read at once
_POLL_SECONDS = 0.5
Point = tuple[str, float, int, int]
Call = Callable[..., Any]
"""`call(action, *arguments)` returns what the action on the store returns, and may repeat it."""


class Training(Protocol):
    """The training that writes a spool, as the sender sees it."""

    def over(self) -> bool:
        """Return whether it writes no more."""

    def pause(self, seconds: float) -> None:
        """Wait for it."""


class EndedTraining:
    """A training that is over."""

    def over(self) -> bool:
        """Return that it writes no more."""
        return True

    def pause(self, seconds: float) -> None:
        """Do not wait."""


def call_once(action: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call the action; its error is the caller's."""
    return action(*arguments, **named)


def send_pending(root: Path, path: Path, call: Call) -> None:
    """Send the spool at `path` if its training is over; the caller holds the lock of its run.

    A training that was resumed since the caller listed the spools is not over."""
    with suppress(FileNotFoundError), path.open("rb") as lines:
        spool = spools.read_file(lines, path)
        if spool is None or not spool.over:
            return
        lines.seek(0)
        lines.readline()
        send(lines, root, path, spool.header, EndedTraining(), call, 0.0)


def send(
    lines: BinaryIO,
    root: Path,
    path: Path,
    header: Mapping[str, Any],
    training: Training,
    call: Call,
    parent_seconds: float,
) -> None:
    """Send the lines of the spool at `path`, after its `header`, until the training is over.

    The caller holds the lock of the run. If others hold that of its parent run for longer than
    `parent_seconds`, the run joins its parent later."""
    client = call(mlflow_store.connect, root)
    # The copy of an experiment may be gone, and its dvc.lock with it: `seqline sync` adds them. The
    # one of `root` may be another copy's.
    stages = describe.read_lock(Path(header.get("root", root)))
    run = call(open_run, client, root, header, stages)
    last_step = {
        name: max(steps, default=-1)
        for name, steps in call(mlflow_store.logged_steps, client, run).items()
    }

    label = str(header.get("label", ""))
    corpus = describe.corpus_settings(_corpus_block(header, stages))
    setting = setting_of(header["run"], header["params"], corpus, label)
    parent_id = call(_attach, client, root, setting, run, parent_seconds)
    for points in _read_batches(lines, training):
        # A resumed training repeats the steps since its checkpoint: log each step once.
        fresh = [point for point in points if point[3] > last_step.get(point[0], -1)]
        call(mlflow_store.log, client, run.info.run_id, metrics=fresh)
        last_step |= {name: step for name, _, _, step in fresh}
        parent_id = parent_id or call(_attach, client, root, setting, run, 0.0)

    ended = spools.read_file(lines, path)
    if ended is not None:
        call(mlflow_store.end_run, client, run, ended.status or "KILLED", ended.active)
    if parent_id:
        call(parent_runs.end, client, parent_id)
    spools.mark_recorded(lines, path)


def open_run(client: Any, root: Path, header: Mapping[str, Any], stages: Mapping[str, Any]) -> Any:
    """Return the MLflow run of the spool, created if need be, with its tags, params and inputs.

    `stages` are those of its dvc.lock."""
    block = header["params"]
    label = str(header.get("label", ""))
    tags = {
        **describe.labels(block, label),
        **describe.origin_tags(header.get("origin", {})),
        **{str(k): str(v) for k, v in header["tags"].items() if k in describe.LIVE_TAGS},
    }
    key = (header["run"], header["digest"])
    task = str(block.get("task", "other"))
    run = mlflow_store.find_run(client, task, key)
    if run is None:
        name = f"{header['run']} {label}".strip()
        run = mlflow_store.create_run(client, root, task, key, name, tags, header["at"])
    else:
        # A training that is repeated has its outcome already.
        if run.info.status != "FINISHED":
            client.update_run(run.info.run_id, status="RUNNING")
        mlflow_store.log_tags(client, run, tags)

    corpus = str(block.get("corpus"))
    corpus_settings = describe.corpus_settings(_corpus_block(header, stages))
    params = {**describe.settings(block), **corpus_settings}
    mlflow_store.log_params(client, run, params)
    inputs = {
        **describe.hashes(stages, f"encode@{corpus}", "outs"),
        **describe.hashes(stages, f"vocab@{corpus}", "outs"),
    }
    mlflow_store.log_inputs(client, run, inputs)
    return run


def _corpus_block(header: Mapping[str, Any], stages: Mapping[str, Any]) -> dict[str, Any]:
    """The block of the corpus that was trained on: dvc.lock, which older spools leave it to, may be
    of a later run."""
    corpus = str(header["params"].get("corpus"))
    return {**describe.corpus_block(stages, corpus), **header.get("corpus", {})}


def _attach(client: Any, root: Path, setting: Any, run: Any, seconds: float) -> str:
    """Make the run a child of its setting's parent; return the parent's id.

    "" if there is no setting, or if others create the parent for longer than `seconds`: the curves
    must not wait for them."""
    if setting is None:
        return ""
    with (
        suppress(run_lock.Busy),
        run_lock.sole(root, setting.key, run_lock.patience(seconds), "follower"),
    ):
        return parent_runs.attach(client, setting, run)
    return ""


def _read_batches(lines: BinaryIO, training: Training) -> Iterator[list[Point]]:
    """Yield the spool's points (name, value, ms, step) as they come."""
    while True:
        # Before reading: what was written before the end is then read after it.
        over = training.over()
        batch = list(itertools.islice(_complete_lines(lines), _BATCH))
        if batch:
            yield [point for line in batch for point in _points(line)]
        elif over:
            return
        if len(batch) < _BATCH and not over:
            training.pause(_POLL_SECONDS)


def _points(line: bytes) -> list[Point]:
    """Return the points of a line; none for a damaged line, which `seqline sync` makes up for."""
    try:
        record = json.loads(line)
        return [
            (describe.mlflow_name(name), float(value), int(record["at"]), int(record["step"]))
            for name, value in record.get("metrics", {}).items()
        ]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return []


def _complete_lines(lines: BinaryIO) -> Iterator[bytes]:
    """Yield the complete lines; one that is still being written stays for the next call."""
    while True:
        position = lines.tell()
        line = lines.readline()
        if not line.endswith(b"\n"):
            lines.seek(position)
            return
        yield line
