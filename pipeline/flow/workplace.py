"""The folder that a deployment's run works in: the process's own working directory, never one that a request names.

Whoever can reach a Prefect server can start a deployment with parameters of their own. A flow that took its folder as one
would run the stages, which are shell commands, of any project on the disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from pipeline.errors import refuse

_NEEDED = ("dvc.yaml", "params.yaml", "flow.yaml")
_CODE = Path(__file__).resolve().parents[1]  # the package `pipeline` that is at work
_FOLDER: ContextVar[Path | None] = ContextVar("folder", default=None)


@contextmanager
def working_in(root: Path) -> Iterator[None]:
    """Let the flows that this block calls work in `root`, as a command does that has its folder from the user."""
    token = _FOLDER.set(root.resolve())
    try:
        yield
    finally:
        _FOLDER.reset(token)


def folder() -> Path:
    """Return the folder of `working_in`, else the working directory: that of `seqline schedule`, or one that a worker set.

    UserError for a working directory that is no project, or that holds other code than the one at work.
    """
    chosen = _FOLDER.get()
    if chosen is not None:
        return chosen
    here = Path.cwd().resolve()
    missing = [name for name in _NEEDED if not (here / name).is_file()]
    if missing:
        todo = "Let the deployment's `pull` section set the working directory, or start the worker in the project."
        raise refuse(str(here), f"a folder without {missing[0]}", "the project that this deployment retrains", todo)
    code = here / "pipeline"
    if code.is_dir() and not code.samefile(_CODE) and _sources(code) != _sources(_CODE):
        todo = "Start the worker with the environment of the folder that it works in."
        raise refuse(str(here), "a project with other code than the one at work", f"the code of {_CODE.parent}", todo)
    return here


def _sources(package: Path) -> dict[str, bytes]:
    """The content of each module, by its path in the package."""
    return {path.relative_to(package).as_posix(): path.read_bytes() for path in package.rglob("*.py")}
