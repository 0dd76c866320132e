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


def test_texts_and_numbers_that_dvc_writes_bare_are_read_again(project: Path, seqline) -> None:
    """DVC writes the text "yes" without quotes, and 0.00005 as 5e-05."""
    path = project / "params.yaml"
    text = path.read_text()
    path.write_text(text.replace("reference: positive}", 'reference: "yes"}', 1))
    subprocess.run(["git", "commit", "-qam", "Labels"], cwd=project, check=True)
    apply_overrides(path, ["settings.gru.optim.learning_rate=0.00005"])
    assert "reference: yes" in path.read_text()
    assert "learning_rate: 5e-05" in path.read_text()
    assert seqline(project, "check").status == 0
    result = seqline(project, "tidy")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("settings.gru.optim.learning_rate: 5e-05\nparams.yaml has")
    assert len(differing_lines(project)) == 2
    assert 'reference: "yes"' in path.read_text()


def test_nothing_changed_gives_the_committed_bytes(project: Path, seqline) -> None:
    before = (project / "params.yaml").read_bytes()
    apply_overrides(project / "params.yaml", ["settings.transformer.model.heads=4"])
    assert seqline(project, "tidy").out == "params.yaml is as in the last commit\n"
    assert (project / "params.yaml").read_bytes() == before


def test_a_changed_block_that_settings_merge_changes_none_of_them(project: Path, seqline) -> None:
    """DVC writes the merged keys into every setting, with their former values."""
    apply_overrides(project / "params.yaml", ["shared.training.patience=5"])
    written = fast_yaml.load((project / "params.yaml").read_text())
    assert written["settings"]["gru"]["training"]["patience"] is None
    assert seqline(project, "tidy").out.startswith("shared.training.patience: 5\nparams.yaml has")
    assert fast_yaml.load((project / "params.yaml").read_text()) == written


def test_added_and_removed_blocks_are_kept(project: Path, seqline, edited) -> None:
    path = project / "params.yaml"
    content = fast_yaml.load(path.read_text())
    edited(project, "settings.mine", content["settings"]["gru"])
    for seed in (1, 2):
        run = content["runs"]["gru-1"] | {"setting": "mine", "seed": seed}
        edited(project, f"runs.mine-{seed}", run)
    changes = ["settings.mine.model.hidden=96", "~runs.lstm-3"]
    apply_overrides(path, changes)
    written = fast_yaml.load(path.read_text())
    result = seqline(project, "tidy")
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines()[:-2] == [
        "settings.mine: added",
        "runs.mine-1: added",
        "runs.mine-2: added",
        "runs.lstm-3: removed",
    ]
    assert result.out.endswith("would remove the added blocks: commit them first.\n")
    assert "git restore" not in result.out
    assert fast_yaml.load(path.read_text()) == written
    removed = [line for line in differing_lines(project) if line.startswith("-")]
    assert removed == ["-  lstm-3: {<<: *lstm, seed: 3}"]


def test_a_removed_key_of_a_merged_block_is_refused_and_the_file_stays(
    project: Path, seqline
) -> None:
    content = fast_yaml.load((project / "params.yaml").read_text())
    del content["settings"]["gru"]["training"]["patience"]
    (project / "params.yaml").write_text(fast_yaml.dump(content))
    before = (project / "params.yaml").read_bytes()
    result = seqline(project, "tidy")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("seqline: settings.gru.training.patience: got a key that the ")
    assert result.err.endswith("Commit params.yaml as it is.\n")
    assert (project / "params.yaml").read_bytes() == before


def test_an_invalid_value_is_shown_with_the_way_back(project: Path, seqline) -> None:
    """The training of `dvc exp run -S` has refused it; its params.yaml is there."""
    apply_overrides(project / "params.yaml", ["settings.gru.model.hidden=-1"])
    result = seqline(project, "tidy")
    assert result.status == 2
    assert result.out.startswith("settings.gru.model.hidden: -1\n")
    assert result.out.endswith(": git restore -SW . && dvc checkout\n")
    assert result.err.startswith("seqline: settings.gru.model.hidden: got -1")
    assert len(differing_lines(project)) == 2


def test_items_of_a_list_that_stay_keep_their_lines_and_comments(project: Path, seqline) -> None:
    """Also where the texts are not printable, or would be false or have a colon in brackets."""
    path = project / "params.yaml"
    content = fast_yaml.load(path.read_text())
    samples = content["corpora"]["toy_story"]["samples"]
    samples.insert(2, {"prompt": "a family: \U0001f468\u200d\U0001f469", "reference": None})
    samples.append({"prompt": "no", "reference": None})
    path.write_text(fast_yaml.dump(content))
    assert seqline(project, "tidy").status == 0
    assert fast_yaml.load(path.read_text()) == content
    assert differing_lines(project) == [
        '+      - {prompt: "a family: \U0001f468\\u200d\U0001f469", reference: null}',
        '+      - {prompt: "no", reference: null}',
    ]


def test_a_removed_setting_leaves_the_comment_above_the_next_section(
    project: Path, seqline
) -> None:
    last = list(fast_yaml.load((project / "params.yaml").read_text())["settings"])[-1]
    apply_overrides(project / "params.yaml", [f"~settings.{last}", f"~runs.{last}-1"])
    written = fast_yaml.load((project / "params.yaml").read_text())
    assert seqline(project, "tidy").status == 0
    text = (project / "params.yaml").read_text()
    assert fast_yaml.load(text) == written
    assert "    search: null\n\n# Each run trains one model" in text
    assert all(line.startswith("-") for line in differing_lines(project))


def test_a_removed_key_that_others_merge_stays_with_them(project: Path, seqline) -> None:
    path = project / "params.yaml"
    apply_overrides(path, ["~runs.lstm-1.task"])
    written = fast_yaml.load(path.read_text())
    result = seqline(project, "tidy")
    assert (result.status, len(result.err.splitlines())) == (2, 1)
    assert "runs.lstm-1.task" in result.err
    assert fast_yaml.load(path.read_text()) == written
