"""git as a child process: its output, and what is returned when it cannot give one."""

from pathlib import Path

import pytest

from pipeline.core import git


def test_output_runs_in_the_folder_and_is_none_for_a_command_that_fails(tmp_path: Path) -> None:
    assert git.run_git(tmp_path, "init", "-q").returncode == 0
    assert git.text_output(tmp_path, "rev-parse", "--show-toplevel").strip() == str(tmp_path)
    assert git.output(tmp_path, "rev-parse", "--verify", "HEAD") is None


def test_variables_and_input_reach_git(tmp_path: Path) -> None:
    git.run_git(tmp_path, "init", "-q")
    env = {"GIT_AUTHOR_NAME": "ann", "GIT_AUTHOR_EMAIL": "ann@example.org"}
    assert git.run_git(tmp_path, "var", "GIT_AUTHOR_IDENT", env=env).stdout.startswith(b"ann <ann@")
    hashed = git.run_git(tmp_path, "hash-object", "--stdin", stdin=b"")
    assert hashed.stdout.strip() == b"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def test_output_is_none_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git.output(tmp_path, "version") is None
    assert git.text_output(tmp_path, "version") == ""
    with pytest.raises(FileNotFoundError):
        git.run_git(tmp_path, "version")
