"""The MLflow store: where it is, opening it, the one run of a digest, what it lacks, and its
artifacts. Imports mlflow."""

import json
import logging
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.core import loopback
from pipeline.core.errors import UserError, refuse, shown, told
from pipeline.tracking import describe
from pipeline.tracking.run_lock import locks

Failure = (MlflowException, SQLAlchemyError, OSError, ImportError)
"""All that a store's call raises when the store is gone, slow, full or broken, or its database's
driver is not installed."""

DIGEST, RUN, VERSION = "seqline.digest", "seqline.run", "seqline.version"
# an experiment's tag: the name that it was made under, whatever it is called today
_EXPERIMENT = "seqline.experiment"
_CONTEXT = "mlflow.data.context"
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a dead server would be waited for for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_SCHEME = "mlflow-artifacts:/"
_LOCKED_SECONDS = 5.0
_RUNS = 100  # of one key: more than anybody has
# the most metrics, and the most params or tags, that one call may carry
_METRICS, _ITEMS = 1000, 100


def artifacts(root: Path) -> Path:
    """Folder of artifacts that a server of ours hands out: `mlflow ui` in the project's folder
    looks there by itself."""
    return describe.home(root) / "mlartifacts"


def connect(root: Path) -> MlflowClient:
    """A client whose store exists and answers; it raises one of `Failure` for whatever the store
    does wrong."""
    loopback.bypass_proxies()
    os.environ.update({key: value for key, value in _PATIENCE.items() if key not in os.environ})
    for chatty in ("mlflow", "alembic"):
        # the caller reports errors, without a stack trace
        logging.getLogger(chatty).setLevel(logging.CRITICAL)

    database = describe.database(root)
    if database is not None:
        _check(database)
    if "MLFLOW_TRACKING_URI" not in os.environ:
        _create(describe.home(root) / "mlflow.db")
    client = _only_failures(lambda: MlflowClient(tracking_uri=describe.uri(root)))
    guarded = cast(MlflowClient, _Guarded(client))
    guarded.search_experiments(max_results=1)
    return guarded


class _Guarded:
    """A client whose calls raise nothing but `Failure`: after answers that no MLflow server gives,
    the library raises errors of any type."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute):
            return attribute
        return lambda *args, **kwargs: _only_failures(lambda: attribute(*args, **kwargs))


def _only_failures(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except Failure:
        raise
    except Exception as error:  # KeyError, TypeError ... out of the library's parsing of the answer
        raise MlflowException(f"{type(error).__name__}: {told(error)[:200]}") from error


def _check(database: Path) -> None:
    """Raise the error of opening the SQLite file, which MLflow would retry for minutes; pass if
    there is no file yet."""
    if not database.exists():
        return
    if database.is_dir():
        raise IsADirectoryError(f"{database} is a folder, not an SQLite file")
    address = f"file:{quote(os.fsencode(database.absolute()))}?mode=ro"
    try:
        opened = sqlite3.connect(address, uri=True, timeout=_LOCKED_SECONDS)
        try:
            opened.execute("select count(*) from sqlite_master").fetchall()
        finally:
            opened.close()
    except sqlite3.Error as error:
        raise MlflowException(f"{database}: {error}") from None


def store_error(root: Path, error: BaseException, todo: str) -> UserError:
    """Make the UserError for a `Failure` of the project's store, without the store's password."""
    expected = f"a store that works ({told(error)[:200]})"
    return refuse("MLFLOW_TRACKING_URI", shown(describe.uri(root)), expected, todo)


@contextmanager
def open_store(root: Path) -> Iterator[MlflowClient]:
    """As `connect`, for as long as the block runs: UserError, in one line, for whatever the store
    does wrong in it."""
    try:
        yield connect(root)
    except Failure as error:
        raise store_error(
            root, error, "Mend or start it, then `seqline sync`; DVC's outputs are safe."
        ) from None


def _create(database: Path) -> None:
    """Make the database if there is none.

    Of several processes that fill one new file at once all but one fail, and behind a lock a
    follower, which a busy system may not run for minutes, would hold up everybody: so each makes a
    file of its own, and the first to finish names it."""
    if database.exists():
        return
    # seconds that a server's client need not pay
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = locks(database.parent)
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{database.name}.{os.getpid()}.partial"
    try:
        # private figures and settings; SQLite gives its journals the same mode
        beside.touch(mode=0o600)
        # MLflow's default would be a path, put into SQL with all its quotes, and wrong once the
        # project is moved.
        _only_failures(lambda: SqlAlchemyStore(describe.sqlite_uri(beside), _SCHEME))
        with suppress(FileExistsError):
            os.link(beside, database)
    finally:
        beside.unlink(missing_ok=True)


def make_private(root: Path) -> None:
    """Make the project's own SQLite file readable by its owner alone."""
    database = describe.home(root) / "mlflow.db"
    with suppress(OSError):  # a file of another user, who decides on its mode
        if describe.database(root) == database:
            database.chmod(0o600)


