"""A BERT run, and two that begin from it, one of them fine-tuned for sentiment, through the stages
as DVC runs them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import default_params
import numpy as np
import pytest
import stage_runs
import synthetic_runs
from dvc.repo import Repo
from safetensors.torch import load_file

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.scoring.significance import Bootstrap
from pipeline.scoring.tasks import masked_language_model as scoring

CORPUS, REVIEWS = "toy_story", "toy_reviews"
BOOTSTRAP = Bootstrap(samples=50, confidence=0.95, seed=1)


def params() -> dict[str, Any]:
    """The default runs and corpora, texts and models made small, and two runs that begin from
    `bert`."""
    content = default_params.load()
    story = content["corpora"][CORPUS]
    story["source"]["builtin"]["sizes"] = {"train": 300, "valid": 120, "test": 150}
    content["evaluation"]["bootstrap"], content["compute"]["device"] = 50, "cpu"
    bert = content["runs"]["bert"] | {"corpus": CORPUS}
    bert["model"] |= {"width": 16, "heads": 2, "feed_forward": 16}
    bert["training"]["max_epochs"] = 1
    reviews = content["corpora"][REVIEWS]
    reviews["source"]["builtin"]["sizes"] = {"train": 100, "valid": 40, "test": 40}
    reviews["vocab"]["corpus"] = CORPUS  # whose ids `bert` knows
    barely = {"init_from": "bert", "optim": bert["optim"] | {"learning_rate": 0.00000001}}
    sentiment = content["runs"]["bert_sentiment"] | barely
    sentiment["model"], sentiment["training"]["max_epochs"] = bert["model"], 1
    content["corpora"] = {CORPUS: story, REVIEWS: reviews}
    counts = {"family": "neighbour_masks", "model": {}, "optim": None, "training": None}
    blanks = counts | {"family": "neighbour_blanks", "task": "fill_blank", "objective": None}
    content["runs"] = {
        "bert": bert,
        "further": bert | barely,
        "sentiment": sentiment,
        "counts": bert | counts,
        "blanks": bert | blanks,
    }
    return content


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where all runs were trained, asked and scored."""
    root = tmp_path_factory.mktemp("bert")
    default_params.write(root, params())
    stage_runs.run(root, "scratch")
    for stage in ("download", "tokenize", "vocab", "encode"):
        for corpus in (CORPUS, REVIEWS):
            stage_runs.run(root, stage, corpus)
    for name in params()["runs"]:
        for stage in ("train", "predict", "evaluate"):
            stage_runs.run(root, stage, name)
    return root


def test_a_run_begins_with_the_weights_of_its_start(done: Path) -> None:
    """At a learning rate of next to nothing it also ends with them."""
    begun, ended = (
        load_file(done / f"data/models/{run}/model.safetensors") for run in ("bert", "further")
    )
    for name, tensor in begun.items():
        np.testing.assert_allclose(ended[name].numpy(), tensor.numpy(), atol=1e-5)


def test_a_run_is_fine_tuned_for_sentiment_from_the_pre_trained_encoder(done: Path) -> None:
    begun, ended = (
        load_file(done / f"data/models/{run}/model.safetensors") for run in ("bert", "sentiment")
    )
    encoder = {name: tensor for name, tensor in begun.items() if name.startswith("encoder.")}
    assert set(ended) - set(encoder) == {"output.weight", "output.bias"}
    for name, tensor in encoder.items():
        np.testing.assert_allclose(ended[name].numpy(), tensor.numpy(), atol=1e-5)
    scores = json.loads((done / "reports/metrics/sentiment.json").read_text())["test"]
    assert scores["rows"] == 40
    assert (
        0
        <= scores["accuracy"]["low"]
        <= scores["accuracy"]["score"]
        <= scores["accuracy"]["high"]
        <= 100
    )


def test_counts_of_neighbours_are_scored_on_the_same_masks_as_bert(done: Path) -> None:
    scores = [
        tables.read(done / f"data/scores/{run}/test.parquet", tables.SCORES_MASKED)
        for run in ("bert", "counts")
    ]
    assert scores[0]["masks"].equals(scores[1]["masks"])
    assert scores[0]["count"].equals(scores[1]["count"])
    metrics = json.loads((done / "reports/metrics/counts.json").read_text())
    assert metrics["test"]["nsp_loss"] == pytest.approx(np.log(2))
    uniform = tables.read(done / f"data/vocab/{CORPUS}/text.parquet", tables.VOCAB).num_rows
    assert 1 < metrics["test"]["masked_perplexity"]["score"] < uniform


