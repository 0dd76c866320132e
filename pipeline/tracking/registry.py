"""Versions of evaluated runs in MLflow's registry, and the champion among them.

A registered model is a task on a corpus, e.g. `translation-toy_en_fr`. Scores are comparable within
it and nowhere else, so it has one champion. Its versions are evaluated runs of any name, family and
seed. The calls to MLflow are in registry_store.py."""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pipeline.core import config
from pipeline.core.errors import refuse
from pipeline.core.locks import file_lock
from pipeline.dag.paths import RunPaths
from pipeline.tracking import (
    artifacts,
    backfill,
    describe,
    lineage,
    mlflow_store,
    registry_store,
    run_lock,
    run_names,
)
from pipeline.tracking.lineage import EvaluatedRun
from pipeline.tracking.run_outputs import read_outputs
from pipeline.tracking.versions import (
    CHALLENGER,
    CHAMPION,
    DECISION,
    LINEAGE,
    ChampionPeriod,
    Version,
    model_name,
    read_tags,
    read_version,
    rolled_back,
    score_line,
    version_tags,
)

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "ChampionPeriod",
    "Version",
    "champion",
    "champions",
    "log_artifacts",
    "model_name",
    "promote",
    "record_decision",
    "recorded_decision",
    "register",
    "rollback",
    "rolled_back_versions",
    "set_challenger",
    "uri",
    "version",
    "version_of_run",
    "version_with_alias",
    "versions_with",
]


def register(root: Path) -> list[Version]:
    """Register every evaluated run of `params.yaml` that has no version; return the new versions.

    Idempotent."""
    runs = [run for run in lineage.evaluated_runs(root) if _has_model(root, run)]
    with mlflow_store.open_store(root) as client, _locked(root):
        return [
            _register(client, root, run)
            for run in runs
            if registry_store.find_version(client, run) is None
        ]


def version_of_run(root: Path, run: str) -> Version:
    """Return the version of the run's present outputs, registered if need be.

    UserError if they are not evaluated."""
    evaluated = {
        candidate.run: candidate
        for candidate in lineage.evaluated_runs(root)
        if _has_model(root, candidate)
    }
    if run not in evaluated:
        expected = (
            "one of " + ", ".join(evaluated) if evaluated else "a run that is trained and evaluated"
        )
        raise refuse(
            "run",
            run,
            f"{expected}, whose outputs are evaluated",
            "Run `dvc repro`, or `dvc pull`.",
        )

    with mlflow_store.open_store(root) as client, _locked(root):
        version = registry_store.find_version(client, evaluated[run])
        return version or _register(client, root, evaluated[run])


def version(root: Path, name: str, number: int) -> Version:
    """Return the version of that number; UserError with the numbers of all versions."""
    with mlflow_store.open_store(root) as client:
        name = registry_store.check_name(client, name)
        versions = {
            version.version: version for version in registry_store.versions_of(client, name)
        }
    if number not in versions:
        numbers = ", ".join(map(str, sorted(versions)))
        raise refuse(name, f"version {number}", f"one of {numbers}")
    return versions[number]


def uri(root: Path, what: str) -> str:
    """MLflow's address of `NAME`, which is its champion, `NAME@ALIAS` or `NAME/VERSION`.

    UserError if there is none."""
    name, _, number = what.partition("/")
    if number:
        if not number.isdecimal():
            raise refuse(what, f"version {number}", "a number")
        return f"models:/{version(root, name, int(number))}"

    name, _, alias = what.partition("@")
    alias = alias or CHAMPION
    _aliased(root, name, alias)
    return f"models:/{name}@{alias}"


def version_with_alias(root: Path, name: str, alias: str) -> Version:
    """Return the version of the registered model that has the alias; UserError if none has it."""
    return version(root, name, _aliased(root, name, alias))


