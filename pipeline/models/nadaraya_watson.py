"""Nadaraya-Watson kernel regression: a value is the mean of the training values, weighted by how
near their inputs are (Nadaraya 1964; Watson 1964; d2l section 11.2).

It is attention pooling: the query is a row's inputs, the keys and values are the training rows. The
width of the kernel is fixed, or learned.

Shapes: B queries, N training rows, L lags."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one, refuse
from pipeline.nn.lags import arrays, check_lags, half_squared_error

_STEPS = 100  # of the search for the width, at most


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    - `lags`: the number of inputs that are compared; 1 for a curve.
    - `width`: standard deviation of the Gaussian kernel, in the unit of the inputs.
    - `learned`: whether the width is learned, from `width` on.
    """

    lags: int
    width: float
    learned: bool

    def __post_init__(self) -> None:
        at_least_one(lags=self.lags)
        if self.width <= 0:
            raise refuse("width", self.width, "above 0, such as 0.2")


class Model(nn.Module):
    """f(x) = sum of a(x, x_i) y_i over the training rows i; the weights a are a softmax of
    -|x - x_i|^2 / (2 width^2) (d2l equations 11.2.1 and 11.2.2)."""

    key_NL: Tensor
    value_N: Tensor
    width: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.lags = config.lags
        self.learned = config.learned
        # `fit` sets the sizes.
        self.register_buffer("key_NL", torch.zeros(0, 0))
        self.register_buffer("value_N", torch.zeros(0))
        self.register_buffer("width", torch.tensor(config.width))

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Keep the training rows, and learn the width from them; `seed` is not used."""
        inputs_NL, values = arrays(train)
        check_lags(self.lags, inputs_NL.shape[1])
        key_NL = torch.from_numpy(np.ascontiguousarray(inputs_NL[:, -self.lags :]))
        value_N = torch.from_numpy(values)
        if self.learned:
            if len(value_N) < 2:
                raise refuse("corpus", "a single training row", "at least 2", "Read more rows.")
            self.width.fill_(learned_width(key_NL, value_N, float(self.width)))

        self.key_NL = key_NL.float()
        self.value_N = value_N.float()
        return {"loss": half_squared_error(self, valid)}

    def forecast(self, inputs_BL: Tensor) -> Tensor:
        """value_B."""
        query_BL = inputs_BL[:, -self.lags :]
        return scores(query_BL, self.key_NL, self.width).softmax(-1) @ self.value_N


def scores(query_BL: Tensor, key_NL: Tensor, width: Tensor) -> Tensor:
    """scores_BN: the logarithm of the Gaussian kernel, but for a constant."""
    # By matrix products, distances of near points would be inexact.
    distance_BN = torch.cdist(query_BL, key_NL, compute_mode="donot_use_mm_for_euclid_dist")
    return -(distance_BN**2) / (2 * width**2)


def leave_one_out_error(key_NL: Tensor, value_N: Tensor, width: Tensor) -> Tensor:
    """Mean squared error of each training row, predicted from all others. (With itself among the
    keys, a kernel of no width would be perfect.)"""
    scores_NN = scores(key_NL, key_NL, width).fill_diagonal_(-torch.inf)
    predicted_N = scores_NN.softmax(-1) @ value_N
    return (predicted_N - value_N).square().mean()


def learned_width(key_NL: Tensor, value_N: Tensor, start: float) -> float:
    """The width with the lowest `leave_one_out_error` near `start`, by its gradient: a
    quasi-Newton search (L-BFGS) over the width's logarithm, which keeps it positive."""
    log_width = torch.tensor(start, dtype=key_NL.dtype).log().requires_grad_()
    search = torch.optim.LBFGS([log_width], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        error = leave_one_out_error(key_NL, value_N, log_width.exp())
        error.backward()  # type: ignore[no-untyped-call]
        return error

    search.step(closure)  # type: ignore[no-untyped-call]
    return float(log_width.detach().exp())
