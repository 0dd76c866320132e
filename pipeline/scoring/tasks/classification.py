"""Scores of a classifier, in per cent: accuracy, F1, precision and recall by label, and the
confusion matrix.

Shapes: N rows, R resamples, L labels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core import tables
from pipeline.core.errors import read_json_value, refuse
from pipeline.scoring.blocks import by_text
from pipeline.scoring.lengths import curve
from pipeline.scoring.likelihood import check_row_numbers, diverged
from pipeline.scoring.significance import Array, Bootstrap, sum_by_block
from pipeline.scoring.tasks import Inputs, Interface, Promotion, Scoring

_COLUMNS = (
    ("macro F1, %", "f1.score", "{:.2f}"),
    ("nats per text", "nats_per_text", "{:.3f}"),
    ("limit, %", "limit", "{:.2f}"),
    ("distance to limit", "distance", "{:.2f}"),
)
_TODO = "Remove it. Run `dvc repro`."
MEANING = (
    "Accuracy is the share of texts whose most likely label is the true one. "
    "F1 is the harmonic mean of a label's precision and recall, and macro F1 is the unweighted "
    "mean of F1 over the labels. "
    "Precision is the share of texts predicted to have the label that do have it. "
    "Recall is the share of texts with the label that are predicted to have it. "
    "Nats per text are the mean of -log P(true label); guessing between two labels costs 0.693. "
    "In built-in corpora some labels are flipped at random. "
    "The limit is then the accuracy of the rule that wrote the other labels, the highest that "
    "can be expected."
)


def scoring(lowercase: bool, tokenizer: str = "13a") -> Scoring:
    """The scoring of labels, which does not depend on case or tokenizer."""
    return Scoring(
        schema=tables.SCORES_LABELLED,
        rows=rows,
        summary=summary,
        by_length=by_length,
        sums=sums,
        units=units,
        score=score,
        higher_is_better=True,
        difference="points of accuracy",
        main="accuracy",
        main_score=score,
        main_title="accuracy, %",
        main_name="accuracy",
        scale=(0.0, 100.0),
        columns=_COLUMNS,
        further=(),
        title="Classifiers",
        length="tokens in the text",
        unit="text",
        meaning=MEANING,
        d2l_bleu=False,
    )


def score(sums_RK: Array) -> Array:
    """Accuracy in per cent, from [correct, rows]."""
    share: Array = 100 * sums_RK[:, 0] / np.maximum(sums_RK[:, 1], 1)
    return share


def rows(inputs: Inputs, split: str) -> pa.Table:
    """True label, predicted label and nats of every row; UserError if predictions and texts do not
    match."""
    texts = tables.read(inputs.tokens / f"{split}.parquet", tables.TOKENS_LABELLED).sort_by("row")
    lengths = pc.cast(pc.list_value_length(texts["tokens"]), pa.int32())
    return score_labels(inputs.predictions, split, texts["label"], by_text(texts["text"]), lengths)


def score_labels(
    predictions: Path,
    split: str,
    label_N: pa.ChunkedArray,
    block_N: NDArray[np.int64],
    length_N: Any,
) -> pa.Table:
    """Scores of the labels in the folder `predictions` of a split, whose rows have the true labels
    `label_N`; UserError if these do not match."""
    path = predictions / f"labels_{split}.parquet"
    predicted = tables.read(path, tables.LABELS).sort_by("row")
    check_row_numbers(predicted["row"], len(label_N), path)

    names_path = predictions / "labels.json"
    names = _names(names_path)

    # Columns of log_probs are in the order of labels.json.
    log_probs = np.asarray(pc.list_flatten(predicted["log_probs"]))
    number_N = pc.index_in(label_N, pa.array(names))
    if len(log_probs) != len(label_N) * len(names) or number_N.null_count:
        raise refuse(
            str(names_path), f"{len(names)} names", f"those of the labels in {path}", _TODO
        )

    # Nats of the true labels.
    log_probs_NL = log_probs.reshape(len(label_N), len(names))
    nats = -log_probs_NL[np.arange(len(label_N)), number_N.to_numpy()]
    if not np.isfinite(nats).all():
        raise diverged(path)
    columns = [predicted["row"], block_N, length_N, label_N, predicted["label"], nats]
    return pa.table(columns, schema=tables.SCORES_LABELLED)


def units(table: pa.Table) -> Array:
    """units_U2: correct labels and rows of each block of equal texts."""
    return sum_by_block(sums(table), table["block"].to_numpy())


def sums(table: pa.Table) -> Array:
    """sums_N2: [1 if the label is correct else 0, 1]."""
    correct_N = pc.equal(table["label"], table["predicted"]).to_numpy().astype(np.float64)
    return np.stack([correct_N, np.ones_like(correct_N)], 1)


def summary(table: pa.Table, bootstrap: Bootstrap, limit: dict[str, float]) -> dict[str, Any]:
    """Accuracy and macro F1 with intervals, scores by label, the confusion matrix, the limit and
    the distance to it.

    `confusion` is {true label: {predicted label: rows}}.
    """
    names = sorted(set(table["label"].to_pylist()) | set(table["predicted"].to_pylist()))
    # Macro F1 is no mean over rows, so its resampling units are confusion counts.
    pairs_UK = sum_by_block(confusion_units(table, names), table["block"].to_numpy())
    counts_LL = pairs_UK.sum(0).reshape(len(names), len(names))

    accuracy = bootstrap.estimate(units(table), score)
    metrics: dict[str, Any] = {"accuracy": accuracy, "f1": bootstrap.estimate(pairs_UK, macro_f1)}
    metrics |= {"nats_per_text": pc.mean(table["nats"]).as_py()}
    metrics |= {"rows": len(table), "blocks": len(pairs_UK)}
    if "accuracy" in limit:
        metrics |= {"limit": limit["accuracy"], "distance": limit["accuracy"] - accuracy["score"]}

    precision_L, recall_L, f1_L = (values_1L[0] for values_1L in by_label(counts_LL[None]))
    labels = {
        name: {
            "precision": precision_L[i],
            "recall": recall_L[i],
            "f1": f1_L[i],
            "rows": int(counts_LL[i].sum()),
        }
        for i, name in enumerate(names)
    }
    confusion = {
        name: {predicted: int(counts_LL[i, j]) for j, predicted in enumerate(names)}
        for i, name in enumerate(names)
    }
    return {**metrics, "labels": labels, "confusion": confusion}


def by_length(table: pa.Table, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Accuracy by the number of tokens in the text."""
    return curve(table, sums(table), score, "accuracy", bootstrap)