def _aliased(root: Path, name: str, alias: str) -> int:
    with mlflow_store.open_store(root) as client:
        model = registry_store.get_model(client, registry_store.check_name(client, name))
    number = registry_store.alias_version(model, alias)
    if number is None:
        expected = (
            "one of " + ", ".join(sorted(model.aliases))
            if model.aliases
            else "one that it has, and it has none"
        )
        raise refuse(
            name,
            f"the alias {alias}",
            expected,
            f"Promote a version (`seqline promote`), or name one: {name}/1.",
        )
    return number


def champion(root: Path, name: str) -> Version | None:
    """Return the version that has the alias `champion`; None if there is none yet."""
    with mlflow_store.open_store(root) as client:
        if name not in registry_store.model_names(client):
            return None
        number = registry_store.alias_version(registry_store.get_model(client, name), CHAMPION)
        if number is None:
            return None
        versions = registry_store.versions_of(client, name)
        return next((version for version in versions if version.version == number), None)


def set_challenger(root: Path, version: Version) -> None:
    """Move the alias `challenger` to the version, the last one that was compared with the
    champion."""
    with mlflow_store.open_store(root) as client:
        client.set_registered_model_alias(version.name, CHALLENGER, str(version.version))


def record_decision(root: Path, version: Version, key: str, line: str) -> None:
    """Store the line about the last decision on the version; `key` is a digest of its inputs."""
    decision = json.dumps({"key": key, "line": line}, ensure_ascii=False)
    with mlflow_store.open_store(root) as client:
        client.set_model_version_tag(version.name, str(version.version), DECISION, decision)


def recorded_decision(root: Path, version: Version, key: str) -> str | None:
    """Return the line that `record_decision` stored under this key; None if the last decision on
    the version has another key."""
    with mlflow_store.open_store(root) as client:
        entry = client.get_model_version(version.name, str(version.version))
    decision = registry_store.parse_tag(read_tags(entry).get(DECISION, "{}"))
    return str(decision.get("line")) if decision.get("key") == key else None


def promote(
    root: Path,
    version: Version,
    why: Mapping[str, str],
    over: Version | Literal["anyone"] | None = "anyone",
) -> None:
    """Make the version its model's champion, unless it is already; `why` is recorded with the move.

    `over` is the expected present champion (None: there is none yet). If another version is
    champion, UserError, and nothing is moved."""
    with mlflow_store.open_store(root) as client, _locked(root):
        present = _alias_version(client, version.name, CHAMPION)
        if present != version.version:
            # Another process may have promoted a version since the comparison.
            if over != "anyone" and present != (over.version if over else None):
                raise refuse(
                    str(version),
                    "no champion" if present is None else f"version {present} for its champion",
                    f"version {over.version}, which it was compared with"
                    if over
                    else "none, as when it was chosen",
                    "Nothing was moved: run the same again.",
                )
            registry_store.move_champion(client, version, present, {"why": dict(why)})

        if _alias_version(client, version.name, CHALLENGER) == version.version:
            client.delete_registered_model_alias(version.name, CHALLENGER)


def rollback(root: Path, name: str) -> Version:
    """Make the previous champion champion again, and return it; UserError if there was none."""
    with mlflow_store.open_store(root) as client, _locked(root):
        name = registry_store.check_name(client, name)
        periods = registry_store.champion_periods(client, name)

        # The first champion has no predecessor.
        if len(periods) < 2:
            state = (
                f"version {periods[0].version.version}, the first champion"
                if periods
                else "no champion"
            )
            raise refuse(
                name,
                state,
                "one that came after another",
                "Promote a version: `seqline promote`.",
            )

        previous, present = periods[-2].version, periods[-1].version
        registry_store.move_champion(client, previous, present.version, {"back": True})
        return previous


def rolled_back_versions(root: Path, name: str) -> set[int]:
    """Numbers of the versions that were rolled back and never became champion again."""
    with mlflow_store.open_store(root) as client:
        model = registry_store.get_model(client, registry_store.check_name(client, name))
    moves = registry_store.recorded_moves(model)
    return rolled_back(moves, registry_store.alias_version(model, CHAMPION))


