"""Conditions that the project folder itself must meet before DVC, git and flows can work in it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import refuse
from pipeline.dag import paths

_GIT_SECONDS = 30


def check(root: Path) -> None:
    """UserError, before anything runs, for a name, a folder or a missing repository that no stage
    could work with.

    Prints one line on stderr where work is possible and its history will lack something.
    """
    paths.check_names(root)
    check_repository(root)
    check_output_folders(root)
    if (line := git_refusal(root)) is not None:
        print(f"seqline: {line}", file=sys.stderr, flush=True)


def check_repository(root: Path) -> None:
    """UserError for a project without git that does not tell DVC so: DVC works in no such
    folder."""
    if any((folder / ".git").exists() for folder in (root, *root.parents)) or _works_without_git(
        root
    ):
        return
    todo = (
        "Clone the project instead of copying its files, run `git init`, or run `dvc config "
        "core.no_scm true`."
    )
    raise refuse(str(root), "no git repository", "one, since DVC keeps its history there", todo)


def check_output_folders(root: Path) -> None:
    """UserError for a folder of outputs that is a link to another place: DVC refuses each output in
    it, after its stage."""
    for folder in sorted(set(_output_folders(root))):
        if folder.is_symlink():
            name, link = str(folder.relative_to(root)), f"a link to {folder.readlink()}"
            todo = "Make it a folder; `dvc cache dir PATH` keeps the large files elsewhere."
            raise refuse(
                name, link, "a folder of the project, since DVC keeps no output outside", todo
            )


def git_refusal(root: Path) -> str | None:
    """One line if git refuses the repository, as it does where another user owns it; else None.

    Stages work all the same, but runs in MLflow then carry no commit.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--git-dir"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_SECONDS,
        )
    except FileNotFoundError:
        return (
            "git: got no such command; expected one on the PATH. Runs are recorded without a "
            "commit until it is installed."
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"git: got {error}; expected an answer. Runs are recorded without a commit."
    if "dubious ownership" not in done.stderr:
        return None
    todo = (
        f"Run `git config --global --add safe.directory {root}`; until then runs are "
        "recorded without a commit."
    )
    return f"git: got a repository that another user owns, {root}; expected one of your own. {todo}"


def _works_without_git(root: Path) -> bool:
    from dvc.config import Config, ConfigError

    try:
        return bool(Config(dvc_dir=str(root / ".dvc"))["core"].get("no_scm"))
    except ConfigError:  # which DVC reports itself, with the line
        return False


def _output_folders(root: Path) -> Iterator[Path]:
    """Every folder of `dvc.yaml`'s outputs that has a constant name, such as `data` and
    `data/raw`."""
    for stage in paths.stage_blocks(root):
        block = stage.get("do", stage)
        if not isinstance(block, dict):
            continue
        items = [item for kind in ("outs", "metrics", "plots") for item in block.get(kind) or []]
        for item in items:
            path = next(iter(item)) if isinstance(item, dict) and item else str(item)
            constant = Path(re.split(r"\$\{", path)[0] + "_").parent
            yield from (
                root / folder for folder in (constant, *constant.parents) if folder != Path(".")
            )
