"""Checks of the project folder, before DVC, git and flows work in it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.core import git
from pipeline.core.errors import refuse
from pipeline.dag import paths


def is_project(folder: Path) -> bool:
    """Return whether the folder is a project's root."""
    return (folder / "dvc.yaml").exists() and (folder / "presets").is_dir()


def containing(start: Path) -> Path | None:
    """The root of the project that the folder `start` lies in; None if it lies in none."""
    return next((folder for folder in (start, *start.parents) if is_project(folder)), None)


def check(root: Path) -> None:
    """Raise UserError for a name, a folder or a missing repository that no stage can work with.

    If git refuses the repository, stages can run: print one line on stderr.
    """
    paths.check_names(root)
    check_repository(root)
    check_output_folders(root)
    if (line := git_refusal(root)) is not None:
        print(f"seqline: {line}", file=sys.stderr, flush=True)


def check_repository(root: Path) -> None:
    """Raise UserError for a project without git whose DVC is not set to `core.no_scm`."""
    if any((folder / ".git").exists() for folder in (root, *root.parents)):
        return

    from dvc.config import Config, ConfigError  # imports DVC, which takes time

    with suppress(ConfigError):  # which DVC reports itself, with the line
        if Config(dvc_dir=str(root / ".dvc"))["core"].get("no_scm"):
            return
    raise refuse(
        str(root),
        "no git repository",
        "one, since DVC keeps its history there",
        "Clone the project instead of copying its files, run `git init`, or run `dvc config "
        "core.no_scm true`.",
    )


def check_output_folders(root: Path) -> None:
    """Raise UserError for a folder of outputs that is a link: DVC would refuse each output in it,
    after its stage."""
    for folder in sorted(set(_output_folders(root))):
        if folder.is_symlink():
            raise refuse(
                str(folder.relative_to(root)),
                f"a link to {folder.readlink()}",
                "a folder of the project, since DVC keeps no output outside",
                "Make it a folder; `dvc cache dir PATH` keeps the large files elsewhere.",
            )


def git_refusal(root: Path) -> str | None:
    """Return one line if git refuses the repository, as when another user owns it; else None.

    Stages run without git, but their runs in MLflow have no commit.
    """
    try:
        completed = git.run_git(root, "rev-parse", "--git-dir")
    except FileNotFoundError:
        return (
            "git: got no such command; expected one on the PATH. Runs are recorded without a "
            "commit until it is installed."
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"git: got {error}; expected an answer. Runs are recorded without a commit."

    # git refuses a repository of another user (safe.directory in git-config).
    if b"dubious ownership" not in completed.stderr:
        return None
    return (
        f"git: got a repository that another user owns, {root}; expected one of your own. "
        f"Run `git config --global --add safe.directory {root}`; until then runs are "
        "recorded without a commit."
    )


def _output_folders(root: Path) -> Iterator[Path]:
    """Yield the folders of outputs that have a constant name in `dvc.yaml`: `data`, `data/raw`."""
    for stage in paths.stage_blocks(root):
        block = stage.get("do", stage)
        if not isinstance(block, dict):
            continue
        items = [item for kind in ("outs", "metrics", "plots") for item in block.get(kind) or []]
        for item in items:
            # An output with options is a mapping of one key, its path.
            path = next(iter(item)) if isinstance(item, dict) and item else str(item)
            constant = Path(path.partition("${")[0] + "_").parent
            for folder in (constant, *constant.parents):
                if folder != Path("."):
                    yield root / folder
