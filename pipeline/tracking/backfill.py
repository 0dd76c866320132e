"""`sync`: MLflow brought level with what DVC holds, whether the live view was there, lost a part,
or never was."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline.core import config, tables
from pipeline.core.errors import refuse, shown
from pipeline.tracking import describe, mlflow_store, run_lock
from pipeline.tracking.run_outputs import MODELS, Outputs, read_outputs

_STATE = "seqline.synced"
_WAIT_SECONDS = 3.0  # a follower with nothing in its way needs one
_SYNC_SECONDS = 60.0


def sync(root: Path) -> str:
    """Record every run of `params.yaml` whose model is there; a line for each run that gained
    something, and a sum.

    UserError if the store cannot be reached or a model folder is not one of the train stage's.
    """
    names = list(config.section(root / "params.yaml", "runs"))
    stages = describe.read_lock(root)
    trained = [
        read_outputs(root, stages, name, names)
        for name in names
        if (root / MODELS / name / "config.json").exists()
    ]
    with mlflow_store.open_store(root) as client:
        said = {outputs.name: backfill_run(client, root, outputs) for outputs in trained}
    told = [f"{name}: {what}" for name, what in said.items() if what]
    total = (
        f"of {len(names)} runs, {len(trained)} are trained and {len(trained) - len(told)} "
        "were level already"
    )
    return "\n".join([*told, f"MLflow at {shown(describe.uri(root))}: {total}."])


def backfill_run(client: Any, root: Path, outputs: Outputs) -> str:
    """Give the MLflow run of these outputs what it lacks; what was done in a few words, "" if it
    lacked nothing."""
    key, task, state = (
        (outputs.name, outputs.digest),
        str(outputs.block.get("task", "other")),
        outputs.state(),
    )
    run = mlflow_store.find_run(client, task, key)
    if run is not None and run.data.tags.get(_STATE) == state and run.info.status == "FINISHED":
        return ""
    with locked_run(root, key):
        run = mlflow_store.find_run(client, task, key)
        made = run is None
        if run is None:
            tags = {**describe.origin(root), **outputs.tags, "seqline.recorded": "restored"}
            run = mlflow_store.create_run(client, root, task, key, tags)
        points = log_missing(client, root, run, outputs)
        client.set_terminated(run.info.run_id, "FINISHED")
        # last: a sync that was killed is done again
        mlflow_store.log(client, run.info.run_id, tags={_STATE: state})
    return (
        f"{'recorded' if made else 'brought up to date'} ({points} points, "
        f"{len(outputs.files)} artifacts)"
    )


@contextmanager
def locked_run(root: Path, key: tuple[str, str]) -> Iterator[None]:
    """`run_lock.sole`, taken over from the run's follower if that needs long: the outputs say all
    that it would.

    Another sync at work is waited for; UserError if it does not end either.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        while True:
            until = time.monotonic() + _WAIT_SECONDS
            try:
                patient = lambda until=until: time.monotonic() < until  # noqa: E731
                stack.enter_context(run_lock.sole(root, key, patient, "sync"))
                break
            except run_lock.Busy as busy:
                if busy.holder.role == "follower":
                    print(
                        (
                            f"seqline: {key[0]}: {busy.holder} still follows its training; not "
                            "waited for"
                        ),
                        file=sys.stderr,
                    )
                    run_lock.take_over(root, key, _WAIT_SECONDS)
                elif time.monotonic() - began > _SYNC_SECONDS:
                    holder = f"{busy.holder}, which has been recording it for {_SYNC_SECONDS:g} s"
                    raise refuse(
                        key[0], holder, "no other `seqline sync` at work", "Wait for it, or end it."
                    ) from None
        yield


def log_missing(client: Any, root: Path, run: Any, outputs: Outputs) -> int:
    """Log what the run lacks of the outputs; how many points of its curves that were."""
    mlflow_store.log_params(client, run, outputs.params)
    mlflow_store.log_inputs(client, run, outputs.inputs)
    points = missing_points(mlflow_store.logged_steps(client, run), outputs.history)
    mlflow_store.log(client, run.info.run_id, metrics=points)
    add_scores(client, run, outputs)
    with tempfile.TemporaryDirectory() as folder:
        labelled = write_artifacts(Path(folder), outputs.files)
        mlflow_store.log_artifacts(client, root, run, Path(folder))
    mlflow_store.log(client, run.info.run_id, tags={**outputs.tags, **labelled})
    return len(points)


def missing_points(
    there: Mapping[str, set[int]], history: Path
) -> list[tuple[str, float, int, int]]:
    """The points of the table `history` that are not `there`. Their clock is the file's, since
    DVC's outputs carry none."""
    at = int(history.stat().st_mtime * 1000)
    table = tables.read(history, tables.HISTORY)
    names = [describe.mlflow_name(name) for name in table["name"].to_pylist()]
    rows = zip(names, table["value"].to_pylist(), table["step"].to_pylist(), strict=True)
    return [
        (name, value, at, step) for name, value, step in rows if step not in there.get(name, ())
    ]


def add_scores(client: Any, run: Any, outputs: Outputs) -> None:
    """The final figures as MLflow's current values, at the step whose weights they are of."""
    now = time.time_ns() // 1_000_000
    changed = {
        name: value for name, value in outputs.scores.items() if run.data.metrics.get(name) != value
    }
    mlflow_store.log(
        client,
        run.info.run_id,
        metrics=[(name, value, now, outputs.best_step) for name, value in changed.items()],
    )


def write_artifacts(folder: Path, files: Mapping[str, Path]) -> dict[str, str]:
    """Put the artifacts into `folder`, samples as the JSON tables that the pages show; the tag that
    names those tables."""
    laid = []
    for name, path in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            place.write_text(json.dumps(_rows(path), ensure_ascii=False), encoding="utf-8")
            laid.append({"path": name, "type": "table"})
        else:
            place.write_bytes(path.read_bytes())
    return {"mlflow.loggedArtifacts": json.dumps(laid)} if laid else {}


def _rows(path: Path) -> dict[str, Any]:
    table = tables.read(path, tables.SAMPLES)
    return {
        "columns": table.column_names,
        "data": [list(row.values()) for row in table.to_pylist()],
    }
