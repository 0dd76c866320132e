"""Labelled corpora through the stages as DVC runs them, and the scores of classifiers against
scikit-learn's."""

import json
import re
import shutil
from pathlib import Path

import default_params
import numpy as np
import pyarrow as pa
import pytest
import stage_runs
import yaml
from sklearn import metrics as sklearn
from stage_commands import refused, trial

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.scoring.significance import Bootstrap
from pipeline.scoring.tasks import classification as scoring

__all__ = ["trial"]  # a fixture
RUNS = ("mlp", "text_cnn", "birnn", "transformer_classifier")
BOOTSTRAP = Bootstrap(samples=200, confidence=0.95, seed=1)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in reviews and their four runs, small, from download to report."""
    root = tmp_path_factory.mktemp("reviews")
    content = default_params.load()
    corpus = content["corpora"]["toy_reviews"]
    corpus["source"]["builtin"]["sizes"] = {"train": 300, "valid": 60, "test": 120}
    content["evaluation"]["bootstrap"] = 100
    content["corpora"] = {"toy_reviews": corpus}
    content["runs"] = {name: content["runs"][name] for name in RUNS}
    for run in content["runs"].values():
        run["training"]["max_epochs"] = 1
    default_params.write(root, content)
    stage_runs.run_dag(root, ["toy_reviews"], RUNS)
    return root


def test_labels_are_numbered_by_their_names_and_counted(project: Path) -> None:
    train = tables.read(project / "data/tokens/toy_reviews/train.parquet", tables.TOKENS_LABELLED)
    names = tables.read(project / "data/vocab/toy_reviews/label.parquet", tables.VOCAB).to_pylist()
    said = train["label"].to_pylist()
    assert [(row["token"], row["id"]) for row in names] == [("negative", 0), ("positive", 1)]
    assert [row["count"] for row in names] == [said.count("negative"), said.count("positive")]
    assert (
        json.loads((project / "data/vocab/toy_reviews/vocab.json").read_text())["sizes"]["label"]
        == 2
    )
    counted = json.loads((project / "reports/corpora/toy_reviews.json").read_text())["splits"][
        "train"
    ]["labels"]
    assert counted == {name: said.count(name) for name in ("negative", "positive")}


def test_encoding_keeps_every_rows_label(project: Path) -> None:
    for split in ("train", "valid", "test"):
        before = tables.read(
            project / f"data/tokens/toy_reviews/{split}.parquet", tables.TOKENS_LABELLED
        )
        after = tables.read(
            project / f"data/encoded/toy_reviews/{split}.parquet", tables.ENCODED_LABELLED
        )
        assert after["row"].equals(before["row"])
        assert [
            ["negative", "positive"][number] for number in after["label"].to_pylist()
        ] == before["label"].to_pylist()
        assert [len(ids) for ids in after["ids"].to_pylist()] == [
            len(words) for words in before["tokens"].to_pylist()
        ]


@pytest.mark.parametrize("run", RUNS)
def test_predictions_are_the_likeliest_of_labels_that_sum_to_one(project: Path, run: str) -> None:
    names = json.loads((project / f"data/predictions/{run}/labels.json").read_text())
    rows = tables.read(
        project / f"data/predictions/{run}/labels_test.parquet", tables.LABELS
    ).to_pylist()
    assert [row["row"] for row in rows] == list(range(120))
    for row in rows:
        assert np.exp(row["log_probs"]).sum() == pytest.approx(1)
        assert row["label"] == names[int(np.argmax(row["log_probs"]))]


def ece(confidences: list[float], right: list[bool], bins: int = 15) -> float:
    """Equation 3 of Guo et al. 2017, a bin after another."""
    total = 0.0
    for number in range(1, bins + 1):
        inside = [
            (confidence, correct)
            for confidence, correct in zip(confidences, right, strict=True)
            if (number - 1) / bins < confidence <= number / bins
        ]
        if inside:
            accuracy = sum(correct for _, correct in inside) / len(inside)
            confidence = sum(confidence for confidence, _ in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("run", RUNS)
def test_metrics_are_scikit_learns(project: Path, run: str) -> None:
    found = json.loads((project / f"reports/metrics/{run}.json").read_text())["test"]
    want = tables.read(project / "data/tokens/toy_reviews/test.parquet", tables.TOKENS_LABELLED)[
        "label"
    ].to_pylist()
    rows = tables.read(
        project / f"data/predictions/{run}/labels_test.parquet", tables.LABELS
    ).to_pylist()
    got, probabilities = [row["label"] for row in rows], np.exp([row["log_probs"] for row in rows])
    assert found["accuracy"]["score"] == pytest.approx(
        100 * sklearn.accuracy_score(want, got), abs=1e-5
    )
    assert found["f1"]["score"] == pytest.approx(
        100 * sklearn.f1_score(want, got, average="macro"), abs=1e-5
    )
    assert found["nats_per_text"] == pytest.approx(sklearn.log_loss(want, probabilities), abs=1e-5)
    right = [label == true for label, true in zip(got, want, strict=True)]
    wanted_ece = 100 * ece(probabilities.max(1).tolist(), right)
    assert found["ece"]["score"] == pytest.approx(wanted_ece, abs=1e-5)
    assert found["ece"]["low"] <= found["ece"]["high"]
    limit = json.loads((project / "data/tokens/toy_reviews/limits.json").read_text())["test"][
        "accuracy"
    ]
    assert found["distance"] == pytest.approx(limit - found["accuracy"]["score"], abs=1e-5)
    assert found["accuracy"]["low"] <= found["accuracy"]["score"] <= found["accuracy"]["high"]


@pytest.mark.parametrize("labels", [["no", "yes"], ["a", "b", "c", "d"]])
def test_figures_of_each_label_and_the_confusion_matrix_are_scikit_learns(
    labels: list[str],
) -> None:
    rng = np.random.default_rng(len(labels))
    want = rng.choice(
        labels, 300, p=np.arange(1, len(labels) + 1) / np.arange(1, len(labels) + 1).sum()
    )
    got = np.where(rng.random(300) < 0.6, want, rng.choice(labels[:-1], 300))
    columns = [range(300), range(300), [3] * 300, want, got, [0.5] * 300, [0.6] * 300]
    table = pa.table(columns, schema=tables.SCORES_LABELLED)
    found = scoring.summary(table, BOOTSTRAP, {})
    matrix = sklearn.confusion_matrix(want, got, labels=labels)
    assert [[found["confusion"][a][b] for b in labels] for a in labels] == matrix.tolist()
    figures = sklearn.precision_recall_fscore_support(want, got, labels=labels, zero_division=0)
    for i, label in enumerate(labels):
        mine = [found["labels"][label][key] for key in ("precision", "recall", "f1", "rows")]
        assert mine == pytest.approx(
            [100 * figures[0][i], 100 * figures[1][i], 100 * figures[2][i], figures[3][i]]
        )
    assert found["f1"]["low"] < found["f1"]["score"] < found["f1"]["high"]
    assert "limit" not in found


def test_a_classifier_that_says_one_label_only_is_scored() -> None:
    columns = [[0, 1, 2], [0, 1, 2], [1, 1, 1], ["a", "a", "b"], ["a"] * 3, [0.1] * 3, [0.9] * 3]
    table = pa.table(columns, schema=tables.SCORES_LABELLED)
    found = scoring.summary(table, BOOTSTRAP, {})
    assert found["accuracy"]["score"] == pytest.approx(200 / 3)
    assert found["f1"]["score"] == pytest.approx(40.0)
    assert found["labels"]["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "rows": 1}


def test_the_report_ranks_classifiers_and_shows_their_labels(project: Path) -> None:
    text = (project / "reports/comparison.md").read_text(encoding="utf-8")
    assert "## Classifiers on toy_reviews" in text
    assert "### Scores by label (toy_reviews)" in text
    interval = r"\| \d+\.\d\d \[\d+\.\d\d, \d+\.\d\d\] "
    assert re.search(interval + interval + r"\| \d\.\d{3} \|", text), "macro F1, ECE, nats"
    assert "book's BLEU" not in text
    assert "the plot was not good but the acting was brilliant ." in text
    for name in ("confusion", "by_length", "learning_curves"):
        file = project / f"reports/figures/{name}_classification_toy_reviews.png"
        assert file.read_bytes().startswith(b"\x89PNG"), name
        assert file.name in text
    scores = [
        json.loads((project / f"reports/metrics/{run}.json").read_text())["test"]["accuracy"][
            "score"
        ]
        for run in RUNS
    ]
    first = text.split("| 1 | `")[1].split("`")[0]
    assert scores[RUNS.index(first)] == max(scores)


def test_doing_a_stage_again_gives_the_same_bytes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> dict[str, bytes]:
        found = [file for file in sorted((project / "data").rglob("*")) if file.is_file()]
        return {str(file): file.read_bytes() for file in found}

    before = files()
    monkeypatch.chdir(project)
    monkeypatch.setenv("SEQLINE_TRACKING", "off")
    for stage, key in (
        ("vocab", "toy_reviews"),
        ("encode", "toy_reviews"),
        ("train", "text_cnn"),
        ("predict", "text_cnn"),
    ):
        stage_runs.run(project, stage, key)
    assert files() == before


def test_classify_matches_the_predict_stage(trial, project: Path) -> None:
    samples = tables.read(
        project / "data/predictions/birnn/samples.parquet", tables.SAMPLES
    ).to_pylist()
    for sample in samples:
        said = trial("classify", sample["prompt"], "--run", "birnn")
        assert (said.status, said.err) == (0, "")
        assert said.out == f"{np.exp(sample['log_prob']):.4f}  {sample['text']}\n"


def test_a_blank_text_has_a_blank_line_and_a_warning(trial) -> None:
    result = trial("classify", " \u200b ", "--run", "mlp")
    assert result == (0, "\n", "seqline: TEXT: a text without words has no label\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("classify", "good", "--run", "nlp"),
            "--run: got nlp; expected a setting or a run, one of mlp, ",
        ),
        (
            ("classify", "good", "bad", "--run", "mlp"),
            "HYPOTHESIS: got a second text; expected one text for the task classification. Remove",
        ),
        (
            ("translate", "good", "--run", "mlp"),
            "expected a section with a method. Name a run with a search.",
        ),
        (
            ("generate", "good", "--run", "mlp"),
            "expected a section with a method. Name a run with a search.",
        ),
    ],
)
def test_unsupported_command_is_refused_in_one_line(
    trial, words: tuple[str, ...], line: str
) -> None:
    said = trial(*words)
    assert said.status == 2
    assert line in said.err
    assert said.err.count("\n") == 1


def lay(
    root: Path, train: list[tuple[str, str]], test: list[tuple[str, str]], whose: str = "c"
) -> None:
    """The tokenize stage's tables of a labelled corpus `c`, and of a plain text corpus `other`."""
    for split, rows in {"train": train, "valid": test, "test": test}.items():
        texts, labels = zip(*rows, strict=True)
        words = [text.split() for text in texts]
        columns = [range(len(rows)), texts, words, [len(text) for text in texts]]
        for corpus, table in {
            "c": pa.table([*columns, labels], schema=tables.TOKENS_LABELLED),
            "other": pa.table(
                [
                    *columns[:2],
                    [["other", *w] for w in words],
                    columns[3],
                    [0] * len(rows),
                    [None] * len(rows),
                ],
                schema=tables.TOKENS_TEXT,
            ),
        }.items():
            (root / f"data/tokens/{corpus}").mkdir(parents=True, exist_ok=True)
            tables.write(root / f"data/tokens/{corpus}/{split}.parquet", table)
    text = {"level": "word", "lowercase": False, "letters_only": False, "max_tokens": None}
    block = {
        "format": "labelled_lines",
        "source": {},
        "read": {},
        "limit": None,
        "split": "official",
        "samples": [],
        "text": text,
        "vocab": {"corpus": whose, "size": None, "min_count": 1, "share": True},
    }
    (root / "params.yaml").write_text(
        yaml.safe_dump(
            {
                "compute": stage_runs.HERE,
                "corpora": {
                    "c": block,
                    "other": block | {"vocab": block["vocab"] | {"corpus": "c"}},
                },
            }
        )
    )