@pytest.mark.parametrize(("name", "loss"), [("counts", "mlm_loss"), ("blanks", "loss")])
def test_losses_of_counts_are_those_of_their_predictions(done: Path, name: str, loss: str) -> None:
    history = tables.read(done / f"data/models/{name}/history.parquet", tables.HISTORY)
    values = dict(zip(history["name"].to_pylist(), history["value"].to_pylist(), strict=True))
    [file] = (done / f"data/predictions/{name}").glob("*_valid.parquet")
    schema = tables.MASKED if name == "counts" else tables.LIKELIHOOD
    rows = tables.read(file, schema)
    nats = rows["nats"].to_numpy().sum() / rows["count"].to_numpy().sum()
    assert values[f"valid/{loss}"] == pytest.approx(nats, rel=1e-6)


def test_both_losses_and_accuracies_are_in_the_history_and_in_the_metrics(done: Path) -> None:
    history = tables.read(done / "data/models/bert/history.parquet", tables.HISTORY)
    wanted = {
        f"valid/{part}_{figure}" for part in ("mlm", "nsp") for figure in ("loss", "accuracy")
    }
    assert wanted <= set(history["name"].to_pylist())
    for split in ("test", "valid"):
        scores = json.loads((done / "reports/metrics/bert.json").read_text())[split]
        assert scores["masked_perplexity"]["score"] == pytest.approx(
            np.exp(scores["mlm_loss"]), rel=1e-4
        )
        for name in ("masked_perplexity", "mlm_accuracy", "nsp_accuracy"):
            assert scores[name]["low"] <= scores[name]["score"] <= scores[name]["high"]


def test_the_valid_scores_are_those_that_training_saw(done: Path) -> None:
    history = tables.read(done / "data/models/bert/history.parquet", tables.HISTORY).to_pylist()
    seen = {row["name"]: row["value"] for row in history}
    scores = json.loads((done / "reports/metrics/bert.json").read_text())["valid"]
    assert scores["mlm_loss"] == pytest.approx(seen["valid/mlm_loss"], abs=1e-5)
    assert scores["nsp_accuracy"]["score"] == pytest.approx(seen["valid/nsp_accuracy"], abs=1e-5)


def test_blanks_are_filled_in_and_prompts_without_any_are_left_to_others(done: Path) -> None:
    rows = tables.read(done / "data/predictions/bert/samples.parquet", tables.SAMPLES).to_pylist()
    prompts = [s["prompt"] for s in params()["corpora"][CORPUS]["samples"] if "___" in s["prompt"]]
    assert prompts
    assert [(row["row"], row["prompt"]) for row in rows] == list(enumerate(prompts))
    for row in rows:
        assert "___" not in row["text"]
        assert len(row["text"].split()) == len(row["prompt"].split())
        assert row["log_prob"] < 0


def test_runs_are_compared_on_the_same_pairs_and_masks(done: Path) -> None:
    bert, further = (
        scoring.rows(
            synthetic_runs.inputs(done / f"data/predictions/{run}", done / f"data/tokens/{CORPUS}"),
            "test",
        )
        for run in ("bert", "further")
    )
    for column in ("row", "block", "length", "count"):
        assert bert[column].equals(further[column])


def test_scores_are_the_sums_of_their_rows(done: Path) -> None:
    table = scoring.rows(
        synthetic_runs.inputs(done / "data/predictions/bert", done / f"data/tokens/{CORPUS}"),
        "test",
    )
    units_UK = scoring.units(table)
    assert len(units_UK) == len(table["block"].unique())
    found = scoring.summary(table, BOOTSTRAP, {})
    assert found["pairs"] == len(table)
    assert found["mlm_accuracy"]["score"] == pytest.approx(
        sum(table["correct"].to_pylist()) / sum(table["count"].to_pylist())
    )
    assert found["nsp_accuracy"]["score"] == pytest.approx(
        np.mean(table["pair_correct"].to_pylist())
    )
    assert float(scoring.score(units_UK.sum(0, keepdims=True))[0]) == pytest.approx(
        found["mlm_loss"]
    )


def test_pairs_of_another_corpus_are_refused(done: Path, tmp_path: Path) -> None:
    tokens = tables.read(done / f"data/tokens/{CORPUS}/test.parquet", tables.TOKENS_TEXT)
    tables.write(tmp_path / "test.parquet", tokens.slice(0, 20))
    with pytest.raises(
        UserError, match=r"masked_test\.parquet: got \d+ pairs; expected pairs of the 20 rows"
    ):
        scoring.rows(synthetic_runs.inputs(done / "data/predictions/bert", tmp_path), "test")


def test_a_run_that_begins_from_another_depends_on_it_in_the_dag(
    project: Path, edited: Callable[..., None]
) -> None:
    default_params.write(project, params())
    graph = Repo.init(str(project), no_scm=True).index.graph
    named = {stage: stage.addressing.rpartition(":")[2] for stage in graph}
    needed = {
        name: {named[found] for found in graph.successors(stage)} for stage, name in named.items()
    }
    for name in ("further", "sentiment"):
        assert "train@bert" in needed[f"train@{name}"]
        assert "scratch" not in needed[f"train@{name}"]
    assert "scratch" in needed["train@bert"]
