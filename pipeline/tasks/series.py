"""Series: predict a number from the numbers before it (d2l section 9.1), or the height of a curve
from the place on it (d2l section 11.2).

The loss is half the squared error one step ahead: nats under a normal distribution of deviation 1,
but for a constant. Predictions several steps ahead are composed of those (`pipeline.nn.lags`).

Shapes: B batch, L inputs of a row."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.contracts import Forecaster, Loss
from pipeline.core import tables
from pipeline.core.errors import at_least_one
from pipeline.core.seeding import derive
from pipeline.nn import lags
from pipeline.text.token_budget import describe_rows

SCHEMA = tables.NUMBERS
KIND = "numbers"  # of the corpora that it reads
SOURCE_TARGET = ("inputs", "value")  # numbers, which have no vocabulary
USES_SEARCH = False  # whether decoding is a search
MODELS = (Forecaster,)  # protocols of the models that it trains
SCORING_BATCH = 4096  # rows per batch when scoring


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`objective:` of a run. `batch_size`: rows of an update."""

    batch_size: int

    def __post_init__(self) -> None:
        at_least_one(batch_size=self.batch_size)


class Batch(NamedTuple):
    """Rows of numbers, and the number to predict from each."""

    inputs_BL: Tensor
    value_B: Tensor


class Task:
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        self.config = config
        self.seed = seed
        self.device = device
        self.train = rows(train)
        self.valid = valid

    def plan(self, epoch: int) -> list[np.ndarray[Any, Any]]:
        """The epoch's batches as arrays of rows, in random order."""
        rng = np.random.default_rng(derive(self.seed, f"batches of epoch {epoch}"))
        count = len(self.train.value_B)
        return np.split(
            rng.permutation(count), range(self.config.batch_size, count, self.config.batch_size)
        )

    def batch(self, planned: np.ndarray[Any, Any]) -> Batch:
        chosen = torch.from_numpy(planned)
        return Batch(
            self.train.inputs_BL[chosen].to(self.device), self.train.value_B[chosen].to(self.device)
        )

    def loss(self, model: Forecaster, batch: Batch, hidden_state: None) -> tuple[Loss, None]:
        lags.check_lags(model.lags, batch.inputs_BL.shape[1])
        error_B = model.forecast(batch.inputs_BL).float() - batch.value_B
        return Loss((error_B**2).sum() / 2, len(error_B)), None

    def validate(self, model: Forecaster) -> tuple[Loss, dict[str, float]]:
        value_N = torch.from_numpy(lags.arrays(self.valid)[1])
        predicted_N = torch.from_numpy(forecasts(model, self.valid, 1, self.device))
        squares = ((predicted_N - value_N) ** 2).sum()
        rmse = float((squares / len(value_N)).sqrt())
        return Loss(squares / 2, len(value_N)), {"rmse": rmse}

    def describe(self, planned: np.ndarray[Any, Any]) -> str:
        return describe_rows(planned)


def rows(table: pa.Table) -> Batch:
    """All rows of the table as float32."""
    inputs_NL, value_N = lags.arrays(table)
    return Batch(torch.from_numpy(inputs_NL).float(), torch.from_numpy(value_N).float())


@torch.inference_mode()
def forecasts(
    model: Forecaster, table: pa.Table, steps: int, device: torch.device
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """value_N of each row of the table, predicted `steps` steps ahead."""
    inputs_NL = rows(table).inputs_BL
    parts = [
        lags.predict(model, inputs_BL.to(device), steps).double().cpu()
        for inputs_BL in torch.split(inputs_NL, SCORING_BATCH)
    ]
    return torch.cat(parts).numpy()
