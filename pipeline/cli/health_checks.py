"""Checks of `seqline doctor`, one line each."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.cli.finding import Finding
from pipeline.cli.store_checks import store, trainings
from pipeline.cli.version import installed as installed_version
from pipeline.core import state_dir
from pipeline.core.errors import UserError, redact
from pipeline.core.git import run_git
from pipeline.core.locks import owner
from pipeline.core.params import compute as compute_of
from pipeline.dag import paths, project, repair, run_settings
from pipeline.text import shards

_GIGABYTE = 10**9
_LITTLE_GIGABYTES = 5
_COMMAND_TIMEOUT = 120  # seconds
_SHOWN_STAGES = 5


def run_checks(root: Path) -> Iterator[Finding]:
    """Yield every finding about the project at `root` when it is known.

    Commands of DVC, which take seconds, run while this process imports torch and Prefect."""
    first: list[Callable[[Path], Finding]] = [python, packages, disk, git]
    for check in first:
        yield check(root)
    yield repairs(root)  # before the checks of DVC, which read what it repairs

    commands: list[Callable[[Path], Finding]] = [dvc, cache, lock]
    without_dvc: list[Callable[[Path], Finding]] = [
        devices,
        params,
        abandoned_outputs,
        store,
        trainings,
        mirror,
        cluster,
        prefect,
    ]
    with ThreadPoolExecutor(len(commands)) as pool:
        running = [pool.submit(check, root) for check in commands]
        for check in without_dvc:
            yield check(root)
        for future in running:
            yield future.result()


def python(root: Path) -> Finding:
    """Check the Python version and that it is the project's."""
    is_in_venv = Path(sys.prefix) == root / ".venv"
    version = ".".join(str(number) for number in sys.version_info[:3])
    if is_in_venv:
        return Finding("ok", "python", f"{version} in {sys.prefix}")
    todo = "`source .venv/bin/activate`. `make repro` creates it."
    return Finding("warn", "python", f"{version} in {sys.prefix}, not in .venv", todo)


