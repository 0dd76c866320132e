"""Backfill of MLflow from DVC's outputs (`sync`), for runs that the live log missed or recorded in
part."""

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline.core import config, tables
from pipeline.core.errors import UserError, redact, refuse
from pipeline.dag.paths import RunPaths
from pipeline.tracking import (
    artifacts,
    describe,
    experiments,
    mlflow_store,
    pages,
    parent_runs,
    run_lock,
    run_names,
    sender,
    spools,
)
from pipeline.tracking.experiments import Experiment
from pipeline.tracking.run_outputs import VERSION, Outputs, read_outputs
from pipeline.tracking.setting import Setting, setting_of

_STATE = "seqline.synced"
_FOLLOWER_SECONDS = 3.0  # a follower with nothing in its way needs one
_SYNC_SECONDS = 60.0
_RECENT_SECONDS = 60.0


def sync(root: Path) -> str:
    """Record what trainings left, every trained run of `params.yaml` and of DVC's experiments, and
    the parent runs of the settings; return a line for each change, and a total.

    UserError if the store cannot be reached or a model folder is not one of the train stage's.
    """
    names = list(config.section(root / "params.yaml", "runs"))
    stages = describe.read_lock(root)
    paths = RunPaths(root)
    committed = run_names.committed_params(root)
    trained = [
        read_outputs(paths, stages, name, names, committed)
        for name in names
        if (paths.option("train", name, "out") / "config.json").exists()
    ]

    with mlflow_store.open_store(root) as client:
        lines = _send_pending(root)
        changes = [
            f"{outputs.name}: {change}"
            for outputs in trained
            if (change := backfill_run(client, root, outputs))
        ]
        lines += changes
        of_experiments: list[Outputs] = []
        project_keys = {outputs.key for outputs in trained}
        record = experiments.RecordedExperiments(root)
        recorded: dict[Experiment, list[str]] = {}
        for experiment in experiments.find(root):
            if _is_recorded(client, record.run_ids(VERSION, experiment)):
                continue
            try:
                new, ids, change = _backfill_experiment(
                    client, root, experiment, stages, project_keys
                )
            except UserError as error:
                lines.append(f"experiment {experiment.name}: not recorded: {error}")
                continue
            of_experiments += new
            recorded[experiment] = ids
            lines += [f"experiment {experiment.name}: {change}"] if change else []
        lines += [
            f"setting {setting.title}: {change}"
            for setting, members in _by_setting([*trained, *of_experiments])
            if (change := backfill_setting(client, root, setting, members))
        ]
        # Last: a sync that was killed before is repeated.
        for experiment, ids in recorded.items():
            record.add(VERSION, experiment, ids)
        pages.set_up(client, {_task(outputs) for outputs in trained})

    failed = sum("not recorded" in line for line in lines)
    return "\n".join([*lines, _total(root, len(names), len(trained), len(changes), failed)])


def _total(root: Path, runs: int, trained: int, changed: int, failed: int) -> str:
    """The last line of `sync`; it names the address of a server only."""
    where = f" at {redact(describe.uri(root))}" if mlflow_store.is_server(root) else ""
    which = f"{trained} of {runs}" if trained == runs else f"the {trained} trained of {runs}"
    new = f"; {changed} new or completed" if changed else ""
    if failed:
        return f"MLflow{where} has {which} runs{new}; {failed} not recorded (see above)."
    return f"MLflow{where} is up to date: {which} runs{new}."


def _send_pending(root: Path) -> list[str]:
    """Record what trainings left for this store; return lines."""
    lines, elsewhere = [], 0
    for spool in spools.pending(root):
        if spool.store_id != spools.store_id():
            elsewhere += 1
        elif spool.is_foreign and run_lock.is_held(root, spool.key):
            process = f"process {spool.process.split()[0]} of another container or machine"
            lines.append(f"{spool.header['run']}: {process} trains it, and records it itself")
        elif line := _send(root, spool):
            lines.append(line)
    if elsewhere:
        logged = "1 training was" if elsewhere == 1 else f"{elsewhere} trainings were"
        lines.append(
            f"{logged} logged for another store: set or unset MLFLOW_TRACKING_URI and "
            "MLFLOW_EXPERIMENT_NAME as then, and run `seqline sync`"
        )
    return lines


def _task(outputs: Outputs) -> str:
    return str(outputs.block.get("task", "other"))


def _is_recorded(client: Any, run_ids: list[str] | None) -> bool:
    """Return whether an experiment was recorded, with runs that are still there."""
    return run_ids is not None and all(mlflow_store.is_active(client, run_id) for run_id in run_ids)


