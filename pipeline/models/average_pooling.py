"""The mean of all training values, whatever the inputs: a kernel that weights all of them alike
(d2l section 11.2)."""

from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.nn.lags import arrays, half_squared_error


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model: {}`: the family has no settings."""


class Model(nn.Module):
    """One number for all rows."""

    lags = 1
    mean: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Average the training values; `seed` is not used."""
        self.mean.fill_(float(arrays(train)[1].mean()))
        return {"loss": half_squared_error(self, valid)}

    def forecast(self, inputs_BL: Tensor) -> Tensor:
        """value_B."""
        return self.mean.expand(len(inputs_BL))
