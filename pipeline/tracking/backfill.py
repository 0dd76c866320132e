"""Backfill of MLflow from DVC's outputs (`sync`), for runs that the live log missed or recorded in
part."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline.core import config, tables
from pipeline.core.errors import redact, refuse
from pipeline.dag.paths import RunPaths
from pipeline.tracking import artifacts, describe, mlflow_store, parent_runs, run_lock
from pipeline.tracking.parent_runs import Setting
from pipeline.tracking.run_outputs import Outputs, read_outputs

_STATE = "seqline.synced"
_FOLLOWER_SECONDS = 3.0  # a follower with nothing in its way needs one
_SYNC_SECONDS = 60.0


def sync(root: Path) -> str:
    """Record every trained run of `params.yaml`, and the parent runs of the settings; return a line
    for each change, and a total.

    UserError if the store cannot be reached or a model folder is not one of the train stage's.
    """
    names = list(config.section(root / "params.yaml", "runs"))
    stages = describe.read_lock(root)
    paths = RunPaths(root)
    trained = [
        read_outputs(paths, stages, name, names)
        for name in names
        if (paths.option("train", name, "out") / "config.json").exists()
    ]

    lines = []
    with mlflow_store.open_store(root) as client:
        for outputs in trained:
            change = backfill_run(client, root, outputs)
            if change:
                lines.append(f"{outputs.name}: {change}")
        settings = [
            f"setting {setting.name}: {change}"
            for setting, members in _by_setting(trained)
            if (change := backfill_setting(client, root, setting, members))
        ]

    total = (
        f"of {len(names)} runs, {len(trained)} are trained and {len(trained) - len(lines)} "
        "were up to date already"
    )
    return "\n".join([*lines, *settings, f"MLflow at {redact(describe.uri(root))}: {total}."])


def _by_setting(trained: list[Outputs]) -> list[tuple[Setting, list[Outputs]]]:
    """Group the runs by the settings that they were trained with."""
    groups: dict[str, tuple[Setting, list[Outputs]]] = {}
    for outputs in trained:
        setting = parent_runs.setting_of(outputs.name, outputs.block)
        if setting is not None:
            groups.setdefault(setting.digest, (setting, []))[1].append(outputs)
    return list(groups.values())


def backfill_setting(client: Any, root: Path, setting: Setting, members: list[Outputs]) -> str:
    """Record the parent run of a setting whose runs are recorded; return the change, "" for
    none."""
    with locked_run(root, setting.key):
        return parent_runs.backfill(client, setting, members)


def backfill_run(client: Any, root: Path, outputs: Outputs) -> str:
    """Log to the MLflow run of these outputs what it lacks; return the change, "" for none."""
    key = (outputs.name, outputs.digest)
    task = str(outputs.block.get("task", "other"))
    state = outputs.state()
    run = mlflow_store.find_run(client, task, key)
    if run is not None and run.data.tags.get(_STATE) == state and run.info.status == "FINISHED":
        return ""

    with locked_run(root, key):
        # Search again: another process may have recorded the run before this one had the lock.
        run = mlflow_store.find_run(client, task, key)
        is_new = run is None
        if run is None:
            tags = {**describe.origin(root), **outputs.tags, "seqline.recorded": "restored"}
            run = mlflow_store.create_run(client, root, task, key, tags)
        points = log_missing(client, root, run, outputs)
        client.set_terminated(run.info.run_id, "FINISHED")
        # The state comes last: a sync that was killed before is repeated.
        mlflow_store.log(client, run.info.run_id, tags={_STATE: state})

    change = "recorded" if is_new else "brought up to date"
    return f"{change} ({points} points, {len(outputs.files)} artifacts)"


@contextmanager
def locked_run(root: Path, key: tuple[str, str]) -> Iterator[None]:
    """Hold the run's lock; take it over from a follower that does not release it in time.

    The follower's data is in the outputs too. Another sync is waited for; UserError if it does not
    end in time.
    """
    start = time.monotonic()

    # The stack releases the lock after the caller's block.
    with ExitStack() as stack:
        while True:
            deadline = time.monotonic() + _FOLLOWER_SECONDS
            try:
                patient = lambda deadline=deadline: time.monotonic() < deadline  # noqa: E731
                stack.enter_context(run_lock.sole(root, key, patient, "sync"))
                break
            except run_lock.Busy as busy:
                if busy.holder.role == "follower":
                    print(
                        f"seqline: {key[0]}: {busy.holder} still follows its training. Its lock "
                        "is taken over.",
                        file=sys.stderr,
                    )
                    run_lock.take_over(root, key, _FOLLOWER_SECONDS)
                elif time.monotonic() - start > _SYNC_SECONDS:
                    raise refuse(
                        key[0],
                        f"{busy.holder}, which has been recording it for {_SYNC_SECONDS:g} s",
                        "no other `seqline sync` at work",
                        "Wait for it, or end it.",
                    ) from None
        yield


def log_missing(client: Any, root: Path, run: Any, outputs: Outputs) -> int:
    """Log what the run lacks of the outputs; return the number of points of its curves."""
    mlflow_store.log_params(client, run, outputs.params)
    mlflow_store.log_inputs(client, run, outputs.inputs)

    # Points of the curves have the time of their file, since DVC's outputs have none; MLflow's
    # clock is in milliseconds.
    modified = int(outputs.history.stat().st_mtime * 1000)
    logged = mlflow_store.logged_steps(client, run)
    rows = tables.read(outputs.history, tables.HISTORY).to_pylist()
    named = [(describe.mlflow_name(row["name"]), row["value"], row["step"]) for row in rows]
    points = [
        (name, value, modified, step)
        for name, value, step in named
        if step not in logged.get(name, ())
    ]
    mlflow_store.log(client, run.info.run_id, metrics=points)

    # Final scores are logged at the step of the best weights, as MLflow's current values.
    now = time.time_ns() // 1_000_000
    scores = [
        (name, value, now, outputs.best_step)
        for name, value in outputs.scores.items()
        if run.data.metrics.get(name) != value
    ]
    mlflow_store.log(client, run.info.run_id, metrics=scores)

    with tempfile.TemporaryDirectory() as folder:
        table_tag = write_artifacts(Path(folder), outputs.files)
        artifacts.log_artifacts(client, root, run, Path(folder))
    mlflow_store.log(client, run.info.run_id, tags={**outputs.tags, **table_tag})
    return len(points)


def write_artifacts(folder: Path, files: Mapping[str, Path]) -> dict[str, str]:
    """Copy the artifacts to `folder`; return the tag with the names of the tables.

    Samples become the JSON tables that MLflow's pages show."""
    shown_tables = []
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".parquet":
            table = tables.read(source, tables.SAMPLES)
            rows = [list(row.values()) for row in table.to_pylist()]
            # The form of MLflow's `log_table`.
            content = {"columns": table.column_names, "data": rows}
            target.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
            shown_tables.append({"path": name, "type": "table"})
        else:
            target.write_bytes(source.read_bytes())
    return {"mlflow.loggedArtifacts": json.dumps(shown_tables)} if shown_tables else {}
