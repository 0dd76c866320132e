"""Language models that are fitted without gradients through the stages as DVC runs them, next to
the neural one that two of them contain; and what `seqline check` refuses in their blocks."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import default_params
import pyarrow as pa
import pytest
import stage_runs
from long_cases import mostly_long

from benchmarks import interpolation
from pipeline.cli import validate_params
from pipeline.core import tables
from pipeline.core.errors import UserError, exit_with
from pipeline.inference import Session

ROOT = Path(__file__).resolve().parents[2]
NGRAM = {
    "order": 3,
    "smoothing": "modified_kneser_ney",
    "discounts": "validation",
    "across_rows": False,
    "adaptive": False,
}
FITTED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ngram": ("ngram_lm", "scratch", NGRAM),
    "cached": ("cache_lm", "lstm", {"window": 50}),
    "interpolated": ("interpolated_lm", "cached", {"ngrams": {"trigram": NGRAM}}),
    "ngrams": (
        "interpolated_lm",
        "scratch",
        {"ngrams": {"trigram": NGRAM, "adaptive": NGRAM | {"adaptive": True}}},
    ),
}
RUNS = ("lstm", *FITTED)


def settings() -> dict[str, Any]:
    """The project's params.yaml with the runs of this file, small."""
    content = default_params.load()
    corpora = content["corpora"]
    content["corpora"] = {name: corpora[name] for name in ("toy_story", "toy_reviews")}
    sizes = content["corpora"]["toy_story"]["source"]["builtin"]["sizes"]
    content["corpora"]["toy_story"]["source"]["builtin"]["sizes"] = dict.fromkeys(sizes, 300)
    content["evaluation"]["bootstrap"] = 50

    lstm = content["runs"]["lstm"]
    lstm["training"]["max_epochs"] = 1
    content["runs"] = {"lstm": lstm}
    for name, (family, start, model) in FITTED.items():
        blocks = {"family": family, "init_from": start, "model": model}
        nulls = dict.fromkeys(("objective", "optim", "training"))
        content["runs"][name] = lstm | blocks | nulls
    return content


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs from download to report."""
    root = tmp_path_factory.mktemp("story")
    shutil.copy(ROOT / "dvc.yaml", root)
    default_params.write(root, settings())
    stage_runs.run_dag(root, ["toy_story"], RUNS)
    return root


def loss(project: Path, name: str) -> float:
    """Validation loss of a run's predictions, without the letters of unknown words."""
    path = project / f"data/predictions/{name}/likelihood_valid.parquet"
    rows = tables.read(path, tables.LIKELIHOOD)
    return float(rows["nats"].to_numpy().sum() / rows["count"].to_numpy().sum())


@pytest.mark.parametrize("name", mostly_long(FITTED, 1))
def test_the_loss_of_fitting_is_that_of_the_predictions(project: Path, name: str) -> None:
    history = tables.read(project / f"data/models/{name}/history.parquet", tables.HISTORY)
    values = dict(zip(history["name"].to_pylist(), history["value"].to_pylist(), strict=True))
    assert values["valid/loss"] == pytest.approx(loss(project, name), rel=1e-6)
    assert values["valid/perplexity"] == pytest.approx(math.exp(values["valid/loss"]))
    assert set(history["step"].to_pylist()) == {1}
    metrics = json.loads((project / f"reports/metrics/{name}.json").read_text())
    assert metrics["parameters"] > 0
    assert metrics["test"]["perplexity"]["score"] > 1


def test_a_model_with_a_component_is_at_least_as_good_on_validation(project: Path) -> None:
    losses = {name: loss(project, name) for name in RUNS}
    assert losses["cached"] <= losses["lstm"]
    assert losses["interpolated"] <= min(losses["cached"], losses["ngram"]) + 1e-6
    assert losses["ngrams"] <= losses["ngram"] + 1e-6


@pytest.mark.parametrize("name", FITTED)
def test_a_trained_folder_continues_a_prompt_by_itself(
    project: Path, name: str, tmp_path: Path
) -> None:
    # Without its component: the folder is what MLflow serves.
    search = settings()["runs"]["lstm"]["search"]
    folder = project / f"data/models/{name}"
    session = Session.open(folder, project / "data/vocab/toy_story", search, "cpu")
    first, second = session.generate(["once upon a time", "the"], seed=1)
    assert first.startswith("once upon a time ")
    assert second.startswith("the ")
    assert session.generate(["once upon a time", "the"], seed=1) == [first, second]


def test_the_report_shows_the_baselines(project: Path) -> None:
    text = (project / "reports/comparison.md").read_text()
    assert "order 3, smoothing modified_kneser_ney" in text
    for name in FITTED:
        assert f"`{name}`" in text


