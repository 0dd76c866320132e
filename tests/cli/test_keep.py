"""`seqline keep`: params.yaml with some corpora alone."""

import subprocess
from pathlib import Path

import fast_yaml
import pytest

from pipeline.cli import keep, validate_params

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = ("corpora", "settings", "runs")
CASES = [
    (file, corpus)
    for file in (ROOT / "params.yaml", ROOT / "presets/d2l.yaml", ROOT / "presets/sentiment.yaml")
    for corpus in fast_yaml.load(file.read_text())["corpora"]
    if any(run["corpus"] == corpus for run in fast_yaml.load(file.read_text())["runs"].values())
]


@pytest.mark.parametrize(("file", "corpus"), CASES, ids=lambda part: getattr(part, "stem", part))
def test_what_stays_is_as_before_and_in_order(file: Path, corpus: str, project: Path) -> None:
    target = project / "params.yaml"
    target.write_text(file.read_text())
    before = fast_yaml.load(target.read_text())
    removed = keep.keep(project, [corpus], force=False)
    after = fast_yaml.load(target.read_text())
    for section in SECTIONS:
        assert list(before[section]) == sorted(
            [*after[section], *removed[section]], key=list(before[section]).index
        )
        assert all(after[section][name] == before[section][name] for name in after[section])
    assert {name for name, run in before["runs"].items() if run["corpus"] == corpus} <= set(
        after["runs"]
    )
    assert {run["setting"] for run in after["runs"].values()} == set(after["settings"])
    assert "without a run" not in validate_params.check(target)


def test_the_run_that_another_begins_with_stays_with_its_corpus(project: Path, seqline) -> None:
    result = seqline(project, "keep", "toy_reviews")
    assert (result.status, result.err) == (0, "")
    after = fast_yaml.load((project / "params.yaml").read_text())
    assert set(after["corpora"]) == {"toy_reviews", "toy_reviewers"}
    assert {"bert-1", "bert_sentiment-1"} <= set(after["runs"])
    assert "neighbour_masks-1" not in after["runs"], "nothing begins with it"
    assert "removed from corpora: toy_story, toy_en_fr" in result.out
    text = (project / "params.yaml").read_text()
    assert "device: auto # auto, cpu, cuda, cuda:N or mps" in text, "comments stay"
    assert "corpora:\n  # Reviews whose label follows a rule on word order." in text
    assert "    search: null\n\n# Each run trains one model" in text
    assert "\n\n\n" not in text


def test_the_default_blocks_come_back_by_the_printed_command(project: Path, seqline) -> None:
    default = (project / "params.yaml").read_bytes()
    printed = seqline(project, "keep", "toy_reviews").out
    assert "`seqline use default --force` brings the default blocks back." in printed
    assert seqline(project, "use", "default", "--force").status == 0
    assert (project / "params.yaml").read_bytes() == default

    # After a commit too; the file that was kept is no default.
    seqline(project, "keep", "toy_reviews")
    subprocess.run(["git", "commit", "-qam", "Keep one"], cwd=project, check=True)
    assert seqline(project, "use", "default").status == 0
    assert (project / "params.yaml").read_bytes() == default


def test_edits_are_committed_before_the_default_blocks_come_back(
    project: Path, seqline, edited
) -> None:
    edited(project, "evaluation.seed", 2)
    printed = seqline(project, "keep", "toy_reviews").out
    assert "Commit it; then `seqline use default` brings the default blocks back." in printed
    assert seqline(project, "use", "default").status == 2
    subprocess.run(["git", "commit", "-qam", "Keep one"], cwd=project, check=True)
    assert seqline(project, "use", "default").status == 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["toy_storey"], "CORPUS: got toy_storey; expected one of toy_story, "),
        (["toy_storey"], "Did you mean 'toy_story'?"),
        (["spare"], "CORPUS: got spare without a run; expected a run. Add one: `seqline add run`."),
    ],
)
def test_a_wrong_corpus_is_refused_and_nothing_written(
    names: list[str], message: str, project: Path, seqline, edited
) -> None:
    block = fast_yaml.load((project / "params.yaml").read_text())["corpora"]["toy_story"]
    edited(project, "corpora.spare", block)
    before = (project / "params.yaml").read_bytes()
    result = seqline(project, "keep", *names)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert (project / "params.yaml").read_bytes() == before


def test_a_block_that_would_be_lost_is_refused_without_force(
    project: Path, seqline, edited
) -> None:
    edited(project, "settings.lstm.model.hidden", 77)
    result = seqline(project, "keep", "toy_en_fr")
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        "seqline: settings.lstm: got a block that is in no commit and no preset; expected nothing "
        "that would be lost. Commit params.yaml, or add --force.\n"
    )
    assert seqline(project, "keep", "toy_en_fr", "--force").status == 0
    assert set(fast_yaml.load((project / "params.yaml").read_text())["corpora"]) == {"toy_en_fr"}
