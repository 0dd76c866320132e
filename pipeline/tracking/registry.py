"""Versions of what answers, in MLflow's registry, and which of them is champion.

A registered model is a task on a corpus, e.g. `translation-toy_en_fr`: scores are comparable within
it and nowhere else, so that is what has one champion. Its versions are evaluated runs of whatever
name, family and seed.

The alias `champion` is the truth, and moving it is one call, hence atomic. Beside it the registered
model has a tag for each move, written before it, out of which earlier champions are known; one
whose move never came, or a champion that somebody named in MLflow's own pages, does no harm to
them."""

import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pipeline.core import config
from pipeline.core.atomic import exclusive
from pipeline.core.errors import refuse
from pipeline.tracking import artifacts, backfill, describe, lineage, mlflow_store, run_lock
from pipeline.tracking.lineage import EvaluatedRun
from pipeline.tracking.run_outputs import read_outputs
from pipeline.tracking.scores import score_line
from pipeline.tracking.versions import (
    DIGEST,
    LINEAGE,
    ChampionPeriod,
    Version,
    champion_moves,
    model_name,
    read_version,
    rolled_back,
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
    "versions_with",
]

CHAMPION, CHALLENGER = "champion", "challenger"
_MOVE, _JUDGED = "promotion.", "seqline.judged"
# of a task and a corpus; no quotes, which would end the text of a search
_NAME = re.compile(r"[\w.-]{1,200}", re.ASCII)
_PAGE = 1000


def register(root: Path) -> list[Version]:
    """Make a version of every evaluated run of `params.yaml` that has none; those made.
    Idempotent."""
    made = [each for each in lineage.evaluated_runs(root) if _present(root, each)]
    with mlflow_store.open_store(root) as client, _locked(root):
        return [_register(client, root, each) for each in made if _found(client, each) is None]


def version_of_run(root: Path, run: str) -> Version:
    """The version of the run's present outputs, made if need be; UserError if they are not
    evaluated."""
    known = {made.run: made for made in lineage.evaluated_runs(root) if _present(root, made)}
    if run not in known:
        expected = "one of " + ", ".join(known) if known else "a run that is trained and evaluated"
        raise refuse(
            "run",
            run,
            f"{expected}, whose outputs are evaluated",
            "Run `dvc repro`, or `dvc pull`.",
        )
    with mlflow_store.open_store(root) as client, _locked(root):
        return _found(client, known[run]) or _register(client, root, known[run])


def version(root: Path, name: str, number: int) -> Version:
    """The version of that number; UserError naming those that there are."""
    with mlflow_store.open_store(root) as client:
        found = {
            each.version: each for each in _versions(client, f"name = '{_known(client, name)}'")
        }
    if number not in found:
        raise refuse(
            name, f"version {number}", "one of " + ", ".join(str(each) for each in sorted(found))
        )
    return found[number]


def uri(root: Path, what: str) -> str:
    """MLflow's address of `NAME`, which is its champion, `NAME@ALIAS` or `NAME/VERSION`; UserError
    if there is none."""
    name, _, number = what.partition("/")
    if number:
        if not number.isdecimal():
            raise refuse(what, f"version {number}", "a number")
        return f"models:/{version(root, name, int(number))}"
    name, _, alias = what.partition("@")
    with mlflow_store.open_store(root) as client:
        [model] = _models(client, f"name = '{_known(client, name)}'")
    alias = alias or CHAMPION
    if alias not in model.aliases:
        there = (
            "one of " + ", ".join(sorted(model.aliases))
            if model.aliases
            else "one that it has, and it has none"
        )
        raise refuse(
            name,
            f"the alias {alias}",
            there,
            f"Promote a version (`seqline promote`), or name one: {name}/1.",
        )
    return f"models:/{name}@{alias}"


def champion(root: Path, name: str) -> Version | None:
    """The version that the alias `champion` is on; None if there is none yet."""
    with mlflow_store.open_store(root) as client:
        holder = _held(client, name, CHAMPION) if name in _names(client) else None
        found = _versions(client, f"name = '{name}'") if holder is not None else iter(())
        return next((each for each in found if each.version == holder), None)


def set_challenger(root: Path, version: Version) -> None:
    """Put the alias `challenger` on the version, for people to see which one was last measured
    against the champion."""
    with mlflow_store.open_store(root) as client:
        client.set_registered_model_alias(version.name, CHALLENGER, str(version.version))


def record_decision(root: Path, version: Version, key: str, line: str) -> None:
    """Keep with the version what there is to say of the decision on it that `key` stands for, in
    place of the last one."""
    said = json.dumps({"key": key, "line": line}, ensure_ascii=False)
    with mlflow_store.open_store(root) as client:
        client.set_model_version_tag(version.name, str(version.version), _JUDGED, said)


