"""The Python interface without a trained model: imports, arguments, folders, tables."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import stage_runs
import synthetic_runs
import yaml

import seqline
from pipeline.core import tables
from pipeline.inference import Prediction
from seqline import trained
from seqline.arguments import check_texts, project_root

ROOT = Path(__file__).resolve().parents[2]


def python(folder: Path, program: str, path: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run a program in a folder, with seqline on the path."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={"PYTHONPATH": str(path), "PATH": ""},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two translators with a seed each and a language model, evaluated."""
    root = synthetic_runs.project(
        tmp_path_factory.mktemp("scored") / "project",
        {"transformer-1": 0.1, "transformer-2": 0.2},
        {"lstm": 1.5},
        rows=30,
    )
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / "presets").mkdir()
    for run, corpus in (("transformer-1", "pairs"), ("transformer-2", "pairs"), ("lstm", "story")):
        stage_runs.run_evaluate(root, run, corpus)
    return root


# Imports


def test_import_loads_neither_torch_nor_pandas_nor_services(tmp_path: Path) -> None:
    program = (
        "import sys, seqline; print(sorted({'torch', 'pandas', 'mlflow', 'prefect', 'dvc'}"
        " & set(sys.modules)))"
    )
    done = python(tmp_path, program)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_another_module_called_pipeline_is_named_at_import(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text("")
    done = python(tmp_path, "import seqline")
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"ImportError: pipeline: got {tmp_path}/pipeline.py; expected {ROOT}/")


def test_public_names_have_docstrings_and_types() -> None:
    for name in seqline.__all__:
        item = getattr(seqline, name)
        assert item.__doc__, name
    assert (ROOT / "seqline/py.typed").exists()
    for name, method in vars(seqline.Model).items():
        if not name.startswith("_"):
            assert method.__doc__, name


# The project's folder


def test_project_is_found_from_a_folder_inside_it(
    scored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scored / "data" / "models")
    assert project_root(None) == scored
    assert list(seqline.runs().index) == ["transformer-1", "transformer-2", "lstm"]


def test_outside_of_a_project_the_one_that_seqline_lies_in_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert project_root(None) == ROOT


@pytest.mark.parametrize("kind", [str, Path])
def test_root_is_a_text_or_a_path(kind: Any, scored: Path) -> None:
    assert len(seqline.runs(kind(scored))) == 3


def test_folder_that_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(seqline.UserError, match=r"^root: got .*; expected a folder with dvc\.yaml"):
        seqline.runs(tmp_path)


# Lists of texts


def test_one_text_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^texts: got one text, 'hello'; expected a list\. Write "):
        check_texts("hello", "texts")


@pytest.mark.parametrize(
    "texts", [["a", "b"], ("a", "b"), np.array(["a", "b"]), pd.Series(["a", "b"])]
)
def test_lists_tuples_arrays_and_series_of_texts_are_taken(texts: Any) -> None:
    assert check_texts(texts, "texts") == ["a", "b"]


@pytest.mark.parametrize("texts", [None, 3, {"a": "b"}])
def test_what_is_no_list_is_refused(texts: Any) -> None:
    with pytest.raises(TypeError, match=r"^texts: got \w+; expected a list of texts\.$"):
        check_texts(texts, "texts")


def test_item_that_is_no_text_is_named_by_its_index() -> None:
    with pytest.raises(seqline.UserError, match=r"^texts\[1\]: got NaN; expected a text\.$"):
        check_texts(["a", float("nan")], "texts")


# Tables


def test_runs_have_the_score_that_ranks_them(scored: Path) -> None:
    frame = seqline.runs(scored)
    metrics = json.loads((scored / "reports/metrics/transformer-2.json").read_text())
    row = frame.loc["transformer-2"]
    assert (row.setting, row.seed, row.metric, row.split) == ("transformer", 2, "BLEU", "test")
    assert row.score == metrics["test"]["bleu"]["score"]
    assert row.higher_is_better
    assert frame.loc["lstm"].metric == "perplexity"
    assert not frame.loc["lstm"].higher_is_better
    assert frame.trained.all()
    assert frame.champion.isna().all()


def test_run_that_is_not_evaluated_has_no_score(scored: Path, tmp_path: Path) -> None:
    root = shutil.copytree(scored, tmp_path / "project")
    (root / "reports/metrics/lstm.json").unlink()
    frame = seqline.runs(root)
    assert pd.isna(frame.loc["lstm"].score)
    assert "lstm" not in set(seqline.metrics(root).run)


def test_substitute_score_that_ranks_has_its_own_name(scored: Path, tmp_path: Path) -> None:
    root = shutil.copytree(scored, tmp_path / "project")
    file = root / "reports/metrics/transformer-1.json"
    content = json.loads(file.read_text()) | {"ranked_by": "chrf"}
    file.write_text(json.dumps(content))
    frame = seqline.runs(root)
    row = frame.loc["transformer-1"]
    assert (row.metric, row.score) == ("chrF", content["test"]["chrf"]["score"])
    assert frame.loc["transformer-2"].metric == "BLEU"


