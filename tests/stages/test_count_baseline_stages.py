"""Classifiers, translators and word vectors that are fitted without gradients through the stages as
DVC runs them, and what `seqline check` refuses in their blocks."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import default_params
import numpy as np
import pytest
import stage_runs
from long_cases import mostly_long

from pipeline.cli import validate_params
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.inference import Session
from pipeline.predictions import TrainedRun
from pipeline.predictor import open_classifier

ROOT = Path(__file__).resolve().parents[2]
NBSVM = {
    "ngrams": 2,
    "counts": "once",
    "alpha": 0.5,
    "classifier": "logistic",
    "C": 1.0,
    "beta": 0.25,
    "calibrate": True,
    "refit": True,
}
# The run of the project's params.yaml whose other blocks it takes, family, and model.
FITTED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bayes": (
        "mlp",
        "naive_bayes",
        {"ngrams": 2, "counts": "all", "alpha": 1.0, "calibrate": True},
    ),
    "nbsvm": ("mlp", "nbsvm", NBSVM),
    "memory": ("seq2seq", "translation_memory", {"similarity": "overlap"}),
    "lexicon": ("seq2seq", "ibm1", {"iterations": 3, "tension": 2.0, "bigram": 0.5}),
    "counts": (
        "skip_gram",
        "ppmi_svd",
        {
            "dimension": 16,
            "window": 3,
            "dynamic": True,
            "shift": 1.0,
            "smoothing": 0.75,
            "eigenvalues": 0.5,
        },
    ),
}
CLASSIFIERS, TRANSLATORS = ("bayes", "nbsvm"), ("memory", "lexicon")
CORPORA = ("toy_reviews", "toy_en_fr", "toy_story")


def settings() -> dict[str, Any]:
    """The project's params.yaml with the runs of this file, small."""
    content = default_params.load()
    content["corpora"] = {name: content["corpora"][name] for name in CORPORA}
    for corpus in content["corpora"].values():
        sizes = corpus["source"]["builtin"]["sizes"]
        corpus["source"]["builtin"]["sizes"] = dict.fromkeys(sizes, 60) | {"train": 300}
    content["evaluation"]["bootstrap"] = 50

    runs = content["runs"]
    nulls = dict.fromkeys(("objective", "optim", "training"))
    content["runs"] = {
        name: runs[other] | {"family": family, "model": model} | nulls
        for name, (other, family, model) in FITTED.items()
    }
    return content


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs from download to report."""
    root = tmp_path_factory.mktemp("counts")
    shutil.copy(ROOT / "dvc.yaml", root)
    default_params.write(root, settings())
    stage_runs.run_dag(root, CORPORA, FITTED)
    return root


def history(project: Path, name: str) -> dict[str, float]:
    table = tables.read(project / f"data/models/{name}/history.parquet", tables.HISTORY)
    return dict(zip(table["name"].to_pylist(), table["value"].to_pylist(), strict=True))


def metrics(project: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project / f"reports/metrics/{name}.json").read_text())
    return content


@pytest.mark.parametrize("name", mostly_long(CLASSIFIERS, 1))
def test_validation_scores_are_those_of_fitting(project: Path, name: str) -> None:
    """Of the refitted model too: validation texts are predicted by the one that has not read
    them."""
    fitted, valid = history(project, name), metrics(project, name)["valid"]
    assert valid["accuracy"]["score"] == pytest.approx(100 * fitted["valid/accuracy"], abs=1e-5)
    assert valid["nats_per_text"] == pytest.approx(fitted["valid/loss"], abs=1e-5)


def test_served_labels_are_those_of_the_refitted_model(project: Path) -> None:
    model, vocab = project / "data/models/nbsvm", project / "data/vocab/toy_reviews"
    classify = open_classifier(TrainedRun(model, vocab, None, "cpu"))
    for split in ("valid", "test"):
        tokens = tables.read(
            project / f"data/tokens/toy_reviews/{split}.parquet", tables.TOKENS_LABELLED
        )
        predicted = tables.read(
            project / f"data/predictions/nbsvm/labels_{split}.parquet", tables.LABELS
        )
        served = [p.log_prob for p in classify(tokens["text"].to_pylist())]
        stored = [max(row) for row in predicted["log_probs"].to_pylist()]
        assert np.allclose(served, stored, atol=1e-9) == (split == "test")


@pytest.mark.parametrize("name", TRANSLATORS)
def test_translators_have_a_likelihood_and_translate(project: Path, name: str) -> None:
    rows = tables.read(
        project / f"data/predictions/{name}/likelihood_valid.parquet", tables.LIKELIHOOD
    )
    loss = float(rows["nats"].to_numpy().sum() / rows["count"].to_numpy().sum())
    assert history(project, name)["valid/loss"] == pytest.approx(loss, rel=1e-5)
    found = metrics(project, name)
    assert found["test"]["perplexity"]["score"] > 1
    assert math.isfinite(found["test"]["bleu"]["score"])
    assert found["parameters"] > 0


def test_the_memory_translates_the_training_text_by_itself(project: Path) -> None:
    search = settings()["runs"]["memory"]["search"]
    session = Session.open(
        project / "data/models/memory", project / "data/vocab/toy_en_fr", search, "cpu"
    )
    pairs = tables.read(project / "data/tokens/toy_en_fr/train.parquet", tables.TOKENS_PAIR)
    sources = pairs["source"].to_pylist()
    translations = [best.text for best, *_ in session.translate(sources[:20])]
    for source, text in zip(sources, translations, strict=False):
        # Of equal sources the first pair; the decoder joins punctuation to its word.
        expected = pairs["target"][sources.index(source)].as_py()
        assert text.replace(" ", "") == expected.replace(" ", "")


def test_word_vectors_are_scored(project: Path) -> None:
    classes = metrics(project, "counts")["test"]["classes"]
    assert classes["score"] > classes["chance"]
    vectors = (project / "data/predictions/counts/vectors.txt").read_text(encoding="utf-8")
    assert vectors.splitlines()[0].endswith(" 16")


def test_the_report_shows_the_baselines(project: Path) -> None:
    text = (project / "reports/comparison.md").read_text(encoding="utf-8")
    assert "similarity overlap" in text
    for name in FITTED:
        assert f"`{name}`" in text


def test_fitting_again_gives_the_same_bytes(project: Path) -> None:
    files = [project / f"data/models/{name}/model.safetensors" for name in FITTED]
    before = [file.read_bytes() for file in files]
    for name in FITTED:
        stage_runs.run(project, "train", name)
    assert [file.read_bytes() for file in files] == before


MISTAKES: list[tuple[dict[str, Any], str]] = [
    (
        {"bayes.optim": {"name": "adam"}},
        "settings.bayes.optim: got a section; expected null: naive_bayes is fitted without ",
    ),
    (
        {"nbsvm.model": NBSVM | {"C": 0}},
        "settings.nbsvm.model.C: got 0.0; expected above 0, such as 1.0.",
    ),
    (
        {"nbsvm.model": NBSVM | {"penalty": "l1"}},
        "settings.nbsvm.model.penalty: got an unknown key; expected one of ngrams, ",
    ),
    (
        {"nbsvm.init_from": "bayes"},
        "runs.nbsvm.init_from: got bayes, which is naive_bayes; expected scratch for nbsvm.",
    ),
    (
        {"nbsvm.task": "word_vectors", "nbsvm.corpus": "toy_story"},
        "runs.nbsvm.family: got nbsvm; expected one of glove, ppmi_svd, subword_vectors, ",
    ),
    (
        {"memory.task": "classification", "memory.corpus": "toy_reviews", "memory.search": None},
        "runs.memory.family: got translation_memory; expected one of bert_classifier, ",
    ),
    (
        {"counts.task": "language_model"},
        "runs.counts.family: got ppmi_svd; expected one of ",
    ),
    (
        {"lexicon.search": None},
        "settings.lexicon.search: got None; expected a section with a method.",
    ),
    (
        {"lexicon.corpus": "toy_reviews"},
        "runs.lexicon.corpus: got toy_reviews, which is labelled; expected toy_en_fr for ",
    ),
]


@pytest.mark.parametrize(("changes", "line"), MISTAKES, ids=[line[:40] for _, line in MISTAKES])
def test_check_refuses_in_one_line(changes: dict[str, Any], line: str, tmp_path: Path) -> None:
    content = settings()
    for dotted, value in changes.items():
        run, key = dotted.split(".")
        content["runs"][run][key] = value
    default_params.write(tmp_path, content)
    shutil.copy(ROOT / "flow.yaml", tmp_path)
    with pytest.raises(UserError) as error:
        validate_params.check(tmp_path / "params.yaml")
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_check_accepts_the_baselines(tmp_path: Path) -> None:
    default_params.write(tmp_path, settings())
    shutil.copy(ROOT / "flow.yaml", tmp_path)
    validate_params.check(tmp_path / "params.yaml")
