"""Artifacts of MLflow runs: the project's own folder of them, or a server's storage."""

import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow import MlflowClient

from pipeline.core.atomic import replace_file
from pipeline.core.errors import UserError, refuse
from pipeline.tracking import describe
from pipeline.tracking.mlflow_store import ARTIFACT_SCHEME, is_server


def artifact_folder(root: Path) -> Path:
    """Folder of the artifacts that the project's own server serves.

    `mlflow ui`, started in the project's folder, looks there by default."""
    return describe.home(root) / "mlartifacts"


def log_artifacts(client: MlflowClient, root: Path, run: Any, folder: Path) -> None:
    """Make everything in `folder` an artifact of the run; replace artifacts of the same name.

    UserError if the store names a place outside of the project's folder of artifacts.
    """
    if not _is_local(root, run):
        client.log_artifacts(run.info.run_id, str(folder))
        return

    place = _local_path(root, run.info.artifact_uri)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = place / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Again: a folder below may be a link that leads outside.
        _check_inside(root, target.parent, run.info.artifact_uri)
        # Copy, then rename: a reader sees the old artifact or the whole new one.
        partial = target.with_name(f".{target.name}.partial")
        shutil.copyfile(file, partial)
        replace_file(partial, target, sync=False)


def artifact_source(root: Path, run: Any, name: str) -> str:
    """Address of the run's artifact `name`, as the source of a model version.

    Without a server it is a path relative to the project's folder, in which `mlflow` and `seqline`
    run, so that a project may be moved. A server resolves its own addresses."""
    source = f"{run.info.artifact_uri}/{name}"
    if not _is_local(root, run):
        return source
    return _local_path(root, source).relative_to(describe.home(root)).as_posix()


def _is_local(root: Path, run: Any) -> bool:
    """Return whether the run's artifacts lie in the project's own folder, without a server."""
    return bool(run.info.artifact_uri.startswith(ARTIFACT_SCHEME)) and not is_server(root)


def _local_path(root: Path, uri: str) -> Path:
    """Return the folder at an address in the project's folder of artifacts.

    UserError if it is outside, since others may write to the database."""
    path = uri.removeprefix(ARTIFACT_SCHEME).lstrip("/")
    if "\0" in path or "\\" in path or ".." in PurePosixPath(path).parts:
        raise _outside_error(root, uri)
    place = artifact_folder(root) / path
    _check_inside(root, place, uri)
    return place


def _check_inside(root: Path, place: Path, uri: str) -> None:
    if not place.resolve().is_relative_to(artifact_folder(root).resolve()):
        raise _outside_error(root, uri)


def _outside_error(root: Path, uri: str) -> UserError:
    return refuse(
        "artifact_uri of an MLflow run",
        uri,
        f"a place in {artifact_folder(root)}",
        "Delete that run in MLflow, then `seqline sync`.",
    )