def test_metrics_have_a_row_for_each_number_of_each_split(scored: Path) -> None:
    frame = seqline.metrics(scored).set_index(["run", "split", "metric"])
    content = json.loads((scored / "reports/metrics/lstm.json").read_text())
    assert (
        frame.loc[("lstm", "valid", "perplexity"), "score"]
        == content["valid"]["perplexity"]["score"]
    )
    assert frame.loc[("lstm", "test", "nats"), "score"] == content["test"]["nats"]
    assert frame.index.is_unique
    assert set(frame.loc["lstm"].index.get_level_values("split")) == {"test", "valid"}
    ranking = frame[frame.ranks].reset_index()
    assert not ranking.duplicated(["run", "split"]).any(), "one metric ranks"
    rows = {row.run: row.score for row in ranking[ranking.split == "test"].itertuples()}
    assert rows == seqline.runs(scored).score.dropna().to_dict()


def test_predictions_stand_beside_the_rows_that_they_are_of(scored: Path) -> None:
    frame = seqline.predictions("transformer-2", root=scored)
    texts = tables.read(scored / "data/tokens/pairs/test.parquet", tables.TOKENS_PAIR)
    folder = scored / "data/predictions/transformer-2"
    hypotheses = tables.read(folder / "hypotheses_test.parquet", tables.HYPOTHESES).to_pylist()
    best = {row["row"]: row["text"] for row in hypotheses if row["rank"] == 0}
    assert list(frame.index) == texts["row"].to_pylist()
    assert list(frame.target) == texts["target"].to_pylist()
    assert list(frame.text) == [best[row] for row in frame.index]
    assert {"nats", "count"} <= set(frame.columns)


def test_setting_stands_for_its_first_run(scored: Path) -> None:
    first = seqline.predictions("transformer", "valid", scored)
    pd.testing.assert_frame_equal(first, seqline.predictions("transformer-1", "valid", scored))


def test_predictions_of_one_split_are_not_those_of_another(scored: Path) -> None:
    assert len(seqline.predictions("transformer", "test", scored)) == 30
    assert len(seqline.predictions("transformer", "test_long", scored)) == 10


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            lambda root: seqline.predictions("lstm", "tset", root),
            "split: got tset; expected one of",
        ),
        (
            lambda root: seqline.predictions("lstmm", root=root),
            "run: got lstmm; expected a setting",
        ),
        (lambda root: seqline.history("nothing", root), "run: got nothing; expected a setting"),
        (lambda root: seqline.load("transformr", root), "load: got transformr; expected a setting"),
    ],
)
def test_wrong_names_are_refused_in_one_line(scored: Path, call: Any, line: str) -> None:
    with pytest.raises(seqline.UserError) as refused:
        call(scored)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_run_that_is_not_trained_is_refused(scored: Path, tmp_path: Path) -> None:
    root = shutil.copytree(scored, tmp_path / "project")
    shutil.rmtree(root / "data/models/lstm")
    with pytest.raises(seqline.UserError, match=r"^load lstm: got no data/models/lstm; expected a"):
        seqline.load("lstm", root)


def test_tuning_ranks_by_validation_scores(scored: Path, tmp_path: Path) -> None:
    root = shutil.copytree(scored, tmp_path / "project")
    content = yaml.safe_load((root / "params.yaml").read_text())
    content["evaluation"]["test"] = False
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert set(seqline.runs(root).split) == {"valid"}


def test_pairs_and_files_become_the_texts_of_their_classifiers() -> None:
    received: list[str] = []

    def classify(texts: list[str]) -> list[Prediction]:
        received.extend(texts)
        return [Prediction("yes", 0.0, 0.0) for _ in texts]

    block = SimpleNamespace(setting="x", family="x", task="x", corpus="x", seed=1)
    run = SimpleNamespace(
        name="x-1",
        block=block,
        command="classify",
        ranks_labels=False,
        open=lambda: classify,
        warn_of_unknown_words=lambda texts, frames: None,
    )
    model = seqline.Model(cast(trained.Run, run))
    labels = model.classify([("a dog runs", "an animal moves")])
    assert labels == [seqline.Label("yes", 1.0)]
    model.classify([Path("folder/a.png")])
    assert received == ["a dog runs\tan animal moves", "folder/a.png"]
    with pytest.raises(TypeError, match=r"^texts: got one text, PosixPath\('a\.png'\); expected"):
        model.classify(Path("a.png"))  # type: ignore[arg-type]


def test_ranking_is_loaded_once() -> None:
    loaded: list[str] = []

    def open_ranking() -> Any:
        loaded.append("ranking")
        return lambda texts: [[Prediction("yes", 0.0, 0.0)] for _ in texts]

    run = SimpleNamespace(
        name="x-1",
        block=SimpleNamespace(setting="x", family="x", task="x", corpus="x", seed=1),
        command="classify",
        ranks_labels=True,
        open=lambda: None,
        open_ranking=open_ranking,
        warn_of_unknown_words=lambda texts, frames: None,
    )
    model = seqline.Model(cast(trained.Run, run))
    assert model.rank(["a"]) == model.rank(["b"]) == [[seqline.Label("yes", 1.0)]]
    assert loaded == ["ranking"]
