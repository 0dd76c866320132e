"""The MLflow store: where it is, opening it, the one run of a digest, what it lacks, and its artifacts. Imports mlflow."""

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline import loopback
from pipeline.errors import UserError, refuse, shown, told
from pipeline.tracking import describe

Failure = (MlflowException, SQLAlchemyError, OSError, ImportError)
"""All that a store's call raises when the store is gone, slow, full or broken, or its database's driver is not installed."""

DIGEST, RUN = "seqline.digest", "seqline.run"
_CONTEXT = "mlflow.data.context"
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a dead server would be waited for for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_SCHEME = "mlflow-artifacts:/"
_METRICS, _ITEMS = 1000, 100  # the most metrics, and the most params or tags, that one call may carry


def artifacts(root: Path) -> Path:
    """Where artifacts lie that a server of ours hands out: `mlflow ui` in the project's folder looks there by itself."""
    return describe.home(root) / "mlartifacts"


def locks(root: Path) -> Path:
    """The folder of the locks that keep two writers off one run."""
    return describe.home(root) / ".seqline" / "tracking"


def connect(root: Path) -> MlflowClient:
    """A client whose store exists and answers."""
    loopback.bypass_proxies()
    os.environ.update({key: value for key, value in _PATIENCE.items() if key not in os.environ})
    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if "MLFLOW_TRACKING_URI" not in os.environ:
        _create(describe.home(root) / "mlflow.db")
    client = MlflowClient(tracking_uri=describe.uri(root))
    client.search_experiments(max_results=1)
    return client


def refused(root: Path, error: BaseException, todo: str) -> UserError:
    """A `Failure` of the project's store as the user's mistake, without the store's password."""
    expected = f"a store that works ({told(error)[:200]})"
    return refuse("MLFLOW_TRACKING_URI", shown(describe.uri(root)), expected, todo)


@contextmanager
def reached(root: Path) -> Iterator[MlflowClient]:
    """As `connect`, for as long as the block runs: UserError, in one line, for whatever the store does wrong in it."""
    try:
        yield connect(root)
    except Failure as error:
        raise refused(root, error, "Mend or start it, then `seqline sync`; DVC's outputs are safe.") from None


def _create(database: Path) -> None:
    """Make the database if there is none.

    Of several processes that fill one new file at once all but one fail, and behind a lock a follower, which a busy system
    may not run for minutes, would hold up everybody: so each makes a file of its own, and the first to finish names it.
    """
    if database.exists():
        return
    folder = locks(database.parent)
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{database.name}.{os.getpid()}.partial"
    try:
        MlflowClient(tracking_uri=f"sqlite:///{beside}").search_experiments(max_results=1)
        with suppress(FileExistsError):
            os.link(beside, database)
    finally:
        beside.unlink(missing_ok=True)


def is_server(root: Path) -> bool:
    """Whether the store is spoken to over HTTP."""
    return describe.uri(root).startswith(("http://", "https://", "databricks"))


def find(client: MlflowClient, task: str, key: tuple[str, str]) -> Any:
    """The MLflow run of `key` (run's name, digest), or None; the oldest, should two machines have made one each."""
    experiment = client.get_experiment_by_name(_experiment_name(task))
    if experiment is None:
        return None
    want = f"tags.`{RUN}` = '{key[0]}' and tags.`{DIGEST}` = '{key[1]}'"
    found = client.search_runs([experiment.experiment_id], want, order_by=["attributes.start_time ASC"], max_results=1)
    return found[0] if found else None


def make(client: MlflowClient, root: Path, task: str, key: tuple[str, str], tags: Mapping[str, str]) -> Any:
    """A new MLflow run for `key`, whose `sole` the caller holds."""
    experiment = _experiment(client, root, task)
    return client.create_run(experiment, run_name=key[0], tags={**tags, RUN: key[0], DIGEST: key[1]})


def _experiment_name(task: str) -> str:
    """One experiment per task: only runs of one task share their metrics, and are worth a look side by side."""
    return f"{os.environ.get('MLFLOW_EXPERIMENT_NAME') or 'seqline'}/{task}"


def _experiment(client: MlflowClient, root: Path, task: str) -> str:
    name = _experiment_name(task)
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    # An address that the serving process resolves, where MLflow would store an absolute path: a project may be moved.
    location = None if is_server(root) else f"{_SCHEME}{name}"
    kind = {"mlflow.experimentKind": "custom_model_development"}  # else the pages ask whether it is a chat agent
    try:
        return str(client.create_experiment(name, artifact_location=location, tags=kind))
    except MlflowException:
        found = client.get_experiment_by_name(name)
        if found is None:  # not merely made by another at the same time
            raise
        return str(found.experiment_id)


def steps(client: MlflowClient, run: Any) -> dict[str, set[int]]:
    """Which steps of which metric the run has."""
    names = run.data.metrics
    return {name: {point.step for point in client.get_metric_history(run.info.run_id, name)} for name in names}


def add(
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


def add_params(client: MlflowClient, run: Any, params: Mapping[str, str]) -> None:
    """Params never change, so only those are sent that the run lacks."""
    add(client, run.info.run_id, params={key: value for key, value in params.items() if key not in run.data.params})


def add_inputs(client: MlflowClient, run: Any, inputs: Mapping[str, str]) -> None:
    """Data sets by path and DVC's md5 (a digest holds 36 characters: md5 and `.dir`)."""
    known = {(given.dataset.name, given.dataset.digest) for given in run.inputs.dataset_inputs}
    sets = [
        DatasetInput(
            Dataset(path, digest, "dvc", json.dumps({"path": path, "md5": digest})), [InputTag(_CONTEXT, "training")]
        )
        for path, digest in inputs.items()
        if (path, digest) not in known
    ]
    if sets:
        client.log_inputs(run.info.run_id, sets)


def put(client: MlflowClient, root: Path, run: Any, folder: Path) -> None:
    """Make all that is in `folder` an artifact of the run; what it had under the same names is replaced."""
    if _is_ours(root, run):
        place = _place(root, run.info.artifact_uri)
        shutil.copytree(folder, place, dirs_exist_ok=True, copy_function=shutil.copyfile)
    else:
        client.log_artifacts(run.info.run_id, str(folder))


def _is_ours(root: Path, run: Any) -> bool:
    """Whether the run's artifacts lie in the project's own folder, with no server before it."""
    return bool(run.info.artifact_uri.startswith(_SCHEME)) and not is_server(root)


def _place(root: Path, uri: str) -> Path:
    return artifacts(root) / uri.removeprefix(_SCHEME).lstrip("/")


def address(root: Path, run: Any, name: str) -> str:
    """Where the run's artifact `name` is, in the words of a model version's source.

    Without a server it is a path from the project's folder, where `mlflow` and `seqline` look from, so that a project may
    be moved; what a server hands out it resolves itself.
    """
    whole = f"{run.info.artifact_uri}/{name}"
    if not _is_ours(root, run):
        return whole
    return _place(root, whole).relative_to(describe.home(root)).as_posix()


class Busy(Exception):
    """Another process has been writing to the run all the time; its id is the argument, 0 if it did not leave it."""


@contextmanager
def sole(root: Path, key: tuple[str, str], patient: Callable[[], bool]) -> Iterator[None]:
    """Be the only one that writes to the run of `key`; wait for another while `patient()`, then `Busy`."""
    path = locks(root) / f"{key[0]}-{key[1][:16]}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        while not _try_lock(handle.fileno()):
            if not patient():
                raise Busy(int(path.read_text() or 0))
            time.sleep(0.1)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
