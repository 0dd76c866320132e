"""Scores of predicted numbers, by hand."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.scoring.significance import Bootstrap
from pipeline.scoring.tasks import Inputs
from pipeline.scoring.tasks import series as scores

BOOTSTRAP = Bootstrap(samples=50, confidence=0.95, seed=1)


def write(
    folder: Path, values: list[float], forecasts: dict[int, list[float]], inputs: int = 4
) -> Inputs:
    """Values, and predictions by the number of steps ahead."""
    rows = [{"row": i, "inputs": [0.0] * inputs, "value": v} for i, v in enumerate(values)]
    tables.write(folder / "test.parquet", pa.Table.from_pylist(rows, tables.NUMBERS))
    predicted = [
        {"row": i, "ahead": ahead, "value": v}
        for ahead, column in forecasts.items()
        for i, v in enumerate(column)
    ]
    path = folder / "forecasts_test.parquet"
    tables.write(path, pa.Table.from_pylist(predicted, tables.FORECASTS))
    return Inputs(predictions=folder, tokens=folder, encoded=None, text=None)


def test_errors_are_roots_of_mean_squares_by_steps_ahead(tmp_path: Path) -> None:
    values = [float(i) for i in range(10)]
    forecasts = {4: [v + 2 for v in values], 1: [v + (-1) ** i for i, v in enumerate(values)]}
    forecasts[1][0] = 3.0
    table = scores.rows(write(tmp_path, values, forecasts), "test")
    assert table.schema.equals(tables.SCORES_SERIES)
    assert table["block"].to_pylist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert table["ahead"].to_pylist() == [[1, 4]] * 10

    metrics = scores.summary(table, BOOTSTRAP, {"rmse": 0.5})
    assert metrics["rmse"]["score"] == pytest.approx(math.sqrt((9 + 9) / 10))
    assert metrics["ahead_4"]["score"] == pytest.approx(2)
    assert metrics["ahead_4"]["low"] == pytest.approx(2)
    assert metrics["distance"] == pytest.approx(metrics["rmse"]["score"] - 0.5)
    assert (metrics["rows"], metrics["blocks"]) == (10, 3)
    points = scores.by_length(table, BOOTSTRAP)
    assert [(point["length"], point["rmse"]) for point in points] == [
        (1.0, metrics["rmse"]["score"]),
        (4.0, metrics["ahead_4"]["score"]),
    ]


def test_points_of_a_curve_are_resampled_one_by_one(tmp_path: Path) -> None:
    inputs = write(tmp_path, [1.0, 2.0, 3.0], {1: [1.0, 2.0, 5.0]}, inputs=1)
    table = scores.rows(inputs, "test")
    assert table["block"].to_pylist() == [0, 1, 2]
    np.testing.assert_allclose(scores.units(table), [[0, 1], [0, 1], [4, 1]])


@pytest.mark.parametrize(
    ("forecasts", "line"),
    [
        ({1: [1.0]}, "got 1 rows; expected the 2 rows of the references."),
        ({4: [1.0, 2.0]}, "got no predictions one step ahead; expected some."),
        ({1: [1.0, math.nan]}, "got nats that are not finite; expected finite numbers."),
        ({}, "got 0 rows; expected the 2 rows of the references."),
    ],
)
def test_predictions_that_do_not_fit_are_refused(
    forecasts: dict[int, list[float]], line: str, tmp_path: Path
) -> None:
    inputs = write(tmp_path, [1.0, 2.0], forecasts)
    with pytest.raises(UserError) as error:
        scores.rows(inputs, "test")
    assert line in str(error.value)