def is_server(root: Path) -> bool:
    """Return whether the store is spoken to over HTTP."""
    return describe.uri(root).startswith(("http://", "https://", "databricks"))


def find_run(client: MlflowClient, task: str, key: tuple[str, str]) -> Any:
    """The one active MLflow run of `key` (run's name, digest), or None if there never was one.

    What was deleted on MLflow's pages comes back: the task's experiment, and the run, whose curves
    and versions it keeps. Of several active ones (two machines recorded it, or a deleted experiment
    came back) the one that a version refers to stays, else the oldest; the others go to MLflow's
    deleted runs, where `mlflow gc` finds them."""
    experiment = _experiment(client, task)
    if experiment is None:
        return None
    want = f"tags.`{RUN}` = '{key[0]}' and tags.`{DIGEST}` = '{key[1]}'"
    place, order = [experiment.experiment_id], ["attributes.start_time ASC"]
    runs = list(client.search_runs(place, want, ViewType.ALL, _RUNS, order))
    if not runs:
        return None

    # Sorting is stable: by age among equals.
    run, *duplicates = sorted(
        runs, key=lambda run: (run.info.lifecycle_stage == "deleted", VERSION not in run.data.tags)
    )
    if run.info.lifecycle_stage == "deleted":
        client.restore_run(run.info.run_id)
        return client.get_run(run.info.run_id)
    for duplicate in duplicates:
        if duplicate.info.lifecycle_stage != "deleted":
            _trash(
                client,
                duplicate,
                f"{key[0]}: one training had two MLflow runs: {duplicate.info.run_id} is deleted",
            )
    return run


def restore_run(client: MlflowClient, run_id: str) -> Any:
    """Return the MLflow run of this id, restored if it or its experiment was deleted; None if it is
    gone for good."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    experiment = client.get_experiment(run.info.experiment_id)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
        run = client.get_run(run_id)
    if run.info.lifecycle_stage == "deleted":
        client.restore_run(run_id)
        run = client.get_run(run_id)
    return run


def _trash(client: MlflowClient, run: Any, line: str) -> None:
    try:
        client.delete_run(run.info.run_id)
    except MlflowException:
        # not done by another at the same time
        if client.get_run(run.info.run_id).info.lifecycle_stage != "deleted":
            raise
    print(
        f"seqline: {line} (in MLflow's list of deleted runs), {run.info.run_name} keeps one",
        file=sys.stderr,
    )


def create_run(
    client: MlflowClient, root: Path, task: str, key: tuple[str, str], tags: Mapping[str, str]
) -> Any:
    """A new MLflow run for `key`, whose `sole` the caller holds."""
    experiment = _experiment(client, task) or _create_experiment(client, root, task)
    return client.create_run(
        experiment.experiment_id, run_name=key[0], tags={**tags, RUN: key[0], DIGEST: key[1]}
    )


def _experiment_name(task: str) -> str:
    """One experiment per task: only runs of one task share their metrics, and are worth a look side
    by side."""
    return f"{os.environ.get('MLFLOW_EXPERIMENT_NAME') or 'seqline'}/{task}"


def _experiment(client: MlflowClient, task: str) -> Any:
    """The task's experiment, brought back if it was deleted, found by its tag if it was renamed;
    None if there is none."""
    name = _experiment_name(task)
    experiment = client.get_experiment_by_name(name) or _renamed(client, name)
    if experiment is None:
        return None
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    if _EXPERIMENT not in experiment.tags:
        client.set_experiment_tag(experiment.experiment_id, _EXPERIMENT, name)
    return experiment


def _renamed(client: MlflowClient, name: str) -> Any:
    token = None
    while True:
        page = client.search_experiments(ViewType.ALL, page_token=token)
        for experiment in page:
            if experiment.tags.get(_EXPERIMENT) == name:
                return experiment
        token = page.token
        if not token:
            return None


def _create_experiment(client: MlflowClient, root: Path, task: str) -> Any:
    name = _experiment_name(task)
    # An address that the serving process resolves, where MLflow would store an absolute path: a
    # project may be moved.
    location = None if is_server(root) else f"{_SCHEME}{describe.mlflow_name(name)}"
    # Without a kind the pages ask whether it is a chat agent.
    tags = {"mlflow.experimentKind": "custom_model_development", _EXPERIMENT: name}
    # made by another at the same time, or the search below says what is wrong
    with suppress(MlflowException):
        client.create_experiment(name, artifact_location=location, tags=tags)
    experiment = _experiment(client, task)
    if experiment is None:
        raise MlflowException(f"the experiment {name} could not be made")
    return experiment


def logged_steps(client: MlflowClient, run: Any) -> dict[str, set[int]]:
    """Steps of each metric that the run has."""
    names = run.data.metrics
    return {
        name: {point.step for point in client.get_metric_history(run.info.run_id, name)}
        for name in names
    }


def log(
    client: MlflowClient,
    run_id: str,
    *,
    metrics: Iterable[tuple[str, float, int, int]] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log points (name, value, ms, step), params and tags in as few calls as the limits allow."""
    points = [Metric(name, value, at, step) for name, value, at, step in metrics]
    for at in range(0, len(points), _METRICS):
        client.log_batch(run_id, metrics=points[at : at + _METRICS])
    settings = [Param(name, value) for name, value in (params or {}).items()]
    for at in range(0, len(settings), _ITEMS):
        client.log_batch(run_id, params=settings[at : at + _ITEMS])
    labels = [RunTag(name, value) for name, value in (tags or {}).items()]
    for at in range(0, len(labels), _ITEMS):
        client.log_batch(run_id, tags=labels[at : at + _ITEMS])


