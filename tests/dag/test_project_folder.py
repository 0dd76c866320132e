"""Conditions of the project folder that are said in one line before anything runs
(pipeline/dag/project.py)."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import flows
import pytest
from conftest import CommandResult

from pipeline.cli import health_checks
from pipeline.core.errors import UserError
from pipeline.dag import project


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return flows.seqline(
        folder, flows.surroundings(folder.parent / "prefect", None) | environment, *arguments
    )


@pytest.mark.parametrize(
    "arguments",
    [("check",), ("run", "scratch"), pytest.param(("retrain",), marks=pytest.mark.long)],
)
def test_copy_without_git_is_refused_with_advice(
    repository: Path, arguments: tuple[str, ...]
) -> None:
    shutil.rmtree(repository / ".git")
    done = command(repository, *arguments)
    assert done.returncode == 2
    assert done.stdout == "", "no server was started"
    assert done.stderr == (
        f"seqline: {repository}: got no git repository; expected one, since DVC keeps its "
        "history there. Clone the project "
        "instead of copying its files, run `git init`, or run `dvc config core.no_scm true`.\n"
    )


def test_copy_without_git_is_accepted_with_no_scm(repository: Path) -> None:
    shutil.rmtree(repository / ".git")
    subprocess.run(
        [sys.executable, "-m", "dvc", "config", "core.no_scm", "true"], cwd=repository, check=True
    )
    project.check_repository(repository)
    assert health_checks.git(repository).state == "warn"


@pytest.mark.long
@pytest.mark.parametrize("arguments", [("check",), ("run", "scratch")])
def test_a_data_folder_that_is_a_link_is_refused(
    repository: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (repository / "data").symlink_to(tmp_path / "elsewhere")
    done = command(repository, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"seqline: data: got a link to {tmp_path / 'elsewhere'}; expected a folder of the "
        "project, since DVC keeps no "
        "output outside. Make it a folder; `dvc cache dir PATH` keeps the large files elsewhere.\n"
    )
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    "folder", ["data/raw", "data/models", "reports", "reports/metrics", "reports/plots"]
)
def test_every_folder_of_outputs_is_looked_at(
    repository: Path, tmp_path: Path, folder: str
) -> None:
    (repository / folder).parent.mkdir(parents=True, exist_ok=True)
    (repository / folder).symlink_to(tmp_path)
    with pytest.raises(UserError, match=f"^{folder}: got a link to "):
        project.check_output_folders(repository)


def test_a_linked_cache_and_a_linked_project_are_no_fault(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (repository / ".dvc/cache").symlink_to(tmp_path / "cache")
    (tmp_path / "link").symlink_to(repository)
    project.check(tmp_path / "link")


def test_a_repository_of_another_user_is_announced(
    repository: Path, monkeypatch: pytest.MonkeyPatch, seqline: Callable[..., CommandResult]
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch for its tests
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    result = seqline(repository, "check")
    assert result.status == 0
    assert result.err == (
        f"seqline: git: got a repository that another user owns, {repository}; expected one of "
        "your own. Run "
        f"`git config --global --add safe.directory {repository}`; until then runs are recorded "
        "without a commit.\n"
    )
    assert health_checks.git(repository).state == "warn"


def test_a_machine_without_git_is_announced(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    line = project.git_refusal(repository)
    assert line is not None
    assert line.startswith("git: got no such command; expected one on the PATH.")


def test_a_repository_that_is_in_order_is_not_mentioned(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project.check(repository)
    assert capsys.readouterr() == ("", "")
