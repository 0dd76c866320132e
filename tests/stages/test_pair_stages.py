"""Pairs of texts through the stages as DVC runs them: tables, scores against scikit-learn's, and
`seqline classify`."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import stage_runs
import yaml
from sklearn import metrics as sklearn
from stage_commands import refused, trial

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.predictions import TrainedRun
from pipeline.predictor import load_predictor
from pipeline.promotion import retokenize
from pipeline.scoring.tasks import pair_classification as scoring
from pipeline.text.encode import describe

__all__ = ["trial"]  # a fixture
RUNS = ("attention", "bert", "bayes")
TEXT = {"level": "word", "lowercase": False, "letters_only": False, "max_tokens": None}
BERT = {
    "width": 16, "heads": 2, "feed_forward": 16, "layers": 1, "dropout": 0.0,
    "learned_positions": 40, "implementation": "fused",
}  # fmt: skip
OBJECTIVE = {
    "batch_tokens": 500, "label_smoothing": 0.0, "balance": "class_weights", "max_length": 30
}  # fmt: skip
OPTIM = {
    "name": "adam", "learning_rate": 0.003, "betas": [0.9, 0.98], "weight_decay": 0.0,
    "clip_norm": 1.0, "schedule": {"name": "cosine", "warmup_steps": 5},
}  # fmt: skip
TRAINING = {
    "max_epochs": 1, "patience": None, "accumulate": 1, "average": None, "precision": "float32",
    "threads": 1,
}  # fmt: skip
BAYES = {"texts": "both", "ngrams": 1, "counts": "once", "alpha": 1.0, "calibrate": True}


def corpus(name: str, kind: dict[str, Any]) -> dict[str, Any]:
    vocab = {"corpus": "toy_inference", "size": None, "min_count": 1, "share": True}
    builtin = {"grammar": name, "seed": 1, "sizes": {"train": 300, "valid": 60, "test": 90}}
    block = {"source": {"builtin": builtin}, "limit": None, "split": "official", "text": TEXT}
    return block | {"bleu_tokenizer": "auto", "vocab": vocab} | kind


def setting(model: dict[str, Any], trained: bool) -> dict[str, Any]:
    blocks = {"objective": OBJECTIVE, "optim": OPTIM, "training": TRAINING}
    return {"model": model, "search": None} | (blocks if trained else dict.fromkeys(blocks))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in pairs, and sentences of their vocabulary, small, from download to report."""
    root = tmp_path_factory.mktemp("pairs")
    files = {split: [f"{split}.tsv"] for split in ("train", "valid", "test")}
    pairs = corpus(
        "toy_inference",
        {
            "format": "labelled_pairs",
            "read": {
                "files": files,
                "form": "tsv",
                "premise": "premise",
                "hypothesis": "hypothesis",
                "label": "label",
                "labels": ["entailment", "neutral", "contradiction"],
            },
            "samples": [
                {"prompt": "the dog hugs the singer .\tthe dog touches the singer .",
                 "reference": "entailment"},
            ],
        },
    )  # fmt: skip
    texts = {split: [f"{split}.txt"] for split in files}
    scenes = corpus(
        "toy_scenes",
        {"format": "text_lines", "read": {"files": texts, "benchmarks": None}, "samples": []},
    )
    families = {"attention": "decomposable_attention", "bert": "bert_pair_classifier"}
    families |= {"bayes": "pair_naive_bayes"}
    run = {"task": "pair_classification", "corpus": "toy_inference", "seed": 1}
    run |= {"init_from": "scratch"}
    content = {
        "compute": stage_runs.HERE,
        "evaluation": {"bootstrap": 100, "confidence": 0.95, "seed": 1, "test": True},
        "corpora": {"toy_inference": pairs, "toy_scenes": scenes},
        "settings": {
            "attention": setting({"embedding": 8, "hidden": 8, "dropout": 0.1}, True),
            "bert": setting(BERT, True),
            "bayes": setting(BAYES, False),
        },
        "runs": {
            name: run | {"setting": name, "family": family} for name, family in families.items()
        },
    }
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    for stage in ("download", "tokenize"):
        for name in content["corpora"]:
            stage_runs.run(root, stage, name)
    for name in content["corpora"]:
        stage_runs.run(root, "vocab", name)
        stage_runs.run(root, "encode", name)
    stage_runs.run_dag(root, [], RUNS)
    return root


