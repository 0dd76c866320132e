"""The MLflow store: connection, the run of a digest, and logging to it. Imports mlflow."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.core import loopback
from pipeline.core.errors import describe_error, redact, refuse
from pipeline.tracking import describe, probe
from pipeline.tracking.run_lock import locks

Failure = (MlflowException, SQLAlchemyError, OSError, ImportError)
"""Errors of a store that is gone, slow, full or broken, or whose database's driver is missing."""

DIGEST, RUN, VERSION = "seqline.digest", "seqline.run", "seqline.version"
# tag of an experiment: the name that it was created with, in case it is renamed
EXPERIMENT = "seqline.experiment"
_CONTEXT = "mlflow.data.context"
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by default a dead server is retried for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
ARTIFACT_SCHEME = "mlflow-artifacts:/"
_MAX_RUNS = 100  # of one key: more than anybody has
# limits of MLflow's log_batch: metrics, and params or tags, in one call
_METRICS_PER_CALL = 1000
_ITEMS_PER_CALL = 100


def connect(root: Path) -> MlflowClient:
    """Connect to a store that exists and answers; raise one of `Failure` for any of its errors."""
    loopback.bypass_proxies()
    os.environ.update({key: value for key, value in _ENVIRONMENT.items() if key not in os.environ})
    for library in ("mlflow", "alembic"):
        # the caller reports errors, without a stack trace
        logging.getLogger(library).setLevel(logging.CRITICAL)

    database = describe.database(root)
    if database is not None:
        probe.open_file(database)
    else:
        probe.reach(describe.uri(root))
    if "MLFLOW_TRACKING_URI" not in os.environ:
        _create(describe.home(root) / "mlflow.db")
    client = _only_failures(lambda: MlflowClient(tracking_uri=describe.uri(root)))
    wrapped = cast(MlflowClient, _FailureClient(client))
    wrapped.search_experiments(max_results=1)
    return wrapped


class _FailureClient:
    """A client whose calls raise nothing but `Failure`.

    The library raises errors of any type after responses that no MLflow server gives."""

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
    except Exception as error:  # KeyError, TypeError ... of the library's parsing of a response
        raise MlflowException(f"{type(error).__name__}: {describe_error(error)[:200]}") from error


@contextmanager
def open_store(root: Path) -> Iterator[MlflowClient]:
    """Yield `connect`'s client; raise UserError, in one line, for a `Failure` in the block."""
    try:
        yield connect(root)
    except Failure as error:
        raise refuse(
            "MLFLOW_TRACKING_URI",
            redact(describe.uri(root)),  # without the store's password
            f"a store that works ({describe_error(error)[:200]})",
            "Repair or start it, then `seqline sync`; DVC's outputs are safe.",
        ) from None


def _create(database: Path) -> None:
    """Create the database if there is none.

    Several processes may do so at once. All but one would fail if they filled the same file. A lock
    would make everybody wait for a follower, which a busy system may not run for minutes. So each
    process fills a file of its own, and the first to finish gives it the name."""
    if database.exists():
        return
    # This import takes seconds, which the client of a server does not need.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = locks(database.parent)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{database.name}.{os.getpid()}.partial"
    try:
        # Private metrics and settings; SQLite gives its journals the same mode.
        partial.touch(mode=0o600)
        # MLflow's default location of artifacts would be a path, which is put into SQL unquoted,
        # and wrong once the project is moved.
        _only_failures(lambda: SqlAlchemyStore(describe.sqlite_uri(partial), ARTIFACT_SCHEME))
        with suppress(FileExistsError):
            os.link(partial, database)
    finally:
        partial.unlink(missing_ok=True)


def make_private(root: Path) -> None:
    """Make the project's own SQLite file readable by its owner alone."""
    database = describe.home(root) / "mlflow.db"
    with suppress(OSError):  # a file of another user, who decides on its mode
        if describe.database(root) == database:
            database.chmod(0o600)


def is_server(root: Path) -> bool:
    """Return whether the store is a server, reached over HTTP."""
    return describe.uri(root).startswith(("http://", "https://", "databricks"))


def find_run(client: MlflowClient, task: str, key: tuple[str, str]) -> Any:
    """Return the one active MLflow run of `key` (run's name, digest), or None.

    Deleted items come back: the task's experiment, and the run, whose curves and versions it keeps.
    Several active runs exist if two machines recorded it, or a deleted experiment came back. The
    one that a version refers to stays, else the oldest; the others are deleted in MLflow, where
    `mlflow gc` finds them."""
    experiment = find_experiment(client, task)
    if experiment is None:
        return None
    condition = f"tags.`{RUN}` = '{key[0]}' and tags.`{DIGEST}` = '{key[1]}'"
    runs = list(
        client.search_runs(
            [experiment.experiment_id],
            condition,
            ViewType.ALL,
            _MAX_RUNS,
            ["attributes.start_time ASC"],
        )
    )
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
            _delete_duplicate(client, duplicate)
    return run


def is_active(client: MlflowClient, run_id: str) -> bool:
    """Return whether there is a run of this id that is not deleted."""
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def restore_run(client: MlflowClient, run_id: str) -> Any:
    """Return the MLflow run of this id, with its experiment; restore what was deleted.

    None if the run is gone for good."""
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


def delete_run(client: MlflowClient, run: Any) -> None:
    """Delete the MLflow run; it stays in MLflow's list of deleted runs."""
    try:
        client.delete_run(run.info.run_id)
    except MlflowException:
        # Another process may have deleted it at the same time.
        if client.get_run(run.info.run_id).info.lifecycle_stage != "deleted":
            raise


