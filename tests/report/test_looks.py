"""The count of looks at test sets: each trained model once, the same bytes for the same runs, and
no row from tuning on validation data."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import stage_runs
import synthetic_runs
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import UserError
from pipeline.report import looks
from pipeline.report.looks import Look

LOOKS = "reports/test_looks.csv"
HEADER = "corpus,split,task,setting,run,model\n"
ROW = "story,test,language_model,lstm,lstm-1,0123456789abcdef\n"
TRANSLATORS = {"seq2seq": 0.5, "transformer-1": 0.05, "transformer-2": 0.06}
MODELS = {"rnn": 2.6, "lstm": 2.1}


def predict_with(root: Path, name: str, weights: str) -> None:
    """The predict stage's record of other weights."""
    facts = {"weights": hashlib.sha256(weights.encode()).hexdigest()}
    (root / f"data/predictions/{name}/model.json").write_text(json.dumps(facts))


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a report; not to be changed."""
    root = synthetic_runs.project(tmp_path_factory.mktemp("looks"), TRANSLATORS, MODELS, rows=40)
    for name in (*TRANSLATORS, *MODELS):
        predict_with(root, name, weights=name)
        stage_runs.run(root, "evaluate", name)
    stage_runs.run(root, "report")
    return root


@pytest.fixture
def project(reported: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(reported, tmp_path / "project"))


def set_params(root: Path, **changes: Any) -> None:
    """Change keys of `evaluation`, or the search of the setting `transformer`."""
    content = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    if "search" in changes:
        content["settings"]["transformer"]["search"] = changes.pop("search")
    content["evaluation"] |= changes
    text = yaml.safe_dump(content, sort_keys=False)
    (root / "params.yaml").write_text(text, encoding="utf-8")


def tune(root: Path) -> None:
    """Evaluate and report without test."""
    set_params(root, test=False)
    for name in (*TRANSLATORS, *MODELS):
        for path in stage_runs.outs(root, "evaluate", name):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        stage_runs.run(root, "evaluate", name)
    stage_runs.run(root, "report")


def comparison(root: Path) -> str:
    return (root / "reports/comparison.md").read_text(encoding="utf-8")


def test_each_model_and_test_split_has_one_line(reported: Path) -> None:
    rows = looks.read(reported / LOOKS)
    assert {(row.corpus, row.split, row.setting, row.run) for row in rows} == {
        ("pairs", split, run.partition("-")[0], run)
        for split in ("test", "test_long")
        for run in TRANSLATORS
    } | {("story", "test", run, run) for run in MODELS}
    assert len({row.model for row in rows}) == len(TRANSLATORS) + len(MODELS)


def test_report_counts_models_and_settings_of_each_test_set(reported: Path) -> None:
    text = comparison(reported)
    assert f"Looks at this test set so far: 3 trained models of 2 settings (`{LOOKS}`)." in text
    assert f"Looks at this test set so far: 2 trained models of 2 settings (`{LOOKS}`)." in text


def test_second_report_adds_nothing(project: Path) -> None:
    before = (project / LOOKS).read_bytes()
    stage_runs.run(project, "report")
    assert (project / LOOKS).read_bytes() == before


def test_report_restores_order_and_duplicates_of_a_merge(project: Path) -> None:
    header, *rows = (project / LOOKS).read_text(encoding="utf-8").splitlines()
    merged = "\n".join([header, *rows[::-1], rows[0]]) + "\n"
    before = (project / LOOKS).read_bytes()
    (project / LOOKS).write_text(merged, encoding="utf-8")
    stage_runs.run(project, "report")
    assert (project / LOOKS).read_bytes() == before


def test_earlier_looks_stay_and_are_counted(project: Path) -> None:
    before = looks.read(project / LOOKS)
    predict_with(project, "lstm", weights="trained again")
    stage_runs.run(project, "evaluate", "lstm")
    stage_runs.run(project, "report")
    after = looks.read(project / LOOKS)
    assert before < after
    assert [look.run for look in after - before] == ["lstm"]
    assert (
        "so far: 3 trained models of 2 settings"
        in comparison(project).split("## Language models on story")[1]
    )


def test_another_search_is_another_look(project: Path) -> None:
    before = looks.read(project / LOOKS)
    set_params(project, search={"method": "beam", "width": 4})
    stage_runs.run(project, "report")
    added = looks.read(project / LOOKS) - before
    assert {look.run for look in added} == {"transformer-1", "transformer-2"}


def test_tuning_scores_validation_alone_and_adds_no_look(project: Path) -> None:
    before = (project / LOOKS).read_bytes()
    tune(project)
    assert (project / LOOKS).read_bytes() == before
    for name in (*TRANSLATORS, *MODELS):
        metrics = json.loads((project / f"reports/metrics/{name}.json").read_text())
        assert metrics["valid"]
        assert not {"test", "test_long"} & metrics.keys()
        assert [file.name for file in (project / f"data/scores/{name}").iterdir()] == [
            "valid.parquet"
        ]


def test_tuning_without_a_file_of_looks_writes_its_header(project: Path) -> None:
    (project / LOOKS).unlink()
    tune(project)
    assert (project / LOOKS).read_text(encoding="utf-8") == HEADER


@pytest.mark.long
def test_tuning_ranks_by_validation_scores_and_says_so(project: Path) -> None:
    tune(project)
    text = comparison(project)
    assert "**The test set was not looked at** (`evaluation.test: false`)" in text
    assert "test sentences" not in text
    metrics = json.loads((project / "reports/metrics/seq2seq.json").read_text())
    bleu = metrics["valid"]["bleu"]
    assert f"| {bleu['score']:.2f} [{bleu['low']:.2f}, {bleu['high']:.2f}] |" in text

    summary = json.loads((project / "reports/summary.json").read_text())
    assert summary["seq2seq.valid_bleu"] == bleu["score"]


def test_report_has_the_mean_validation_score_next_to_the_test_score(reported: Path) -> None:
    lines = comparison(reported).split("## Translators on pairs")[1].splitlines()
    header, _, *rows = [line for line in lines if line.startswith("|")]
    titles = [cell.strip() for cell in header.split("|")]
    column = titles.index("BLEU, validation")
    assert titles[column - 2] == "BLEU"
    [cells] = [row.split("|") for row in rows if "`transformer`" in row][:1]
    scores = [
        json.loads((reported / f"reports/metrics/{run}.json").read_text())["valid"]["bleu"]["score"]
        for run in ("transformer-1", "transformer-2")
    ]
    assert cells[column].strip().startswith(f"{sum(scores) / 2:.2f} ±")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: got an empty file"),
        (ROW, "line 1: got 'story,test,"),
        (HEADER + "<<<<<<< HEAD\n" + ROW, "line 2: got '<<<<<<< HEAD'"),
        (HEADER + ROW + ROW.replace(",lstm-1", ""), "line 3: got 'story,test,"),
        (HEADER + ROW.replace("story", ""), "line 2: got ',test,"),
        (HEADER + ROW.replace("abcdef", "ABCDEF"), "line 2: got 'story,"),
        (HEADER + ROW + "\n", "line 3: got ''"),
        (HEADER + '"' + ROW, "line 2: got '\"story"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "looks.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        looks.read(path)
    said = str(raised.value)
    assert message in said
    assert said.endswith("Restore the file from git.")
    assert "\n" not in said


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "looks.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="Restore the file from git"):
        looks.read(tmp_path / "looks.csv")


NAMES = st.from_regex(r"[a-z0-9_]{1,8}(-[0-9])?", fullmatch=True)
LOOK = st.builds(
    Look, NAMES, NAMES, NAMES, NAMES, NAMES, st.from_regex(r"[0-9a-f]{16}", fullmatch=True)
)


@settings(max_examples=20)
@given(st.sets(LOOK, max_size=5), st.sets(LOOK, max_size=5))
def test_union_is_the_same_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, first: set[Look], second: set[Look]
) -> None:
    path = tmp_path_factory.mktemp("union") / "looks.csv"
    path.write_text(looks.to_csv(first), encoding="utf-8")
    assert looks.read(path) == first
    assert looks.to_csv(looks.read(path) | second) == looks.to_csv(second | first)