def tokens(project: Path, split: str) -> pa.Table:
    path = project / f"data/tokens/toy_inference/{split}.parquet"
    return tables.read(path, tables.TOKENS_LABELLED_PAIR)


def test_both_texts_are_encoded_with_one_vocabulary(project: Path) -> None:
    words = tables.read(project / "data/vocab/toy_inference/text.parquet", tables.VOCAB)
    names = tables.read(project / "data/vocab/toy_inference/label.parquet", tables.VOCAB)
    assert names["token"].to_pylist() == ["contradiction", "entailment", "neutral"]
    encoded = tables.read(
        project / "data/encoded/toy_inference/test.parquet", tables.ENCODED_LABELLED_PAIR
    )
    before = tokens(project, "test")
    spelled = words["token"].to_pylist()
    for side in ("premise", "hypothesis"):
        for ids, text in zip(encoded[side].to_pylist(), before[side].to_pylist(), strict=True):
            assert [spelled[number] for number in ids] == text.split()
    counts = words["count"].to_pylist()
    train = tokens(project, "train")
    texts = [*train["premise"].to_pylist(), *train["hypothesis"].to_pylist()]
    assert sum(counts) == sum(len(text.split()) for text in texts)
    report = json.loads((project / "data/encoded/toy_inference/encoded.json").read_text())
    assert report["train"]["text_tokens"] == sum(counts)
    # A text of the same vocabulary, such as a pre-training one.
    scenes = project / "data/vocab/toy_scenes/text.parquet"
    assert tables.read(scenes, tables.VOCAB).equals(words)
    assert describe(project / "data/vocab/toy_scenes").sides == ("text",)


def test_counts_of_the_corpus(project: Path) -> None:
    counted = json.loads((project / "reports/corpora/toy_inference.json").read_text())["splits"]
    assert sum(counted["train"]["labels"].values()) == counted["train"]["rows"] == 300
    premises = set(tokens(project, "train")["premise"].to_pylist())
    assert counted["train"]["distinct_sources"] == len(premises)
    assert counted["test"]["rows_also_in_train"] == 0


@pytest.mark.parametrize("run", RUNS)
def test_metrics_are_scikit_learns(project: Path, run: str) -> None:
    metrics = json.loads((project / f"reports/metrics/{run}.json").read_text())["test"]
    labels = tokens(project, "test")["label"].to_pylist()
    path = project / f"data/predictions/{run}/labels_test.parquet"
    rows = tables.read(path, tables.LABELS).to_pylist()
    predicted = [row["label"] for row in rows]
    probabilities = np.exp([row["log_probs"] for row in rows])
    accuracy = 100 * sklearn.accuracy_score(labels, predicted)
    assert metrics["accuracy"]["score"] == pytest.approx(accuracy, abs=1e-5)
    f1 = 100 * sklearn.f1_score(labels, predicted, average="macro", zero_division=0)
    assert metrics["f1"]["score"] == pytest.approx(f1, abs=1e-5)
    assert metrics["nats_per_text"] == pytest.approx(
        sklearn.log_loss(labels, probabilities), abs=1e-5
    )
    blocks = len(set(tokens(project, "test")["premise"].to_pylist()))
    assert metrics["blocks"] == blocks


def test_the_report_has_a_section_of_pairs(project: Path) -> None:
    text = (project / "reports/comparison.md").read_text(encoding="utf-8")
    assert "## Classifiers of pairs on toy_inference" in text
    assert "nats per pair" in text
    assert (project / "reports/figures/by_length_pair_classification_toy_inference.png").exists()


def test_classify_takes_a_premise_and_a_hypothesis(trial, project: Path) -> None:
    path = project / "data/predictions/bert/samples.parquet"
    [sample] = tables.read(path, tables.SAMPLES).to_pylist()
    line = f"{np.exp(sample['log_prob']):.4f}  {sample['text']}\n"
    assert trial("classify", *sample["prompt"].split("\t"), "--run", "bert") == (0, line, "")
    assert trial("classify", sample["prompt"], "--run", "bert") == (0, line, "")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ("the dog",),
            "text: got the dog; expected a premise and a hypothesis, with a tab between them.",
        ),
        (
            ("a\tb\tc",),
            "text: got a b c; expected a premise and a hypothesis, with a tab between them.",
        ),
    ],
)
def test_a_text_that_is_no_pair_is_refused_in_one_line(trial, words: Any, error: str) -> None:
    assert trial("classify", *words, "--run", "bert") == (2, "\n", f"seqline: {error}\n")