def champions(root: Path) -> dict[str, tuple[ChampionPeriod, ...]]:
    """Champions of each registered model, the present one first; none if it has had none."""
    with mlflow_store.open_store(root) as client:
        return {
            name: tuple(reversed(registry_store.champion_periods(client, name)))
            for name in registry_store.model_names(client)
        }


def versions_with(root: Path, path: str, md5: str) -> list[Version]:
    """Versions with a file or folder of this hash among their inputs or outputs.

    A `path` of "" stands for any path."""
    with mlflow_store.open_store(root) as client:
        return [
            version
            for name in registry_store.model_names(client)
            for version in registry_store.versions_of(client, name)
            if version.holds(path, md5)
        ]


def log_artifacts(root: Path, version: Version, folder: Path) -> None:
    """Make everything in `folder` an artifact of the version's MLflow run, restored if it was
    deleted.

    If `mlflow gc` has removed the run for good, a line on stderr says so.
    """
    with mlflow_store.open_store(root) as client:
        run = mlflow_store.restore_run(client, version.mlflow_run)

        if run is not None:
            artifacts.log_artifacts(client, root, run, folder)
            return
    print(
        f"seqline: {version}: its MLflow run {version.mlflow_run} is gone for good, so that "
        "nothing could be attached to it",
        file=sys.stderr,
    )


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the lock of the registry, for one writer at a time among this project's processes."""
    with file_lock(run_lock.locks(root) / "registry.lock"):
        yield


def _has_model(root: Path, run: EvaluatedRun) -> bool:
    """Return whether the model itself is on disk, not only in dvc.lock."""
    return (root / run.places["model"] / "config.json").exists()


def _register(client: Any, root: Path, run: EvaluatedRun) -> Version:
    """Create a version, with its folder among the artifacts of its MLflow run, which is backfilled
    if need be."""
    # Late: mlflow.pyfunc and pandas take a second to import, and most calls do not need them.
    from pipeline.tracking import package

    mlflow_run = _find_or_backfill(client, root, run)
    name = model_name(run.task, run.corpus)
    # By its hash: a second version of the MLflow run must not replace the first one's folder.
    folder = f"model-{run.digest()[:12]}"
    with tempfile.TemporaryDirectory() as scratch:
        package.save_version(Path(scratch) / folder, describe.home(root), run)
        artifacts.log_artifacts(client, root, mlflow_run, Path(scratch))

    # The first version creates the registered model.
    if name not in registry_store.model_names(client):
        description = (
            f"The task {run.task} on the corpus {run.corpus}: its versions are evaluated "
            "runs, whatever their family."
        )
        client.create_registered_model(
            name, {"task": run.task, "corpus": run.corpus, LINEAGE: "seqline"}, description
        )
    entry = client.create_model_version(
        name,
        artifacts.artifact_source(root, mlflow_run, folder),
        mlflow_run.info.run_id,
        version_tags(root, run),
        description=f"{run.run}: {score_line(root, run)}",
        await_creation_for=0,
    )

    # The run's tag keeps it from being deleted as a duplicate (`mlflow_store.find_run`).
    tag = {mlflow_store.VERSION: f"{name}/{entry.version}"}
    mlflow_store.log(client, mlflow_run.info.run_id, tags=tag)
    return read_version(entry)


def _find_or_backfill(client: Any, root: Path, run: EvaluatedRun) -> Any:
    """Return the MLflow run of the evaluated run."""
    facts = json.loads((root / run.places["model"] / "config.json").read_text(encoding="utf-8"))
    key = (run.run, str(facts["digest"]))
    mlflow_run = mlflow_store.find_run(client, run.task, key)
    if mlflow_run is not None:
        return mlflow_run

    names = list(config.section(root / "params.yaml", "runs"))
    committed = run_names.committed_params(root)
    stages = describe.read_lock(root)
    outputs = read_outputs(RunPaths(root), stages, run.run, names, committed)
    backfill.backfill_run(client, root, outputs)
    return mlflow_store.find_run(client, run.task, key)


def _alias_version(client: Any, name: str, alias: str) -> int | None:
    return registry_store.alias_version(registry_store.get_model(client, name), alias)
