"""`seqline tidy`: params.yaml in the form of the last commit, after DVC has written it."""

import subprocess
from pathlib import Path

import fast_yaml
import pytest
from dvc.utils.hydra import apply_overrides


def differing_lines(root: Path) -> list[str]:
    done = subprocess.run(
        ["git", "diff", "-U0", "--", "params.yaml"], cwd=root, capture_output=True, text=True
    )
    return [line for line in done.stdout.splitlines() if line[:1] in "+-" and line[1:3] != line[:2]]


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ("settings.transformer.model.heads=8", 2),
        ("settings.lstm.optim.betas=[0.8,0.99]", 2),
        ("settings.lstm.training.patience=5", 1),  # a merged key becomes the block's own
    ],
)
def test_an_experiment_of_dvc_leaves_one_changed_line(
    change: str, lines: int, project: Path, seqline
) -> None:
    apply_overrides(project / "params.yaml", [change])
    written = fast_yaml.load((project / "params.yaml").read_text())
    assert len(differing_lines(project)) > 100, "DVC writes the whole file anew"
    result = seqline(project, "tidy")
    key, _, _ = change.partition("=")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"{key}: ")
    assert result.out.endswith(": git restore -SW . && dvc checkout\n")
    assert fast_yaml.load((project / "params.yaml").read_text()) == written
    assert len(differing_lines(project)) == lines, differing_lines(project)


def test_nothing_changed_gives_the_committed_bytes(project: Path, seqline) -> None:
    before = (project / "params.yaml").read_bytes()
    apply_overrides(project / "params.yaml", ["settings.transformer.model.heads=4"])
    assert (
        seqline(project, "tidy").out == "params.yaml is as in the last commit; no value changed\n"
    )
    assert (project / "params.yaml").read_bytes() == before


def test_a_new_key_is_refused_and_the_file_stays(project: Path, seqline, edited) -> None:
    block = fast_yaml.load((project / "params.yaml").read_text())["settings"]["lstm"]
    edited(project, "settings.mine", block)
    before = (project / "params.yaml").read_bytes()
    result = seqline(project, "tidy")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("seqline: settings.mine.")
    assert result.err.endswith("Commit params.yaml as it is.\n")
    assert (project / "params.yaml").read_bytes() == before
