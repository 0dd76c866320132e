"""Scores of predicted numbers: the root mean squared error, by the number of steps ahead.

Inputs of neighbouring rows overlap, so rows are resampled in blocks: as many neighbours as a row
has inputs. A curve's rows have one input, and are resampled one by one.

Shapes: N rows, K numbers of steps ahead, R resamples.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.scoring.likelihood import check_row_numbers, diverged
from pipeline.scoring.significance import Array, Bootstrap, sum_by_block
from pipeline.scoring.tasks import Inputs, Interface, Promotion, Scoring

_MAIN = "rmse"
_DECIMALS = 4
_FORM = f"{{:.{_DECIMALS}f}}"
_COLUMNS = (
    ("4 steps ahead", "ahead_4.score", _FORM),
    ("16 steps ahead", "ahead_16.score", _FORM),
    ("64 steps ahead", "ahead_64.score", _FORM),
    ("limit", "limit", _FORM),
    ("distance to limit", "distance", _FORM),
)
_MEANING = (
    "RMSE is the root of the mean squared error of the predictions one step ahead, in the unit of "
    "the values. "
    "A prediction several steps ahead reads the model's own predictions of the values between. "
    "The limit is the error of who knows the values without noise, the lowest that can be "
    "expected at any number of steps. "
    "The training loss is half the mean squared error. "
    "Intervals and tests resample blocks of neighbouring rows, as many as a row has inputs."
)


def scoring(lowercase: bool, tokenizer: str = "13a") -> Scoring:
    """The scoring of numbers, which does not depend on case or tokenizer."""
    return Scoring(
        schema=tables.SCORES_SERIES,
        rows=rows,
        summary=summary,
        by_length=by_length,
        sums=sums,
        units=units,
        score=score,
        higher_is_better=False,
        difference="RMSE",
        main=_MAIN,
        main_score=score,
        main_title="RMSE",
        main_name="root mean squared error",
        scale=None,
        decimals=_DECIMALS,
        columns=_COLUMNS,
        further=(),
        title="Series",
        length="steps ahead",
        unit="value",
        meaning=_MEANING,
        d2l_bleu=False,
        divided_by="steps ahead",
    )


def score(sums_RK: Array) -> Array:
    """Root mean squared error, from [squared error, rows]."""
    root: Array = np.sqrt(sums_RK[:, 0] / np.maximum(sums_RK[:, 1], 1))
    return root


def rows(inputs: Inputs, split: str) -> pa.Table:
    """Squared errors of every row; UserError if predictions and rows do not match."""
    values = tables.read(inputs.tokens / f"{split}.parquet", tables.NUMBERS).sort_by("row")
    path = inputs.predictions / f"forecasts_{split}.parquet"
    forecasts = tables.read(path, tables.FORECASTS).sort_by([("row", "ascending")])
    ahead_K = np.unique(forecasts["ahead"].to_numpy())
    parts = [forecasts.filter(pc.equal(forecasts["ahead"], int(steps))) for steps in ahead_K]
    for part in parts or [forecasts]:
        check_row_numbers(part["row"], len(values), path)
    if ahead_K[0] != 1:
        todo = "Delete it and run `dvc repro`."
        raise refuse(str(path), "no predictions one step ahead", "some", todo)

    predicted_NK = np.stack([part["value"].to_numpy() for part in parts], 1)
    if not np.isfinite(predicted_NK).all():
        raise diverged(path)
    errors_NK = (predicted_NK - values["value"].to_numpy()[:, None]) ** 2
    inputs_of_row = len(values["inputs"][0])
    bounds = pa.array(np.arange(len(values) + 1, dtype=np.int32) * len(ahead_K))
    ahead = pa.array(np.tile(ahead_K.astype(np.int32), len(values)))
    return pa.table(
        {
            "row": values["row"],
            "block": values["row"].to_numpy() // inputs_of_row,
            "ahead": pa.ListArray.from_arrays(bounds, ahead),
            "errors": pa.ListArray.from_arrays(bounds, pa.array(errors_NK.ravel())),
        },
        schema=tables.SCORES_SERIES,
    )


def units(table: pa.Table) -> Array:
    """units_U2: squared error one step ahead and rows of each block."""
    return sum_by_block(sums(table), table["block"].to_numpy())


def sums(table: pa.Table) -> Array:
    """sums_N2: [squared error one step ahead, 1]."""
    return _sums(table)[1]


def summary(table: pa.Table, bootstrap: Bootstrap, limit: dict[str, float]) -> dict[str, Any]:
    """The error for each number of steps ahead with its interval, the limit and the distance to
    it."""
    blocks = table["block"].to_numpy()
    estimates = {
        steps: bootstrap.estimate(sum_by_block(sums_N2, blocks), score)
        for steps, sums_N2 in _sums(table).items()
    }
    metrics: dict[str, Any] = {_MAIN: estimates.pop(1)}
    metrics |= {f"ahead_{steps}": estimate for steps, estimate in estimates.items()}
    metrics |= {"rows": len(table), "blocks": len(np.unique(blocks))}
    if _MAIN in limit:
        distance = metrics[_MAIN]["score"] - limit[_MAIN]
        metrics |= {"limit": limit[_MAIN], "distance": distance}
    return metrics


def by_length(table: pa.Table, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """The error by the number of steps ahead."""
    blocks = table["block"].to_numpy()
    points = []
    for steps, sums_N2 in _sums(table).items():
        estimate = bootstrap.estimate(sum_by_block(sums_N2, blocks), score)
        points.append(
            {
                "from": steps,
                "to": steps,
                "length": float(steps),
                "rows": len(table),
                "low": estimate["low"],
                "high": estimate["high"],
                _MAIN: estimate["score"],
            }
        )
    return points


def _sums(table: pa.Table) -> dict[int, Array]:
    """sums_N2 [squared error, 1] by the number of steps ahead."""
    ahead_K = table["ahead"][0].as_py()
    errors_NK = np.asarray(table["errors"].combine_chunks().flatten()).reshape(-1, len(ahead_K))
    ones_N = np.ones(len(table))
    return {
        steps: np.stack([error_N, ones_N], 1)
        for steps, error_N in zip(ahead_K, errors_NK.T, strict=True)
    }


PROMOTION = Promotion(
    guards=("score",),
    validation=(f"{_MAIN}.score", False),
    likelihood_text=None,
    same_normalization=False,
    same_vocabulary=False,
    selection=None,
    has_splits=True,
    outputs=None,
)
INTERFACE = Interface(
    outputs={"value": "double"},
    params={"steps": ("long", 1)},
    example=" ".join(["0.5"] * 64),
    command=None,
)