def recorded_decision(root: Path, version: Version, key: str) -> str | None:
    """Return the line that `record_decision` stored under this key; None if the last decision on
    the version has another key."""
    with mlflow_store.open_store(root) as client:
        decision = _mapping(
            client.get_model_version(version.name, str(version.version)).tags.get(_JUDGED, "{}")
        )
    return str(decision.get("line")) if decision.get("key") == key else None


def promote(
    root: Path,
    version: Version,
    why: Mapping[str, str],
    over: Version | Literal["anyone"] | None = "anyone",
) -> None:
    """Make the version its model's champion; `why` is kept with it. Nothing is done if it is
    champion already.

    `over` is the champion that it is to follow (None: the first one); UserError, and nothing is
    moved, if another one is champion by now."""
    with mlflow_store.open_store(root) as client, _locked(root):
        holder = _held(client, version.name, CHAMPION)
        if holder != version.version:
            if over != "anyone" and holder != (over.version if over else None):
                expected = (
                    f"version {over.version}, which it was compared with"
                    if over
                    else "none, as when it was chosen"
                )
                now = f"version {holder} for its champion" if holder is not None else "no champion"
                raise refuse(str(version), now, expected, "Nothing was moved: run the same again.")
            _move(client, version, holder, {"why": dict(why)})
        if _held(client, version.name, CHALLENGER) == version.version:
            client.delete_registered_model_alias(version.name, CHALLENGER)


def rollback(root: Path, name: str) -> Version:
    """Make the champion before the present one champion again, and return it; UserError if there
    was none."""
    with mlflow_store.open_store(root) as client, _locked(root):
        reigns = _reigns(client, _known(client, name))
        if len(reigns) < 2:
            now = (
                f"version {reigns[0].version.version}, the first champion"
                if reigns
                else "no champion"
            )
            raise refuse(
                name, now, "one that came after another", "Promote a version: `seqline promote`."
            )
        _move(client, reigns[-2].version, reigns[-1].version.version, {"back": True})
        return reigns[-2].version


def rolled_back_versions(root: Path, name: str) -> set[int]:
    """The versions that somebody took the alias `champion` from by a rollback, and that never had
    it again."""
    with mlflow_store.open_store(root) as client:
        [model] = _models(client, f"name = '{_known(client, name)}'")
        return rolled_back(_moves(model), _holder(model, CHAMPION))


def champions(root: Path) -> dict[str, tuple[ChampionPeriod, ...]]:
    """Of each registered model its champion and those before it, the present one first; none if it
    has had none."""
    with mlflow_store.open_store(root) as client:
        return {name: tuple(reversed(_reigns(client, name))) for name in _names(client)}


def versions_with(root: Path, path: str, md5: str) -> list[Version]:
    """The versions that a file or folder with this hash went into or came out of, at any path if
    `path` is ""."""
    with mlflow_store.open_store(root) as client:
        found = [each for name in _names(client) for each in _versions(client, f"name = '{name}'")]
    return [each for each in found if each.holds(path, md5)]


def log_artifacts(root: Path, version: Version, folder: Path) -> None:
    """Make all that is in `folder` an artifact of the version's MLflow run, brought back if it was
    deleted.

    One that `mlflow gc` has removed for good gets nothing, which is said.
    """
    with mlflow_store.open_store(root) as client:
        run = mlflow_store.restore_run(client, version.mlflow_run)
        if run is None:
            line = (
                f"its MLflow run {version.mlflow_run} is gone for good, so that nothing "
                "could be attached to it"
            )
            print(f"seqline: {version}: {line}", file=sys.stderr)
        else:
            artifacts.log_artifacts(client, root, run, folder)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Of this project's processes, the only one that changes the registry."""
    with exclusive(run_lock.locks(root) / "registry.lock"):
        yield


def _present(root: Path, made: EvaluatedRun) -> bool:
    """Return whether the model itself is there, not only in the lock."""
    return (root / made.places["model"] / "config.json").exists()


