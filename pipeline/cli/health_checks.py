"""Checks of `seqline doctor`, one line each."""

import importlib.metadata
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import requests
import sqlalchemy
import torch

from pipeline.cli import validate_params
from pipeline.core.errors import UserError, describe_error, redact
from pipeline.core.git import run_git
from pipeline.core.params import compute as compute_of
from pipeline.dag import paths, project, repair
from pipeline.text import shards
from pipeline.tracking import describe, spools

_GIGABYTE = 10**9
_LITTLE_GIGABYTES = 5
_COMMAND_TIMEOUT = 120  # seconds
_STORE_TIMEOUT = 5  # seconds
_SHOWN_NAMES = 3
_YET_TO_COME = "created at the first training or `seqline sync`"


class Finding(NamedTuple):
    """Result of one check; only FAIL means that something will not work."""

    state: Literal["ok", "warn", "FAIL"]
    subject: str
    detail: str


def run_checks(root: Path) -> list[Finding]:
    """Every finding about the project at `root`, in the order in which to fix them."""
    checks: list[Callable[[Path], Finding]] = [
        python,
        packages,
        devices,
        disk,
        git,
        params,
        abandoned_outputs,
        repairs,  # before the checks of DVC, which read what it repairs
        dvc,
        cache,
        lock,
        store,
        trainings,
        mirror,
        cluster,
        prefect,
    ]
    return [check(root) for check in checks]


def python(root: Path) -> Finding:
    """Check the Python version and that it is the project's."""
    is_in_venv = Path(sys.prefix) == root / ".venv"
    version = ".".join(str(number) for number in sys.version_info[:3])
    return Finding(
        "ok" if is_in_venv else "warn",
        "python",
        f"{version} in {sys.prefix}{'' if is_in_venv else ', not in .venv'}",
    )