def _send(root: Path, spool: spools.SpoolInfo) -> str:
    """Record what a training left; return a line, "" if its follower has done it after all, or may
    only not have had the time."""
    with locked_run(root, spool.key):
        present = spools.read(spool.path)
        if present is None:
            return ""
        sender.send_pending(root, spool.path, sender.call_once)
    if spools.now() - spool.last < _RECENT_SECONDS * 1000:
        return ""
    name = f"{spool.header['run']} {spool.header.get('label', '')}".strip()
    return f"{name}: curves recorded, which its follower had not"


def _backfill_experiment(
    client: Any,
    root: Path,
    experiment: Experiment,
    stages: Mapping[str, Any],
    project_keys: set[tuple[str, str]],
) -> tuple[list[Outputs], list[str], str]:
    """Record the runs that an experiment trained; return them, the ids of the MLflow runs of all
    that it changed, and the change, "" for none.

    Runs of the keys `project_keys` are recorded as the project's. UserError if outputs are gone."""
    with experiments.outputs(root, experiment, stages) as changed:
        new = [
            outputs
            for outputs in changed
            if outputs.key not in project_keys and _is_trained_by(client, experiment, outputs)
        ]
        changes = [outputs.name for outputs in new if backfill_run(client, root, outputs)]
    runs = [mlflow_store.find_run(client, _task(outputs), outputs.key) for outputs in changed]
    ids = [run.info.run_id for run in runs]
    return new, ids, f"recorded {', '.join(changes)}" if changes else ""


def _is_trained_by(client: Any, experiment: Experiment, outputs: Outputs) -> bool:
    """Return whether the experiment trained the model: not if it has changed only its search, and
    an earlier run with its own scores is recorded."""
    run = mlflow_store.find_run(client, _task(outputs), outputs.key)
    if run is None or _STATE not in run.data.tags:
        return True
    return describe.tagged_origin(run.data.tags).get(describe.EXPERIMENT) == experiment.name


def _by_setting(trained: Iterable[Outputs]) -> list[tuple[Setting, list[Outputs]]]:
    """Group the runs by the settings that they were trained with."""
    groups: dict[str, tuple[Setting, list[Outputs]]] = {}
    for outputs in trained:
        setting = setting_of(outputs.name, outputs.block, outputs.corpus, outputs.label)
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
    key = outputs.key
    task = _task(outputs)
    state = outputs.state()
    run = mlflow_store.find_run(client, task, key)
    if run is not None and run_names.is_generated(run.info.run_name, outputs.name):
        mlflow_store.set_name(client, run, run_names.with_score(run.info.run_name, outputs.score))
    if run is not None and run.data.tags.get(_STATE) == state and run.info.status == "FINISHED":
        return ""

    with locked_run(root, key):
        # Search again: another process may have recorded the run before this one had the lock.
        run = mlflow_store.find_run(client, task, key)
        is_new = run is None
        spool = spools.find(root, key)
        origin = outputs.origin
        if spool is not None:
            origin = {**origin, **spool.header.get("origin", {}), **spool.header["tags"]}
        elif not origin:
            origin = describe.origin(root) if run is None else describe.tagged_origin(run.data.tags)
        if run is None:
            labels = describe.labels(outputs.block, outputs.label)
            tags = {**describe.origin_tags(origin), **outputs.tags, **labels}
            name = run_names.with_score(f"{outputs.name} {outputs.label}".strip(), outputs.score)
            start = spools.now() if spool is None else spool.start
            run = mlflow_store.create_run(client, root, task, key, name, tags, start)

        # Where no training here has left its times, a run ended with its last live metric.
        active = mlflow_store.logged_milliseconds(client, run) if spool is None else spool.active
        points = log_missing(client, root, run, outputs, origin)
        if spool is not None or run.info.status != "FINISHED":
            mlflow_store.end_run(client, run, "FINISHED", active)
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
            try:
                patient = run_lock.patience(_FOLLOWER_SECONDS)
                stack.enter_context(run_lock.sole(root, key, patient, "sync"))
                break
            except run_lock.Busy as busy:
                if busy.holder.role == "follower":
                    print(
                        f"seqline: finishing the record of {key[0]}, which {busy.holder} began",
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


def log_missing(
    client: Any, root: Path, run: Any, outputs: Outputs, origin: Mapping[str, Any]
) -> int:
    """Log what the run lacks of the outputs; return the number of points of its curves.

    `origin` are facts for its provenance."""
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
        provenance = {**origin, **outputs.provenance}
        content = json.dumps(provenance, ensure_ascii=False, indent=2, default=str)
        (Path(folder) / "provenance.json").write_text(content + "\n", encoding="utf-8")
        artifacts.log_artifacts(client, root, run, Path(folder))
    mlflow_store.log_tags(client, run, {**outputs.tags, **table_tag})
    for tag in run.data.tags:
        if describe.is_former_tag(tag, outputs.provenance["signatures"]):
            client.delete_tag(run.info.run_id, tag)
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
