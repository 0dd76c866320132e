"""Linear autoregression, fitted by least squares (d2l section 9.1): a weighted sum of the last
values.

Shapes: N training rows, B rows, L lags."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one
from pipeline.nn.lags import arrays, check_lags, half_squared_error


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `lags`: the number of values that are read."""

    lags: int

    def __post_init__(self) -> None:
        at_least_one(lags=self.lags)


class Model(nn.Module):
    """x_t = bias + sum of weight_l x_(t-l) over the lags l; `weight_L` begins with the oldest."""

    weight_L: Tensor
    bias: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.lags = config.lags
        self.register_buffer("weight_L", torch.zeros(config.lags))
        self.register_buffer("bias", torch.zeros(()))

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Minimize the squared error of the training rows; `seed` is not used."""
        inputs_NL, value_N = arrays(train)
        check_lags(self.lags, inputs_NL.shape[1])

        # The last column is the bias's. Of many solutions this is the shortest.
        design = np.concatenate([inputs_NL[:, -self.lags :], np.ones((len(value_N), 1))], 1)
        solution, *_ = np.linalg.lstsq(design, value_N, rcond=None)
        self.weight_L.copy_(torch.from_numpy(solution[:-1]))
        self.bias.fill_(float(solution[-1]))
        return {"loss": half_squared_error(self, valid)}

    def forecast(self, inputs_BL: Tensor) -> Tensor:
        """value_B."""
        return inputs_BL[:, -self.lags :] @ self.weight_L + self.bias
