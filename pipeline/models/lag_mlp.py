"""Nonlinear autoregression: a multilayer perceptron of the last values (d2l section 9.1).

Shapes: B rows, L lags."""

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `lags`: the number of values that are read; `hidden`: units of the hidden
    layer."""

    lags: int
    hidden: int

    def __post_init__(self) -> None:
        at_least_one(lags=self.lags, hidden=self.hidden)


class Model(nn.Module):
    """x_t = MLP(the values before it)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.lags = config.lags
        self.layers = nn.Sequential(
            nn.Linear(config.lags, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1)
        )

    def forecast(self, inputs_BL: Tensor) -> Tensor:
        """value_B."""
        value_B1: Tensor = self.layers(inputs_BL[:, -self.lags :])
        return value_B1[:, 0]