def log_params(client: MlflowClient, run: Any, params: Mapping[str, str]) -> None:
    """Params never change, so only those are sent that the run lacks."""
    log(
        client,
        run.info.run_id,
        params={key: value for key, value in params.items() if key not in run.data.params},
    )


def log_inputs(client: MlflowClient, run: Any, inputs: Mapping[str, str]) -> None:
    """Data sets by path and DVC's md5 (a digest holds 36 characters: md5 and `.dir`)."""
    known = {(given.dataset.name, given.dataset.digest) for given in run.inputs.dataset_inputs}
    sets = [
        DatasetInput(
            Dataset(path, digest, "dvc", json.dumps({"path": path, "md5": digest})),
            [InputTag(_CONTEXT, "training")],
        )
        for path, digest in inputs.items()
        if (path, digest) not in known
    ]
    if sets:
        client.log_inputs(run.info.run_id, sets)


def log_artifacts(client: MlflowClient, root: Path, run: Any, folder: Path) -> None:
    """Make all that is in `folder` an artifact of the run; what it had under the same names is
    replaced.

    UserError if the store names a place outside of the project's folder of artifacts.
    """
    if not _is_ours(root, run):
        client.log_artifacts(run.info.run_id, str(folder))
        return
    place = _place(root, run.info.artifact_uri)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = place / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        _refuse_outside(root, target.parent, run.info.artifact_uri)  # by a link
        beside = target.with_name(f".{target.name}.partial")
        shutil.copyfile(file, beside)
        beside.replace(target)


def _is_ours(root: Path, run: Any) -> bool:
    """Return whether the run's artifacts lie in the project's own folder, with no server before
    it."""
    return bool(run.info.artifact_uri.startswith(_SCHEME)) and not is_server(root)


def _place(root: Path, uri: str) -> Path:
    """Return the folder at an address of ours; UserError if it is outside, since others may write
    to the database."""
    path = uri.removeprefix(_SCHEME).lstrip("/")
    if "\0" in path or "\\" in path or ".." in PurePosixPath(path).parts:
        raise _outside(root, uri)
    place = artifacts(root) / path
    _refuse_outside(root, place, uri)
    return place


def _refuse_outside(root: Path, place: Path, uri: str) -> None:
    if not place.resolve().is_relative_to(artifacts(root).resolve()):
        raise _outside(root, uri)


def _outside(root: Path, uri: str) -> UserError:
    todo = "Delete that run in MLflow, then `seqline sync`."
    return refuse("artifact_uri of an MLflow run", uri, f"a place in {artifacts(root)}", todo)


def artifact_source(root: Path, run: Any, name: str) -> str:
    """Address of the run's artifact `name`, as the source of a model version.

    Without a server it is a path from the project's folder, where `mlflow` and `seqline` look from,
    so that a project may be moved; what a server hands out it resolves itself."""
    source = f"{run.info.artifact_uri}/{name}"
    if not _is_ours(root, run):
        return source
    return _place(root, source).relative_to(describe.home(root)).as_posix()
