"""Latent autoregression: a recurrent network reads the last values one by one, and its state
predicts the next one (d2l sections 9.1 and 9.4).

Shapes: B rows, L lags, H hidden."""

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one
from pipeline.nn.cells import Cell, Implementation, Recurrent


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `lags`: the number of values that are read."""

    cell: Cell
    lags: int
    hidden: int
    layers: int
    implementation: Implementation

    def __post_init__(self) -> None:
        at_least_one(lags=self.lags, hidden=self.hidden, layers=self.layers)


class Model(nn.Module):
    """x_t = a linear function of the state after the values before it."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.lags = config.lags
        self.recurrent = Recurrent(
            config.cell, 1, config.hidden, config.layers, 0.0, config.implementation
        )
        self.output = nn.Linear(config.hidden, 1)

    def forecast(self, inputs_BL: Tensor) -> Tensor:
        """value_B."""
        hidden_BLH, _ = self.recurrent(inputs_BL[:, -self.lags :, None], None)
        value_B1: Tensor = self.output(hidden_BLH[:, -1])
        return value_B1[:, 0]