def test_words_may_be_another_corpus_s_but_labels_are_always_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("so good", "yes"), ("so bad", "no")]
    lay(tmp_path, rows, rows, "other")
    monkeypatch.chdir(tmp_path)
    stage_runs.run(tmp_path, "vocab", "c")
    stage_runs.run(tmp_path, "encode", "c")
    words = tables.read(tmp_path / "data/vocab/c/text.parquet", tables.VOCAB)["token"].to_pylist()
    assert "other" in words
    assert tables.read(tmp_path / "data/vocab/c/label.parquet", tables.VOCAB)[
        "token"
    ].to_pylist() == ["no", "yes"]
    stage_runs.run(tmp_path, "vocab", "other")  # whose words are to be those of c
    assert not (tmp_path / "data/vocab/other/label.parquet").exists()
    assert (
        "other"
        not in tables.read(tmp_path / "data/vocab/other/text.parquet", tables.VOCAB)[
            "token"
        ].to_pylist()
    )


def test_a_label_that_no_training_row_has_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(tmp_path, [("so good", "yes"), ("so bad", "no")], [("so so", "maybe")])
    monkeypatch.chdir(tmp_path)
    stage_runs.run(tmp_path, "vocab", "c")
    told = (
        "data/tokens/c/test.parquet: got the label maybe; expected one of no, yes. None of "
        "train has it.\n"
    )
    assert refused(tmp_path, capsys, "encode", "c") == f"seqline: {told}"
    assert not (tmp_path / "data/encoded/c").exists()


