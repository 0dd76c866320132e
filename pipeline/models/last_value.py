"""Persistence: the next value is the last one, the baseline of every forecast."""

from dataclasses import dataclass

import pyarrow as pa
from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.nn.lags import half_squared_error


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model: {}`: the family has no settings."""


class Model(nn.Module):
    """The last input, unchanged."""

    lags = 1

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Nothing is fitted."""
        return {"loss": half_squared_error(self, valid)}

    def forecast(self, inputs_BL: Tensor) -> Tensor:
        """value_B."""
        return inputs_BL[:, -1]
