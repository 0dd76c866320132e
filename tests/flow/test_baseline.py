"""The note about tracked outputs that are not those of the last commit."""

from pathlib import Path

import pytest
import retrain_project as small

from pipeline.flow import baseline

LOCK = """schema: '2.0'
stages:
  report:
    cmd: python -m stages.report
    outs:
    - path: reports/charts
    - path: reports/index.html
    - path: reports/summary.json
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A committed project of one stage, with a file, a folder and an output that git ignores."""
    files = {
        "dvc.lock": LOCK,
        "params.yaml": "seed: 1\n",
        ".gitignore": "/reports/index.html\n",
        "reports/charts/one.csv": "1\n",
        "reports/index.html": "1\n",
        "reports/summary.json": "1\n",
        "notes.txt": "1\n",
        "pipeline/models/lstm.py": "one = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "start"]):
        small.git(tmp_path, *words)
    return tmp_path


def test_no_note_without_other_results(root: Path) -> None:
    assert baseline.note(root) == ""
    (root / "notes.txt").write_text("mine\n")
    (root / "reports/index.html").write_text("2\n")
    (root / "params.yaml").write_text("seed: 2\n")
    assert baseline.note(root) == "", "none of these is a tracked output"


@pytest.mark.parametrize(
    ("changed", "difference", "added"),
    [
        (["reports/summary.json"], "1 output has changed", "reports"),
        (["reports/charts/new.csv"], "1 output has changed", "reports"),
        (["reports/charts/one.csv", "reports/summary.json"], "2 outputs have changed", "reports"),
        (["dvc.lock", "reports/summary.json"], "2 outputs have changed", "dvc.lock reports"),
        (["params.yaml", "dvc.lock"], "1 output has changed", "params.yaml dvc.lock"),
        (
            ["pipeline/models/mine.py", "dvc.lock"],
            "1 output has changed",
            "pipeline/models dvc.lock",
        ),
    ],
)
def test_the_command_of_the_note_makes_the_results_the_baseline(
    changed: list[str], difference: str, added: str, root: Path
) -> None:
    for name in changed:
        with (root / name).open("a") as file:
            file.write("# other\n")
    line, command = baseline.note(root).splitlines()
    assert line.startswith(f"{difference} since the last commit")
    assert command.partition(": ")[2] == f"git add {added} && git commit -m Baseline"
    assert baseline.commit_command(root) == f"git add {added} && git commit -m Baseline"
    small.git(root, "add", *added.split())
    small.git(root, "commit", "-q", "-m", "Baseline")
    assert baseline.note(root) == ""
    assert baseline.commit_command(root) is None
    assert small.git(root, "status", "--porcelain") == ""


def test_the_command_of_the_note_commits_a_corpus_of_one_s_own(root: Path) -> None:
    """A clone of the commit can run it; files elsewhere stay where they are."""
    for name in ("my phrases.tsv", "dvc.lock"):
        with (root / name).open("a") as file:
            file.write("# other\n")
    corpora = "{a: {source: {path: ./my phrases.tsv}}, b: {source: {path: ../b.tsv}}, c: {}}"
    (root / "params.yaml").write_text(f"seed: 1\ncorpora: {corpora}\n")
    added = "git add params.yaml 'my phrases.tsv' dvc.lock && git commit -m Baseline"
    assert baseline.commit_command(root) == added


def test_no_note_if_the_commit_has_no_results(root: Path) -> None:
    small.git(root, "rm", "-q", "--cached", "dvc.lock")
    small.git(root, "commit", "-q", "-m", "without results")
    (root / "reports/summary.json").write_text("2\n")
    assert baseline.note(root) == ""


def test_no_note_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.lock").write_text(LOCK)
    assert baseline.note(tmp_path) == "", "there is no repository"
    monkeypatch.setenv("PATH", "")
    assert baseline.note(tmp_path) == ""
