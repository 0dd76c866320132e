"""The last numbers of a row, and predictions several steps ahead (d2l section 9.1).

Shapes: N rows of a table, B rows of a batch, L inputs of a row."""

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.contracts import Forecaster
from pipeline.core.errors import refuse

AHEAD = (1, 4, 16, 64)  # numbers of steps (d2l section 9.1.3)


def steps_ahead(inputs: int) -> tuple[int, ...]:
    """Numbers of steps for which a row has an input before them; the book's, at most 64."""
    return tuple(steps for steps in AHEAD if steps <= inputs)


def arrays(table: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """inputs_NL and value_N of a table of the corpus."""
    # Copies, as torch warns of Arrow's read-only memory.
    inputs = table["inputs"].combine_chunks().flatten().to_numpy().copy()
    return inputs.reshape(len(table), -1), table["value"].to_numpy().copy()


def check_lags(lags: int, inputs: int) -> None:
    """Refuse a model that reads more numbers than a row has before the most steps ahead."""
    most = steps_ahead(inputs)[-1]
    if lags > inputs - most + 1:
        raise refuse(
            "model.lags",
            f"{lags} with {inputs} inputs in a row",
            f"at most {inputs - most + 1}, as predictions {most} steps ahead know no more",
            "Set fewer lags, or a longer read.history.",
        )


def predict(model: Forecaster, inputs_BL: Tensor, steps: int) -> Tensor:
    """value_B, predicted `steps` steps ahead: from the inputs before the last `steps` - 1, which
    are replaced by predictions of their own."""
    known_BL = inputs_BL[:, : inputs_BL.shape[1] - steps + 1]
    for _ in range(steps - 1):
        known_BL = torch.cat([known_BL, model.forecast(known_BL)[:, None]], 1)
    return model.forecast(known_BL)


def half_squared_error(model: Forecaster, table: pa.Table) -> float:
    """Mean over the rows of half the squared error one step ahead: -log of the density of a normal
    distribution of deviation 1 around the prediction, but for a constant."""
    inputs_NL, value_N = arrays(table)
    predicted_N = model.forecast(torch.from_numpy(inputs_NL).float())
    return float(((predicted_N.double().cpu().numpy() - value_N) ** 2).mean() / 2)