def test_a_corpus_of_one_label_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(tmp_path, [("so good", "yes")], [("so bad", "no")])
    monkeypatch.chdir(tmp_path)
    assert "got only the label yes; expected two labels at least" in refused(
        tmp_path, capsys, "vocab", "c"
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "got Expecting value"),
        ("{}", "got no list of names; expected the labels' names."),
        ('["negative"]', "got 1 names; expected those of the labels in"),
        ('["negative", "negative"]', "got a name twice; expected the labels' names, each once."),
        ('["negative", 3]', "got no list of names; expected the labels' names."),
        ('["negative", "posItive"]', "got 2 names; expected those of the labels in"),
    ],
)
def test_damaged_names_of_labels_are_refused_in_one_line(
    project: Path, tmp_path: Path, content: str, line: str
) -> None:
    root = shutil.copytree(project, tmp_path / "project")
    (root / "data/predictions/mlp/labels.json").write_text(content)
    with pytest.raises(UserError) as refused:
        stage_runs.run(root, "evaluate", "mlp")
    assert line in str(refused.value)
    assert "labels" in str(refused.value)


def test_a_damaged_table_of_labels_is_not_used(project: Path, tmp_path: Path) -> None:
    root = shutil.copytree(project, tmp_path / "project")
    path = root / "data/vocab/toy_reviews/label.parquet"
    tables.write(path, tables.read(path, tables.VOCAB).slice(0, 1))
    for stage, name in (("encode", "toy_reviews"), ("predict", "mlp")):
        with pytest.raises(
            UserError, match=r"label\.parquet: got 1 ids; expected 2, as vocab\.json has\."
        ):
            stage_runs.run(root, stage, name)
