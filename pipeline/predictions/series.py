"""Predictions of a series: each row's value, several numbers of steps ahead; and the values that
follow the numbers of a text from users."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.contracts import Forecaster
from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.inference import Prediction, check_time
from pipeline.nn import lags
from pipeline.predictions import PredictionRequest, Predictor, Row, TrainedRun, write_outputs
from pipeline.tasks import series

_MOST_STEPS = 1000
_SHOWN = 60  # characters of an invalid text in a message


def predict(request: PredictionRequest, out: Path) -> None:
    """Write `forecasts_<split>.parquet` for each split and `samples.parquet`."""
    model: Any = request.network()
    for split in request.splits():
        table = request.table(split, series.SCHEMA)
        write_forecasts(model, table, request.device, out / f"forecasts_{split}.parquet")
    outputs = [
        Prediction(f"{forecast(model, sample.prompt, 1, request.device):.4f}", 0.0, 0.0)
        for sample in request.samples
    ]
    write_outputs(request.samples, outputs, out)


def write_forecasts(model: Forecaster, table: pa.Table, device: torch.device, out: Path) -> None:
    """Write `tables.FORECASTS`: predictions of all rows for each number of steps ahead."""
    inputs = lags.arrays(table)[0].shape[1]
    lags.check_lags(model.lags, inputs)
    with tables.writer(out, tables.FORECASTS) as writer:
        for steps in lags.steps_ahead(inputs):
            ahead = pa.array(np.full(len(table), steps), pa.int32())
            value_N = series.forecasts(model, table, steps, device)
            columns = [table["row"], ahead, pa.array(value_N)]
            writer.write_table(pa.table(columns, schema=tables.FORECASTS))


@torch.inference_mode()
def forecast(model: Forecaster, text: str, steps: int, device: torch.device) -> float:
    """The value that comes `steps` steps after the numbers of the text; UserError for a text with
    anything else, or with fewer numbers than the model reads."""
    numbers = _numbers(text)
    if len(numbers) < model.lags:
        expected = f"at least {model.lags}, which the model reads"
        raise refuse("text", f"{len(numbers)} numbers", expected)

    known_1L = torch.tensor([numbers], device=device)
    for _ in range(steps):
        check_time()
        known_1L = torch.cat([known_1L, model.forecast(known_1L)[:, None]], 1)
    return float(known_1L[0, -1])


def _numbers(text: str) -> list[float]:
    numbers = []
    for word in text.split():
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise refuse("text", word[:_SHOWN], "finite numbers, separated by spaces")
        numbers.append(number)
    return numbers


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `value`: what follows the numbers of a text, as many `steps` later."""
    request = run.request()
    model: Any = request.network()

    def predict(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        steps = settings.get("steps", 1)
        return [{"value": forecast(model, text, steps, request.device)} for text in texts]

    return predict


PARAMS = {"steps": (1, _MOST_STEPS)}
