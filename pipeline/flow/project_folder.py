"""Folder in which a deployment's run works: the working directory of the process, never one that a
request names.

Anyone who can reach a Prefect server can start a deployment with any parameters. A flow with a
parameter for its folder would run the stages, which are shell commands, of any project on the disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from pipeline.core.errors import refuse

_NEEDED = ("dvc.yaml", "params.yaml", "flow.yaml")
_CODE = Path(__file__).resolve().parents[1]  # the package `pipeline` of this process
_FOLDER: ContextVar[Path | None] = ContextVar("folder", default=None)


@contextmanager
def working_in(root: Path) -> Iterator[None]:
    """Let flows called in this block work in `root`; for commands, whose user chose the folder."""
    token = _FOLDER.set(root.resolve())
    try:
        yield
    finally:
        _FOLDER.reset(token)


def folder() -> Path:
    """Return the folder of `working_in`, else the working directory: that of `seqline schedule`, or
    one that a worker set.

    UserError for a working directory that is no project, or that holds other code than this process
    runs."""
    chosen = _FOLDER.get()
    if chosen is not None:
        return chosen

    directory = Path.cwd().resolve()
    missing = [name for name in _NEEDED if not (directory / name).is_file()]
    if missing:
        raise refuse(
            str(directory),
            f"a folder without {missing[0]}",
            "the project that this deployment retrains",
            "Let the deployment's `pull` section set the working directory, or start the "
            "worker in the project.",
        )

    # A worker imports `pipeline` once, and may run flows in many folders.
    code = directory / "pipeline"
    if code.is_dir() and not code.samefile(_CODE) and _sources(code) != _sources(_CODE):
        raise refuse(
            str(directory),
            "a project with other code than this process runs",
            f"the code of {_CODE.parent}",
            "Start the worker with the environment of the folder that it works in.",
        )
    return directory


def _sources(package: Path) -> dict[str, bytes]:
    """Content of each module, by its path in the package."""
    return {
        path.relative_to(package).as_posix(): path.read_bytes() for path in package.rglob("*.py")
    }