def confusion_units(table: pa.Table, names: list[str]) -> Array:
    """units_NK, K = L * L: the confusion matrix of each row alone, with 1 at (label, predicted)."""
    label_N = pc.index_in(table["label"], pa.array(names)).to_numpy()
    predicted_N = pc.index_in(table["predicted"], pa.array(names)).to_numpy()

    units_NK = np.zeros((len(table), len(names) ** 2))
    units_NK[np.arange(len(table)), label_N.astype(np.int64) * len(names) + predicted_N] = 1
    return units_NK


def by_label(counts_RLL: Array) -> tuple[Array, Array, Array]:
    """Precision, recall and F1 in per cent, each RL; 0 where there is nothing to divide by."""
    correct_RL = np.diagonal(counts_RLL, axis1=1, axis2=2)
    predicted_RL = counts_RLL.sum(1)
    true_RL = counts_RLL.sum(2)
    return (
        _percentage(correct_RL, predicted_RL),
        _percentage(correct_RL, true_RL),
        _percentage(2 * correct_RL, predicted_RL + true_RL),
    )


def macro_f1(sums_RK: Array) -> Array:
    """The mean of the labels' F1 in per cent, from summed pairs of (label, predicted)."""
    labels = round(sums_RK.shape[1] ** 0.5)  # K = L * L
    mean: Array = by_label(sums_RK.reshape(-1, labels, labels))[2].mean(1)
    return mean


def _percentage(part: NDArray[Any], total: NDArray[Any]) -> Array:
    percentage: Array = 100 * part / np.maximum(total, 1)
    return percentage


def _names(path: Path) -> list[str]:
    """Names of the labels in the order of the columns of `log_probs`; UserError if the file is
    damaged."""
    names = read_json_value(path, "the labels' names", _TODO)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise refuse(str(path), "no list of names", "the labels' names", _TODO)
    if len(set(names)) < len(names):
        raise refuse(str(path), "a name twice", "the labels' names, each once", _TODO)
    return names


def _predicted_labels(predictions: Path, split: str) -> list[str]:
    labels = tables.read(predictions / f"labels_{split}.parquet", tables.LABELS).sort_by("row")
    texts: list[str] = labels["label"].to_pylist()
    return texts


PROMOTION = Promotion(
    guards=("score", "f1"),
    validation=("accuracy.score", True),
    likelihood_text=None,
    same_normalization=False,
    same_vocabulary=False,
    selection=None,
    has_splits=True,
    outputs=("text", "label", _predicted_labels),
)
INTERFACE = Interface(
    outputs={"label": "string", "probability": "double"},
    params={},
    example="so good .",
    command="classify",
)