def packages(root: Path) -> Finding:
    """Installed versions against constraints.txt."""
    pins = dict(
        line.split("==")
        for line in (root / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    installed = {name: version for name in pins if (version := installed_version(name))}
    # Builds of torch for one device have a suffix that the pin lacks, such as 2.9.0+cpu.
    different = [
        f"{name} {version} (pinned {pins[name]})"
        for name, version in installed.items()
        if version.split("+")[0] != pins[name]
    ]
    if different:
        todo = "`make repro` and `make test` install the pinned versions into .venv."
        return Finding("warn", "packages", ", ".join(different), todo)
    return Finding("ok", "packages", f"{len(installed)} installed, each at its pin")


def devices(root: Path) -> Finding:
    """Devices that torch can use, against those that the machine has."""
    import torch

    from pipeline.flow.devices import visible

    cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    cores = f"cpu ({os.cpu_count()} cores)"
    detail = f"torch {torch.__version__}: {', '.join([*cuda, *mps, cores])}"
    if not cuda and (gpus := visible()):
        todo = "Install torch's build for CUDA and this driver, or set `compute.device: cpu`."
        return Finding("warn", "devices", f"{detail}; it cannot use {len(gpus)} GPUs", todo)
    return Finding("ok", "devices", detail)


def disk(root: Path) -> Finding:
    """Room where the data and DVC's cache grow."""
    free = shutil.disk_usage(root).free / _GIGABYTE
    if free >= _LITTLE_GIGABYTES:
        return Finding("ok", "disk", f"{free:.1f} GB free")
    todo = "Free some space; `seqline prune` removes old outputs, logs and states."
    return Finding("warn", "disk", f"{free:.1f} GB free", todo)


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
    from pipeline.cli import validate_params  # imports torch

    try:
        counts, _, unused = validate_params.check(root / "params.yaml").partition("\n")
        return Finding("warn" if unused else "ok", "params", unused or counts)
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
        Finding(
            "warn",
            "abandoned outputs",
            ", ".join(abandoned),
            "`seqline prune` removes them; DVC's cache keeps them.",
        )
        if abandoned
        else Finding("ok", "abandoned outputs", "none")
    )


def repairs(root: Path) -> Finding:
    """Repairs made now: of DVC's lock, databases and every object of its cache, all hashed
    again."""
    if not (root / ".dvc").is_dir():
        return Finding("ok", "repairs", "no DVC here yet")
    lines = repair.repair(root, thorough=True)
    if not lines:
        return Finding("ok", "repairs", "nothing is damaged")
    todo = "It is repaired. `seqline run` makes what is missing."
    return Finding("warn", "repairs", "; ".join(lines), todo)


def dvc(root: Path) -> Finding:
    """Return whether DVC starts here."""
    status, output = run_command(root, "dvc", "root")
    if not status:
        return Finding("ok", "dvc", f"{installed_version('dvc')}, initialised")
    todo = "Remove .venv and run `make repro`, if DVC does not start at all."
    if not (root / ".dvc").is_dir():
        todo = "Run `dvc init`, or clone the project instead of copying its files."
    return Finding("FAIL", "dvc", output, todo)


def cache(root: Path) -> Finding:
    """DVC's cache: where it is and whether it can be written."""
    status, output = run_command(root, "dvc", "cache", "dir")
    folder = root / output
    if status:
        return Finding("FAIL", "cache", output, "See `dvc` above.")
    if not folder.exists():
        return Finding("ok", "cache", f"{output} (nothing in it yet)")
    if os.access(folder, os.W_OK):
        return Finding("ok", "cache", output)
    todo = "Change its permissions, or choose another folder: `dvc cache dir --local PATH`."
    return Finding("FAIL", "cache", f"{output} cannot be written", todo)


def lock(root: Path) -> Finding:
    """Check that `dvc.lock` and the outputs agree with params.yaml and the code."""
    if (flow := owner(root / state_dir.FLOW_LOCK)) is not None:
        return Finding("ok", "lock", f"not checked: a flow is at work (process {flow.pid})")
    status, output = run_command(root, *_dvc_command(root), "status", "--json")
    try:
        changed = list(json.loads(output))
    except (ValueError, TypeError):
        # DVC names the lock in its error if another process holds it.
        if "lock" in output.lower():
            todo = "Try again when it is done."
            return Finding("warn", "lock", "held by another dvc", todo)
        return Finding("FAIL", "lock", output or f"`dvc status` ended with {status}")
    if not changed:
        return Finding("ok", "lock", "up to date")
    more = f" and {len(changed) - _SHOWN_STAGES} more" if len(changed) > _SHOWN_STAGES else ""
    names = ", ".join(changed[:_SHOWN_STAGES])
    stages = "1 stage has" if len(changed) == 1 else f"{len(changed)} stages have"
    detail = f"{stages} changed: {names}{more}"
    return Finding("warn", "lock", detail, "`seqline run` or `dvc repro` brings them up to date.")


def _dvc_command(root: Path) -> tuple[str, ...]:
    """DVC as `run.dvc` of flow.yaml selects it: the patched one reads a large DAG faster."""
    try:
        is_plain = run_settings.load(root).dvc == "plain"
    except UserError:  # which the check of the params reports
        is_plain = True
    return ("dvc",) if is_plain else (sys.executable, "-m", "pipeline.dag.durable_dvc")


def mirror(root: Path) -> Finding:
    """Check the folder or address that is tried for corpora before the network."""
    where = os.environ.get("SEQLINE_MIRROR", "")
    if not where:
        return Finding(
            "ok", "mirror", "SEQLINE_MIRROR is not set: files come from their own addresses"
        )
    if where.startswith(("http://", "https://")):
        return Finding("ok", "mirror", redact(where))
    if Path(where).is_dir():
        return Finding("ok", "mirror", where)
    todo = "Correct SEQLINE_MIRROR, or unset it to download from the corpora's own addresses."
    return Finding("FAIL", "mirror", f"{where}: no such folder", todo)


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
        todo = (
            "Start it with `prefect server start`, or unset PREFECT_API_URL (`prefect config unset "
            "PREFECT_API_URL`)."
        )
        detail = f"{redact(url)} does not answer as a Prefect server does"
        return Finding("warn", "prefect", detail, todo)
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