def _register(client: Any, root: Path, made: EvaluatedRun) -> Version:
    """A new version, with its folder among the artifacts of its MLflow run, which is made if need
    be."""
    # imports mlflow.pyfunc and pandas: a second that most calls need not pay
    from pipeline.tracking import package

    run, name, digest = (
        _run_of(client, root, made),
        model_name(made.task, made.corpus),
        made.digest(),
    )
    folder = f"model-{digest[:12]}"
    with tempfile.TemporaryDirectory() as scratch:
        package.save_version(Path(scratch) / folder, describe.home(root), made)
        artifacts.log_artifacts(client, root, run, Path(scratch))
    if name not in _names(client):
        about = (
            f"The task {made.task} on the corpus {made.corpus}: its versions are evaluated "
            "runs, whatever their family."
        )
        client.create_registered_model(
            name, {"task": made.task, "corpus": made.corpus, LINEAGE: "seqline"}, about
        )
    created = client.create_model_version(
        name,
        artifacts.artifact_source(root, run, folder),
        run.info.run_id,
        version_tags(root, made),
        description=f"{made.run}: {score_line(root, made)}",
        await_creation_for=0,
    )
    mlflow_store.log(
        client, run.info.run_id, tags={mlflow_store.VERSION: f"{name}/{created.version}"}
    )
    return read_version(created)


def _run_of(client: Any, root: Path, made: EvaluatedRun) -> Any:
    facts = json.loads((root / made.places["model"] / "config.json").read_text(encoding="utf-8"))
    key = (made.run, str(facts["digest"]))
    found = mlflow_store.find_run(client, made.task, key)
    if found is None:
        names = list(config.section(root / "params.yaml", "runs"))
        backfill.backfill_run(
            client, root, read_outputs(root, describe.read_lock(root), made.run, names)
        )
        found = mlflow_store.find_run(client, made.task, key)
    return found


def _versions(client: Any, condition: str) -> Iterator[Version]:
    """Those of MLflow's versions on which the condition holds, as far as they are ours, the newest
    first."""
    token = None
    while True:
        page = client.search_model_versions(condition, _PAGE, ["version_number DESC"], token)
        yield from (read_version(found) for found in page if LINEAGE in found.tags)
        token = page.token
        if not token:
            return


def _found(client: Any, made: EvaluatedRun) -> Version | None:
    condition = (
        f"name = '{model_name(made.task, made.corpus)}' and tags.`{DIGEST}` = '{made.digest()}'"
    )
    return next(_versions(client, condition), None)


def _names(client: Any) -> list[str]:
    return [found.name for found in _models(client, None)]


def _models(client: Any, condition: str | None) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_registered_models(condition, _PAGE, ["name ASC"], token)
        yield from (
            model for model in page if LINEAGE in model.tags and _NAME.fullmatch(model.name)
        )
        token = page.token
        if not token:
            return


def _known(client: Any, name: str) -> str:
    there = _names(client)
    if name not in there:
        todo = "" if there else "Run `dvc repro`, then `seqline sync`."
        raise refuse(
            "model",
            name,
            "one of " + ", ".join(there) if there else "a registered model, and there is none",
            todo,
        )
    return name


def _move(client: Any, version: Version, holder: int | None, about: Mapping[str, Any]) -> None:
    """Put the alias on the version, after saying so: a name that sorts by time makes tags a
    list."""
    at = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    said = {"version": version.version, "from": holder, "at": at, **about}
    client.set_registered_model_tag(
        version.name, f"{_MOVE}{time.time_ns()}", json.dumps(said, ensure_ascii=False)
    )
    client.set_registered_model_alias(version.name, CHAMPION, str(version.version))


def _held(client: Any, name: str, alias: str) -> int | None:
    """The version that the alias is on."""
    [model] = _models(client, f"name = '{name}'")
    return _holder(model, alias)


def _holder(model: Any, alias: str) -> int | None:
    found = model.aliases.get(alias)
    return None if found is None else int(found)


def _moves(model: Any) -> list[dict[str, Any]]:
    """Return the recorded moves of the alias, in order of time; tags that no promotion wrote are
    skipped."""
    moves = (_mapping(text) for key, text in sorted(model.tags.items()) if key.startswith(_MOVE))
    return [move for move in moves if _is_move(move)]


def _is_move(move: Mapping[str, Any]) -> bool:
    numbers = isinstance(move.get("version"), int) and isinstance(move.get("from", ""), int | None)
    return numbers and isinstance(move.get("at"), str) and isinstance(move.get("why", {}), dict)


def _mapping(text: str) -> dict[str, Any]:
    """Parse the JSON object in a tag; an empty one for anything else, since others can write
    there."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _reigns(client: Any, name: str) -> list[ChampionPeriod]:
    """The champions that led to the present one, which is last; those that were rolled back are not
    among them."""
    [model] = _models(client, f"name = '{name}'")
    known = {each.version: each for each in _versions(client, f"name = '{name}'")}
    line = champion_moves(_moves(model), _holder(model, CHAMPION))
    return [
        ChampionPeriod(known[one["version"]], one["at"], dict(one.get("why", {})))
        for one in line
        if one["version"] in known
    ]