def packages(root: Path) -> Finding:
    """Installed versions against constraints.txt."""
    pins = dict(
        line.split("==")
        for line in (root / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    installed = {name: version for name in pins if (version := _version(name))}
    # Builds of torch for one device have a suffix that the pin lacks, such as 2.9.0+cpu.
    different = [
        f"{name} {version} (pinned {pins[name]})"
        for name, version in installed.items()
        if version.split("+")[0] != pins[name]
    ]
    if different:
        return Finding("warn", "packages", f"{', '.join(different)}; `make test` updates .venv")
    return Finding("ok", "packages", f"{len(installed)} installed, each at its pin")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def devices(root: Path) -> Finding:
    """Devices that torch can use."""
    cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    cores = f"cpu ({os.cpu_count()} cores)"
    return Finding("ok", "devices", f"torch {torch.__version__}: {', '.join([*cuda, *mps, cores])}")


def disk(root: Path) -> Finding:
    """Room where the data and DVC's cache grow."""
    free = shutil.disk_usage(root).free / _GIGABYTE
    return Finding("ok" if free >= _LITTLE_GIGABYTES else "warn", "disk", f"{free:.1f} GB free")


def git(root: Path) -> Finding:
    """Return whether DVC has a git repository to work with."""
    try:
        project.check_repository(root)
        project.check_output_folders(root)
    except UserError as error:
        return Finding("FAIL", "git", str(error))
    if (line := project.git_refusal(root)) is not None:
        return Finding("warn", "git", line.removeprefix("git: "))

    try:
        completed = run_git(root, "rev-parse", "--short", "HEAD")
    except subprocess.TimeoutExpired as error:
        return Finding("FAIL", "git", str(error))
    status = completed.returncode
    output = " ".join((completed.stdout + completed.stderr).decode("utf-8", "replace").split())
    if status and not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return Finding(
            "warn", "git", "none, as core.no_scm says: runs are recorded without a commit"
        )
    return (
        Finding("FAIL", "git", output or "no repository")
        if status
        else Finding("ok", "git", f"at {output}")
    )


def params(root: Path) -> Finding:
    """Return whether params.yaml is in order."""
    try:
        return Finding("ok", "params", validate_params.check(root / "params.yaml"))
    except UserError as error:
        return Finding("FAIL", "params", str(error))


def abandoned_outputs(root: Path) -> Finding:
    """Outputs of runs that params.yaml no longer has: stages that depend on whole folders would see
    them."""
    try:
        abandoned = [str(path.relative_to(root)) for path in paths.abandoned_outputs(root)]
    except UserError as error:
        return Finding("FAIL", "abandoned outputs", str(error))
    return (
        Finding("warn", "abandoned outputs", f"{', '.join(abandoned)}; `seqline prune`")
        if abandoned
        else Finding("ok", "abandoned outputs", "none")
    )


def repairs(root: Path) -> Finding:
    """Repairs made now: of DVC's lock, databases and every object of its cache, all hashed
    again."""
    if not (root / ".dvc").is_dir():
        return Finding("ok", "repairs", "no DVC here yet")
    lines = repair.repair(root, thorough=True)
    return Finding("warn" if lines else "ok", "repairs", "; ".join(lines) or "nothing is damaged")


def dvc(root: Path) -> Finding:
    """Return whether DVC starts here."""
    status, output = run_command(root, "dvc", "root")
    if status:
        return Finding("FAIL", "dvc", f"{output}; run `dvc init`")
    return Finding("ok", "dvc", f"{_version('dvc')}, initialised")


def cache(root: Path) -> Finding:
    """DVC's cache: where it is and whether it can be written."""
    status, output = run_command(root, "dvc", "cache", "dir")
    folder = root / output
    if status:
        return Finding("FAIL", "cache", output)
    if not folder.exists():
        return Finding("ok", "cache", f"{output} (nothing in it yet)")
    writable = os.access(folder, os.W_OK)
    return Finding(
        "ok" if writable else "FAIL", "cache", f"{output}{'' if writable else ' cannot be written'}"
    )


def lock(root: Path) -> Finding:
    """Check that `dvc.lock` and the outputs agree with params.yaml and the code."""
    status, output = run_command(root, "dvc", "status", "--quiet")
    # DVC names the lock in its error if another process holds it.
    if "lock" in output.lower():
        return Finding("warn", "lock", "held by another dvc; try again when it is done")
    if output:
        return Finding("FAIL", "lock", output)
    return (
        Finding("warn", "lock", "stages have changed; `dvc repro`")
        if status
        else Finding("ok", "lock", "up to date")
    )


def store(root: Path) -> Finding:
    """The MLflow store: a server that answers, a SQLite file that opens, or another database that
    has runs."""
    uri = describe.uri(root)
    if uri.startswith(("http://", "https://")):
        return _server(uri)
    if uri.startswith("databricks"):
        return Finding("warn", "store", f"{redact(uri)} is not checked")

    file = describe.database(root)
    if file is None:
        return _database(uri)
    if not file.exists():
        return Finding("ok", "store", f"{redact(uri)} ({_YET_TO_COME})")

    try:
        # Read-only: a check must not change the database.
        with sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True) as opened:
            [[runs]] = opened.execute("select count(*) from runs")
    except sqlite3.Error as error:
        return Finding("FAIL", "store", f"{file}: {error}")
    return Finding("ok", "store", f"{file.name} with {runs} runs")


def trainings(root: Path) -> Finding:
    """Trainings of which MLflow lacks something, as on a busy machine, or without its server."""
    left = spools.pending(root)
    if not left:
        return Finding("ok", "trainings", "MLflow has all of them")
    names = ", ".join(spool.header["run"] for spool in left[:_SHOWN_NAMES])
    more = ", ..." if len(left) > _SHOWN_NAMES else ""
    detail = f"{len(left)} not all in MLflow ({names}{more}): run `seqline sync`"
    return Finding("warn", "trainings", detail)


def _server(uri: str) -> Finding:
    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=_STORE_TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as error:
        return _unreachable(uri, error)
    return Finding("ok", "store", f"{redact(uri)} answers {answer.status_code}")


def _database(uri: str) -> Finding:
    """Query through SQLAlchemy: MLflow's own client would create tables."""
    try:
        # Not every driver has this option: sqlite3 refuses it.
        has_timeout = sqlalchemy.make_url(uri).get_backend_name() in ("postgresql", "mysql")
        settings = {"connect_timeout": _STORE_TIMEOUT} if has_timeout else {}
        with sqlalchemy.create_engine(uri, connect_args=settings).connect() as opened:
            if not sqlalchemy.inspect(opened).has_table("runs"):
                return Finding("ok", "store", f"{redact(uri)} ({_YET_TO_COME})")
            runs = opened.scalar(sqlalchemy.text("select count(*) from runs"))
    except sqlalchemy.exc.OperationalError as error:
        return _unreachable(uri, error)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        # no address of a database, or no driver for it
        return Finding("FAIL", "store", f"{redact(uri)}: {describe_error(error)}")
    return Finding("ok", "store", f"{redact(uri)} with {runs} runs")


def _unreachable(uri: str, error: Exception) -> Finding:
    return Finding(
        "warn",
        "store",
        f"{redact(uri)}: {describe_error(error)}; training continues; "
        "run `seqline sync` when it is reachable",
    )


def mirror(root: Path) -> Finding:
    """Check the folder or address that is tried for corpora before the network."""
    where = os.environ.get("SEQLINE_MIRROR", "")
    if not where:
        return Finding(
            "ok", "mirror", "SEQLINE_MIRROR is not set: files come from their own addresses"
        )
    if where.startswith(("http://", "https://")):
        return Finding("ok", "mirror", redact(where))
    is_folder = Path(where).is_dir()
    return Finding(
        "ok" if is_folder else "FAIL", "mirror", where if is_folder else f"{where}: no such folder"
    )


def cluster(root: Path) -> Finding:
    """Check what computes batches: processes here, or a Dask cluster that must answer and have this
    code."""
    try:
        compute = compute_of(root / "params.yaml")
        if compute.cluster is None:
            return Finding(
                "ok", "cluster", f"none: batches are computed here, {compute.workers} at a time"
            )
        capacity = shards.cluster_capacity(compute.cluster)
        return Finding("ok", "cluster", f"{compute.cluster} answers, {capacity} batches at a time")
    except UserError as error:
        return Finding("FAIL", "cluster", str(error))


def prefect(root: Path) -> Finding:
    """State of the configured Prefect server: that it answers, and is closed to other sites' pages
    and other accounts."""
    from pipeline.flow import prefect_server

    prefect_server.quiet()
    url = prefect_server.configured_url()
    if url is None:
        return Finding("ok", "prefect", "no server is configured: one is started for each run")
    if not prefect_server.is_reachable():
        return Finding("warn", "prefect", f"{redact(url)} does not answer as a Prefect server does")
    exposed = prefect_server.exposure_warning()
    return (
        Finding("warn", "prefect", exposed)
        if exposed
        else Finding("ok", "prefect", f"{redact(url)} answers")
    )


def run_command(root: Path, *command: str) -> tuple[int, str]:
    """A command's exit status and its output, in one line."""
    # The project's own dvc comes first, even if its environment is not activated.
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    try:
        completed = subprocess.run(
            command,
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return completed.returncode, " ".join((completed.stdout + completed.stderr).split())
