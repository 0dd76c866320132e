"""Scores of a classifier, in per cent: accuracy, F1, precision and recall by label, the confusion
matrix, and the calibration error.

Shapes: N rows, R resamples, L labels, M bins of probability.
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
    ("calibration error, %", "ece.score", "{:.2f}"),
    ("nats per text", "nats_per_text", "{:.3f}"),
    ("limit, %", "limit", "{:.2f}"),
    ("distance to limit", "distance", "{:.2f}"),
    ("limit of macro F1, %", "f1_limit", "{:.2f}"),
)
_BINS = 15  # of the calibration error, as in Guo et al. 2017
_TODO = "Remove it. Run `dvc repro`."
MEANING = (
    "Accuracy is the share of texts whose most likely label is the true one. "
    "F1 is the harmonic mean of a label's precision and recall, and macro F1 is the unweighted "
    "mean of F1 over the labels. "
    "Precision is the share of texts predicted to have the label that do have it. "
    "Recall is the share of texts with the label that are predicted to have it. "
    "The calibration error is the expected difference between the probability of the predicted "
    "label and the share of these predictions that are right, over 15 bins of probability "
    "(Guo et al. 2017). "
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
    """Scores of every row, as `score_labels`; equal texts are one block."""
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
    columns = {
        "row": predicted["row"],
        "block": block_N,
        "length": length_N,
        "label": label_N,
        "predicted": predicted["label"],
        "nats": nats,
        "confidence": np.exp(log_probs_NL.max(1)),
    }
    return pa.table(columns, schema=tables.SCORES_LABELLED)


def units(table: pa.Table) -> Array:
    """units_U2: correct labels and rows of each block of equal texts."""
    return sum_by_block(sums(table), table["block"].to_numpy())


def sums(table: pa.Table) -> Array:
    """sums_N2: [1 if the label is correct else 0, 1]."""
    correct_N = pc.equal(table["label"], table["predicted"]).to_numpy().astype(np.float64)
    return np.stack([correct_N, np.ones_like(correct_N)], 1)


def summary(table: pa.Table, bootstrap: Bootstrap, limit: dict[str, float]) -> dict[str, Any]:
    """Accuracy, macro F1 and calibration error with intervals, scores by label, the confusion
    matrix, the limit and the distance to it.

    `confusion` is {true label: {predicted label: rows}}.
    """
    names = sorted(set(table["label"].to_pylist()) | set(table["predicted"].to_pylist()))
    # Macro F1 is no mean over rows, so its resampling units are confusion counts.
    pairs_UK = sum_by_block(confusion_units(table, names), table["block"].to_numpy())
    counts_LL = pairs_UK.sum(0).reshape(len(names), len(names))

    accuracy = bootstrap.estimate(units(table), score)
    metrics: dict[str, Any] = {"accuracy": accuracy, "f1": bootstrap.estimate(pairs_UK, macro_f1)}
    calibration_UK = sum_by_block(calibration_units(table), table["block"].to_numpy())
    metrics |= {"ece": bootstrap.estimate(calibration_UK, calibration_error)}
    metrics |= {"nats_per_text": pc.mean(table["nats"]).as_py()}
    metrics |= {"rows": len(table), "blocks": len(pairs_UK)}
    metrics |= {"f1_limit": limit["f1"]} if "f1" in limit else {}
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


def calibration_units(table: pa.Table) -> Array:
    """units_NK, K = 3 M: for the bin of each row's confidence, [1, confidence, 1 if the label is
    correct]; bin m holds (m - 1) / M < confidence <= m / M."""
    confidence_N = table["confidence"].to_numpy()
    bin_N = np.clip(np.ceil(confidence_N * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    correct_N = sums(table)[:, 0]

    units_N3M = np.zeros((len(table), 3, _BINS))
    row_N = np.arange(len(table))
    for part, value_N in enumerate((np.ones_like(confidence_N), confidence_N, correct_N)):
        units_N3M[row_N, part, bin_N] = value_N
    return units_N3M.reshape(len(table), 3 * _BINS)


def calibration_error(sums_RK: Array) -> Array:
    """Expected calibration error in per cent: the mean over rows of the difference between
    accuracy and mean confidence of their bin (Guo et al. 2017, equation 3)."""
    rows_RM, confidence_RM, correct_RM = (
        part_R1M[:, 0] for part_R1M in np.split(sums_RK.reshape(-1, 3, _BINS), 3, axis=1)
    )
    error: Array = 100 * np.abs(confidence_RM - correct_RM).sum(1) / np.maximum(rows_RM.sum(1), 1)
    return error


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


def predicted_labels(predictions: Path, split: str) -> list[str]:
    """The predicted label of each row of the split, in order."""
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
    outputs=(("text",), "label", predicted_labels),
)
INTERFACE = Interface(
    outputs={"label": "string", "probability": "double"},
    params={},
    example="so good .",
    command="classify",
)