def test_a_pair_with_an_empty_side_has_no_label(trial) -> None:
    warning = "seqline: TEXT: a text without words has no label\n"
    assert trial("classify", "the dog", " ", "--run", "bert") == (0, "\n", warning)


def test_served_pairs_have_labels_and_probabilities(project: Path) -> None:
    model, vocab = project / "data/models/bayes", project / "data/vocab/toy_inference"
    predictor = load_predictor("pair_classification", TrainedRun(model, vocab, None, "cpu"))
    rows = predictor(["the dog .\tthe cat .", ""], {})
    assert rows[1] == {"label": "", "probability": 0.0, "unknown_words": []}
    assert 1 / 3 < rows[0]["probability"] < 1
    with pytest.raises(UserError, match=r"^text: got alone; expected a premise"):
        predictor(["alone"], {})


def test_a_test_set_of_pairs_is_retokenized_for_the_gate(project: Path, tmp_path: Path) -> None:
    folder = project / "data/tokens/toy_inference"
    description = describe(project / "data/vocab/toy_inference")
    retokenize.retokenize(folder, description, tmp_path / "out")
    written = tables.read(tmp_path / "out/test.parquet", tables.TOKENS_LABELLED_PAIR)
    assert written.equals(tokens(project, "test"))
    assert len(retokenize.test_set_rows(folder, True)) == 90
    assert scoring.PROMOTION.outputs is not None
    assert scoring.PROMOTION.outputs[0] == ("premise", "hypothesis")


def test_doing_stages_again_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    root = shutil.copytree(project, tmp_path / "again")
    for stage, key in (("encode", "toy_inference"), ("train", "attention"), ("predict", "bert")):
        stage_runs.run(root, stage, key)
    for path in ("encoded/toy_inference", "models/attention", "predictions/bert"):
        for file in sorted((project / "data" / path).iterdir()):
            assert (root / "data" / path / file.name).read_bytes() == file.read_bytes(), file


def test_chance_costs_the_nats_that_the_report_names() -> None:
    assert f"{math.log(3):.3f}" in scoring.scoring(False).meaning


# What users get wrong


def changed(project: Path, tmp_path: Path, key: str, value: Any) -> Path:
    """A copy of the project with another value of the key."""
    root = shutil.copytree(project, tmp_path / "changed")
    content = yaml.safe_load((root / "params.yaml").read_text())
    *above, last = key.split(".")
    block = content
    for name in above:
        block = block[name]
    block[last] = value
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return root


def test_a_class_without_training_rows_is_refused_in_one_line(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(project, tmp_path / "unseen")
    path = root / "data/tokens/toy_inference/train.parquet"
    train = tokens(root, "train")
    tables.write(path, train.filter(pc.not_equal(train["label"], "neutral")))
    stage_runs.run(root, "vocab", "toy_inference")
    line = refused(root, capsys, "encode", "toy_inference")
    assert "got the label neutral; expected one of contradiction, entailment" in line
    assert line.endswith("None of train has it.\n")


@pytest.mark.parametrize("key", ["premise", "hypothesis", "label"])
def test_a_missing_column_is_refused_in_one_line(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    root = changed(project, tmp_path, f"corpora.toy_inference.read.{key}", "sentence1")
    assert refused(root, capsys, "tokenize", "toy_inference") == (
        "seqline: data/raw/toy_inference/train.tsv: got 0 columns sentence1; expected one in its "
        "first line: label, premise, hypothesis. Correct the names under `read`.\n"
    )


@pytest.mark.parametrize(
    ("key", "value", "start"),
    [
        ("attention.objective.balance", "smote", "got smote; expected one of none, class_weights,"),
        ("bayes.objective", OBJECTIVE, "got "),
    ],
)
def test_a_balance_that_does_not_apply_is_refused_in_one_line(
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    key: str,
    value: Any,
    start: str,
) -> None:
    root = changed(project, tmp_path, f"settings.{key}", value)
    line = refused(root, capsys, "train", key.split(".")[0])
    assert line.startswith(f"seqline: settings.{key}: {start}")