def mixture(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *runs: str
) -> tuple[int, str, str]:
    """Exit status and output of the benchmark on these runs."""
    monkeypatch.setattr("sys.argv", ["interpolation", *runs, "--root", str(root)])
    capsys.readouterr()
    status = 0
    try:
        exit_with(interpolation.main)
    except SystemExit as end:
        status = int(end.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_benchmark_mixes_trained_runs_by_weights_of_validation(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = mixture(project, monkeypatch, capsys, "ngram", "cached")
    assert (status, err) == (0, "")
    rows = {
        name: (float(perplexity), float(weight))
        for name, perplexity, weight in re.findall(
            r"^(\w+) +([\d.]+) +[\d.]+ +([\d.]+)$", out, re.MULTILINE
        )
    }
    history = tables.read(project / "data/models/interpolated/history.parquet", tables.HISTORY)
    values = dict(zip(history["name"].to_pylist(), history["value"].to_pylist(), strict=True))
    assert rows["mixture"][0] == pytest.approx(values["valid/perplexity"], abs=1e-3)
    assert rows["ngram"][1] == pytest.approx(values["valid/trigram_weight"], abs=1e-3)
    for name in ("ngram", "cached"):
        assert rows[name][0] == pytest.approx(math.exp(loss(project, name)), abs=1e-3)


def test_the_benchmark_refuses_runs_of_different_vocabularies(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = shutil.copytree(project, tmp_path / "project")
    content = settings()
    content["corpora"]["other"] = content["corpora"]["toy_story"]
    content["runs"]["foreign"] = content["runs"]["ngram"] | {"corpus": "other"}
    default_params.write(root, content)
    vocab = shutil.copytree(root / "data/vocab/toy_story", root / "data/vocab/other")
    words = tables.read(vocab / "text.parquet", tables.VOCAB)
    tokens = [*words["token"].to_pylist()[:-1], "zzz"]
    words = words.set_column(0, "token", pa.array(tokens))
    tables.write(vocab / "text.parquet", words)
    folder = shutil.copytree(root / "data/models/ngram", root / "data/models/foreign")
    facts = json.loads((folder / "config.json").read_text())
    facts["run"]["corpus"] = "other"
    (folder / "config.json").write_text(json.dumps(facts))

    status, out, err = mixture(root, monkeypatch, capsys, "lstm", "foreign")
    assert (status, out) == (2, "")
    assert err.startswith("seqline: --run foreign: got the vocabulary data/vocab/other; expected ")
    assert err.count("\n") == 1


MISTAKES = [
    (
        {"ngram.optim": {"name": "adam"}},
        "settings.ngram.optim: got a section; expected null: ngram_lm is fitted without gradients. "
        "Set it to null.",
    ),
    (
        {"lstm.training": None},
        "settings.lstm.training: got null; expected a section: recurrent_lm is trained ",
    ),
    (
        {"ngram.model": NGRAM | {"order": 0}},
        "settings.ngram.model.order: got 0; expected from 1 to 32.",
    ),
    (
        {"interpolated.model": {"ngrams": {"trigram": NGRAM | {"order": 0}}}},
        "settings.interpolated.model.ngrams.trigram.order: got 0; expected from 1 to 32.",
    ),
    ({"ngrams.model": {"ngrams": {}}}, "settings.ngrams.model.ngrams: got nothing; expected at "),
    (
        {"ngrams.model": {"ngrams": {"component": NGRAM}}},
        "settings.ngrams.model.ngrams: got component; expected names of small letters, digits ",
    ),
    (
        {"ngrams.init_from": "ngram"},
        "runs.ngrams.init_from: got ngram, which is ngram_lm; expected scratch or lstm or cached ",
    ),
    (
        {"ngram.model": NGRAM | {"smoothing": "laplace"}},
        "settings.ngram.model.smoothing: got laplace; expected one of kneser_ney, ",
    ),
    (
        {"ngram.task": "classification", "ngram.corpus": "toy_reviews", "ngram.search": None},
        "runs.ngram.family: got ngram_lm; expected one of bert_classifier, ",
    ),
    (
        {"ngram.init_from": "lstm"},
        "runs.ngram.init_from: got lstm, which is recurrent_lm; expected scratch for ngram_lm.",
    ),
    (
        {"cached.init_from": "scratch"},
        "runs.cached.init_from: got scratch; expected a run of the family recurrent_lm or "
        "transformer_lm, which cache_lm contains.",
    ),
    (
        {"cached.init_from": "ngram"},
        "runs.cached.init_from: got ngram, which is ngram_lm; expected lstm for cache_lm.",
    ),
    (
        {"cached.corpus": "toy_reviewers"},
        "runs.cached.init_from: got lstm, which reads ids of toy_story; expected a run that reads "
        "those of toy_reviews.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "line"), MISTAKES, ids=[line[:40] for _, line in MISTAKES])
def test_check_refuses_in_one_line(changes: dict[str, Any], line: str, tmp_path: Path) -> None:
    content = settings()
    original = default_params.load()
    content["corpora"]["toy_reviewers"] = original["corpora"]["toy_reviewers"]
    for dotted, value in changes.items():
        run, key = dotted.split(".")
        content["runs"][run][key] = value
    default_params.write(tmp_path, content)
    shutil.copy(ROOT / "flow.yaml", tmp_path)
    with pytest.raises(UserError) as error:
        validate_params.check(tmp_path / "params.yaml")
    assert str(error.value).startswith(line)


def test_train_refuses_a_component_that_reads_other_ids(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "project"
    root.mkdir()
    for name in ("params.yaml", "data"):
        (root / name).symlink_to(project / name)
    (root / "params.yaml").unlink()
    content = settings()
    content["runs"]["other"] = content["runs"]["cached"] | {"init_from": "damaged"}
    default_params.write(root, content)

    damaged = root / "data/models/damaged"
    damaged.mkdir()
    facts = json.loads((root / "data/models/lstm/config.json").read_text())
    facts["vocabularies"] = ["another", "another"]
    (damaged / "config.json").write_text(json.dumps(facts))
    with pytest.raises(SystemExit) as end:
        exit_with(lambda: stage_runs.run(root, "train", "other"))
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.startswith(
        "seqline: runs.other.init_from: got damaged, which reads other ids; expected a run with "
        "the same vocabulary."
    )
    assert said.count("\n") == 1
