"""Checks of forecasters: a sine with noise, whose next value depends on the last ones."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.conformance import ADAM, Case, Check, expect, expect_same, expect_shape, is_trained
from pipeline.contracts import Sizes
from pipeline.core import tables
from pipeline.nn import lags
from pipeline.tasks import series

EXAMPLE = "pipeline.models.lag_mlp"
SIZES = Sizes(0, 0, False)
OPTIM = ADAM
RATES = (0.02, 0.005, 0.1)
EPOCHS = 20
_MOST = 0.5  # of the error of the mean


def training(model: Any) -> tuple[pa.Table, pa.Table, series.Config]:
    """Rows of as many inputs as the model reads."""
    return _rows(model, 0, 400), _rows(model, 500, 80), series.Config(batch_size=32)


def outputs(model: Any) -> Tensor:
    """Predictions B of three rows."""
    with torch.inference_mode():
        value_B: Tensor = model.forecast(_inputs(model))
        return value_B


def learned(model: Any) -> tuple[bool, str]:
    """By the squared error beside that of the mean; a fitted model may be as bad as the mean."""
    test = _rows(model, 600, 100)
    _, value_N = lags.arrays(test)
    with torch.inference_mode():
        error = lags.half_squared_error(model, test)
    ratio = error / (float(value_N.var()) / 2)
    most = _MOST if is_trained(model) else 2.0
    return ratio < most, f"{ratio:.2f} of the error of the mean; expected below {most}"


def shapes(case: Case) -> None:
    """`forecast` gives a float32 for each row, and `lags` is at least 1."""
    model = case.model()
    number = getattr(model, "lags", None)
    expect(isinstance(number, int) and number > 0, f"lags: got {number}; expected 1 or more.")
    value_B = outputs(model)
    expect_shape("forecast", value_B, (3,), "B")
    expect(value_B.dtype == torch.float32, f"forecast: got {value_B.dtype}; expected float32.")


@torch.inference_mode()
def rows(case: Case) -> None:
    """The other rows of a batch, and inputs before the last `lags`, change no prediction."""
    model = case.model()
    inputs_BL = _inputs(model)
    expected = outputs(model)
    alone = torch.cat([model.forecast(row_L[None]) for row_L in inputs_BL])
    expect_same("rows one by one", alone, expected, "Compute each row by itself.")
    earlier = torch.cat([torch.full((3, 2), 7.0), inputs_BL], 1)
    todo = "Read inputs_BL[:, -self.lags :] alone."
    expect_same("earlier inputs", model.forecast(earlier), expected, todo)


CHECKS: tuple[Check, ...] = (shapes, rows)


def _inputs(model: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn((3, model.lags), generator=generator)


def _rows(model: Any, start: int, count: int) -> pa.Table:
    # Predictions several steps ahead need inputs before them.
    inputs = model.lags + lags.AHEAD[-1] - 1
    noise = 0.05 * np.random.default_rng(start).normal(size=count + inputs)
    values = np.sin(0.5 * np.arange(start, start + count + inputs)) + noise
    windows = np.lib.stride_tricks.sliding_window_view(values, inputs + 1)
    columns = [range(len(windows)), windows[:, :-1].tolist(), windows[:, -1]]
    return pa.table(columns, schema=tables.NUMBERS)