def _delete_duplicate(client: MlflowClient, run: Any) -> None:
    delete_run(client, run)
    name = run.data.tags[RUN]
    print(
        f"seqline: {name}: one training had two MLflow runs: {run.info.run_id} is deleted (in "
        f"MLflow's list of deleted runs), {run.info.run_name} keeps one",
        file=sys.stderr,
    )


def create_run(
    client: MlflowClient,
    root: Path,
    task: str,
    key: tuple[str, str],
    name: str,
    tags: Mapping[str, str],
    start: int,
) -> Any:
    """Create an MLflow run for `key` that started at `start` (ms); the caller holds the lock of
    `run_lock.sole`."""
    experiment = find_experiment(client, task) or _create_experiment(client, root, task)
    return client.create_run(
        experiment.experiment_id,
        start_time=start,
        run_name=name,
        tags={**tags, RUN: key[0], DIGEST: key[1]},
    )


def set_name(client: MlflowClient, run: Any, name: str) -> None:
    """Give the run this name, if it has another."""
    if run.info.run_name != name:
        client.update_run(run.info.run_id, name=name)


def end_run(client: MlflowClient, run: Any, status: str, milliseconds: int) -> None:
    """End the run so that its duration is that of its training.

    MLflow never changes a run's start, which may be that of an earlier training of the same
    digest."""
    present = client.get_run(run.info.run_id).info
    # An outcome stays: a repeated training that failed leaves the outputs of the first.
    if present.status == "FINISHED" and status != "FINISHED":
        return
    end = present.start_time + milliseconds
    if (present.status, present.end_time) != (status, end):
        client.set_terminated(run.info.run_id, status, end)


def _experiment_name(task: str) -> str:
    """One experiment per task, since only runs of one task share their metrics."""
    return f"{os.environ.get('MLFLOW_EXPERIMENT_NAME') or 'seqline'}/{task}"


def find_experiment(client: MlflowClient, task: str) -> Any:
    """Return the task's experiment; None if there is none.

    One that was deleted is restored; one that was renamed is found by its tag."""
    name = _experiment_name(task)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        experiments = all_pages(partial(client.search_experiments, ViewType.ALL))
        renamed = (item for item in experiments if item.tags.get(EXPERIMENT) == name)
        experiment = next(renamed, None)
    if experiment is None:
        return None
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    if EXPERIMENT not in experiment.tags:
        client.set_experiment_tag(experiment.experiment_id, EXPERIMENT, name)
    return experiment


def all_pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Yield the results of all pages of one of MLflow's searches."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _create_experiment(client: MlflowClient, root: Path, task: str) -> Any:
    name = _experiment_name(task)
    # An address that the serving process resolves. MLflow would store an absolute path, which is
    # wrong once the project is moved.
    location = None if is_server(root) else f"{ARTIFACT_SCHEME}{describe.mlflow_name(name)}"
    # Without a kind MLflow's pages ask whether it is a chat agent.
    tags = {"mlflow.experimentKind": "custom_model_development", EXPERIMENT: name}
    # Another process may create it at the same time; other errors show in the search below.
    with suppress(MlflowException):
        client.create_experiment(name, artifact_location=location, tags=tags)
    experiment = find_experiment(client, task)
    if experiment is None:
        raise MlflowException(f"the experiment {name} could not be created")
    return experiment


def logged_steps(client: MlflowClient, run: Any) -> dict[str, set[int]]:
    """Steps of each metric that the run has."""
    return {
        name: {point.step for point in client.get_metric_history(run.info.run_id, name)}
        for name in run.data.metrics
    }


def logged_milliseconds(client: MlflowClient, run: Any) -> int:
    """Time from the run's start to its last point, 0 for a run without points."""
    times = [
        point.timestamp
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    ]
    return max(0, max(times, default=0) - int(run.info.start_time))


def log(
    client: MlflowClient,
    run_id: str,
    *,
    metrics: Iterable[tuple[str, float, int, int]] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log points (name, value, ms, step), params and tags in as few calls as the limits allow."""
    batches: tuple[tuple[str, list[Any], int], ...] = (
        ("metrics", [Metric(*point) for point in metrics], _METRICS_PER_CALL),
        ("params", [Param(*item) for item in (params or {}).items()], _ITEMS_PER_CALL),
        ("tags", [RunTag(*item) for item in (tags or {}).items()], _ITEMS_PER_CALL),
    )
    for kind, items, limit in batches:
        for start in range(0, len(items), limit):
            client.log_batch(run_id, **{kind: items[start : start + limit]})


def log_params(client: MlflowClient, run: Any, params: Mapping[str, str]) -> None:
    """Log the params that the run lacks; MLflow's params never change."""
    log(
        client,
        run.info.run_id,
        params={key: value for key, value in params.items() if key not in run.data.params},
    )


def log_tags(client: MlflowClient, run: Any, tags: Mapping[str, str]) -> None:
    """Log the tags of a run; its group stays, which may name what an experiment changed."""
    kept = {describe.SETTING} & set(run.data.tags)
    log(client, run.info.run_id, tags={key: tags[key] for key in tags if key not in kept})


def log_inputs(client: MlflowClient, run: Any, inputs: Mapping[str, str]) -> None:
    """Log data sets by path and DVC's md5 (`.dir` included, within MLflow's 36 characters)."""
    logged = {(item.dataset.name, item.dataset.digest) for item in run.inputs.dataset_inputs}
    missing = [
        DatasetInput(
            Dataset(path, digest, "dvc", json.dumps({"path": path, "md5": digest})),
            [InputTag(_CONTEXT, "training")],
        )
        for path, digest in inputs.items()
        if (path, digest) not in logged
    ]
    if missing:
        client.log_inputs(run.info.run_id, missing)
