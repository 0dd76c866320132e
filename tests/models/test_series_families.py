"""Forecasters: NumPy and torch as oracles, predictions several steps ahead, what they learn, and
what they refuse."""

import math
from pathlib import Path
from typing import Any

import fitting
import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from torch import nn

from pipeline.contracts import Fitted, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.models import nadaraya_watson
from pipeline.nn import lags
from pipeline.tasks import series
from pipeline.training import checkpoint

CPU = torch.device("cpu")
NO_WORDS = Sizes(0, 0, False)
MLP = {"lags": 5, "hidden": 7}
GRU = {"cell": "gru", "lags": 6, "hidden": 8, "layers": 1, "implementation": "fused"}
KERNEL = {"lags": 1, "width": 0.5, "learned": False}


def build(family: str, block: dict[str, Any]) -> Any:
    torch.manual_seed(3)
    return checkpoint.build(family, block, NO_WORDS, "settings.x.model").eval()


def table(inputs_NL: NDArray[np.float64], value_N: NDArray[np.float64]) -> pa.Table:
    columns = [np.arange(len(value_N)), inputs_NL.tolist(), value_N]
    return pa.table(columns, schema=tables.NUMBERS)


def windows(values: NDArray[np.float64], history: int) -> pa.Table:
    """Rows of a series."""
    rows = np.lib.stride_tricks.sliding_window_view(values, history + 1)
    return table(rows[:, :-1], rows[:, -1])


def noise(count: int, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=count)


def fitted(family: str, block: dict[str, Any], train: pa.Table) -> Any:
    model = build(family, block)
    assert isinstance(model, Fitted)
    loss = model.fit(train, train, 1)["loss"]
    squares = (series.forecasts(model, train, 1, CPU) - train["value"].to_numpy()) ** 2
    assert loss == pytest.approx(squares.mean() / 2, rel=1e-6)
    return model


def test_least_squares_are_those_of_scikit_learn() -> None:
    train = windows(np.cumsum(noise(200)), 9)
    model = fitted("linear_ar", {"lags": 4}, train)
    inputs_NL, value_N = lags.arrays(train)
    oracle = LinearRegression().fit(inputs_NL[:, -4:], value_N)
    np.testing.assert_allclose(model.weight_L, oracle.coef_, rtol=1e-5)
    assert float(model.bias) == pytest.approx(oracle.intercept_, rel=1e-5)
    predicted_N = series.forecasts(model, train, 1, CPU)
    np.testing.assert_allclose(predicted_N, oracle.predict(inputs_NL[:, -4:]), rtol=1e-4, atol=1e-5)


def test_two_lags_predict_a_sine_without_noise_any_number_of_steps_ahead() -> None:
    """sin(w t) = 2 cos(w) sin(w (t - 1)) - sin(w (t - 2))."""
    train = windows(np.sin(0.3 * np.arange(300)), 80)
    model = fitted("linear_ar", {"lags": 2}, train)
    np.testing.assert_allclose(model.weight_L, [-1, 2 * math.cos(0.3)], atol=1e-6)
    for steps in (1, 4, 16, 64):
        predicted_N = series.forecasts(model, train, steps, CPU)
        np.testing.assert_allclose(predicted_N, train["value"].to_numpy(), atol=2e-3)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_predictions_several_steps_ahead_never_read_the_values_between(steps: int) -> None:
    model = fitted("linear_ar", {"lags": 3}, windows(noise(50), 8))
    inputs_NL = noise(16).reshape(2, 8)
    predicted_N = lags.predict(model, torch.from_numpy(inputs_NL).float(), steps)
    for row, predicted in zip(inputs_NL, predicted_N, strict=True):
        known = list(row[: 9 - steps])
        for _ in range(steps):
            known.append(float(model.weight_L.numpy() @ known[-3:] + float(model.bias)))
        assert float(predicted) == pytest.approx(known[-1], abs=1e-5)


def test_baselines_predict_the_last_value_and_the_mean() -> None:
    train = table(noise(30).reshape(10, 3), noise(10, 2))
    inputs_NL, value_N = lags.arrays(train)
    last = series.forecasts(fitted("last_value", {}, train), train, 1, CPU)
    np.testing.assert_allclose(last, inputs_NL[:, -1], rtol=1e-6)
    mean = series.forecasts(fitted("average_pooling", {}, train), train, 1, CPU)
    np.testing.assert_allclose(mean, np.full(10, value_N.mean()), rtol=1e-6)


def test_the_perceptron_and_its_gradient_are_those_of_the_equations() -> None:
    model = build("lag_mlp", MLP).double()
    weights = {name: value.detach().numpy() for name, value in model.named_parameters()}
    input_L = noise(9)
    before_H = weights["layers.0.weight"] @ input_L[-5:] + weights["layers.0.bias"]
    hidden_H = np.maximum(before_H, 0)
    expected = float((weights["layers.2.weight"] @ hidden_H + weights["layers.2.bias"])[0])

    predicted_1 = model.forecast(torch.from_numpy(input_L)[None])
    assert predicted_1.item() == pytest.approx(expected)
    predicted_1.sum().backward()
    inner_H = weights["layers.2.weight"][0] * (before_H > 0)
    gradients = {name: value.grad.numpy() for name, value in model.named_parameters()}
    np.testing.assert_allclose(gradients["layers.0.weight"], np.outer(inner_H, input_L[-5:]))
    np.testing.assert_allclose(gradients["layers.0.bias"], inner_H)
    np.testing.assert_allclose(gradients["layers.2.weight"][0], hidden_H)


@pytest.mark.parametrize(("cell", "kernel"), [("rnn", nn.RNN), ("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_the_recurrent_network_and_its_gradient_are_those_of_torch(
    cell: str, kernel: type[nn.Module]
) -> None:
    model = build("recurrent_ar", GRU | {"cell": cell, "implementation": "equations"})
    oracle = kernel(1, 8, batch_first=True)
    oracle.load_state_dict(model.recurrent.kernel.state_dict())
    inputs_BL = torch.from_numpy(noise(30).reshape(3, 10)).float()
    hidden_BLH, _ = oracle(inputs_BL[:, -6:, None])
    expected_B = (hidden_BLH[:, -1] * model.output.weight[0].detach()).sum(
        -1
    ) + model.output.bias.item()
    predicted_B = model.forecast(inputs_BL)
    torch.testing.assert_close(predicted_B, expected_B)

    predicted_B.square().sum().backward()
    expected_B.square().sum().backward()
    for name, weight in oracle.named_parameters():
        own = model.recurrent.kernel.get_parameter(name)
        torch.testing.assert_close(own.grad, weight.grad, rtol=1e-4, atol=1e-5)


def kernel_mean(
    query_L: NDArray[np.float64],
    key_NL: NDArray[np.float64],
    value_N: NDArray[np.float64],
    width: float,
) -> float:
    """The estimate of one query by the definition: sums of kernels."""
    kernels = [math.exp(-float(((query_L - key) ** 2).sum()) / (2 * width**2)) for key in key_NL]
    return sum(k * v for k, v in zip(kernels, value_N, strict=True)) / sum(kernels)


@pytest.mark.parametrize("lag", [1, 3])
def test_kernel_regression_is_the_weighted_mean_of_its_definition(lag: int) -> None:
    train = table(noise(60).reshape(20, 3), noise(20, 2))
    model = fitted("nadaraya_watson", KERNEL | {"lags": lag}, train)
    inputs_NL, value_N = lags.arrays(train)
    queries = noise(15, 5).reshape(5, 3)
    predicted_B = model.forecast(torch.from_numpy(queries).float())
    expected = [kernel_mean(q[-lag:], inputs_NL[:, -lag:], value_N, 0.5) for q in queries]
    np.testing.assert_allclose(predicted_B, expected, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_the_width_is_that_of_finite_differences() -> None:
    key_NL = torch.from_numpy(noise(24).reshape(12, 2))
    value_N = torch.from_numpy(noise(12, 2))
    width = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    error = nadaraya_watson.leave_one_out_error(key_NL, value_N, width)
    expected = np.mean(
        [
            (
                kernel_mean(
                    key_NL[i].numpy(),
                    np.delete(key_NL.numpy(), i, 0),
                    np.delete(value_N.numpy(), i),
                    0.7,
                )
                - value_N[i].item()
            )
            ** 2
            for i in range(12)
        ]
    )
    assert error.item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(
        lambda w: nadaraya_watson.leave_one_out_error(key_NL, value_N, w), (width,)
    )


@pytest.mark.parametrize("start", [0.05, 0.3, 2.0])
def test_the_learned_width_has_the_lowest_error_of_a_grid(start: float) -> None:
    x = np.random.default_rng(1).uniform(0, 5, 100)
    train = table(x[:, None], 2 * np.sin(x) + x + 0.5 * noise(100))
    model = fitted("nadaraya_watson", KERNEL | {"width": start, "learned": True}, train)
    key_NL, value_N = (torch.from_numpy(array) for array in lags.arrays(train))

    def error(width: float) -> float:
        at = torch.tensor(width, dtype=torch.float64)
        return float(nadaraya_watson.leave_one_out_error(key_NL, value_N, at))

    lowest = min(error(width) for width in np.geomspace(0.02, 5, 200))
    assert error(float(model.width)) <= lowest * (1 + 1e-3)


@pytest.mark.parametrize(
    ("family", "block"), [("lag_mlp", MLP), ("recurrent_ar", GRU)], ids=lambda value: str(value)[:8]
)
def test_trained_forecasters_learn_a_rule_that_is_not_linear(
    family: str, block: dict[str, Any], tmp_path: Path
) -> None:
    """x_t = 1.6 |x_(t-1)| - 1 + noise (a tent map), on which no linear rule is of much use."""
    values = [0.0]
    for shock in 0.1 * noise(700):
        values.append(1.6 * abs(values[-1]) - 1 + shock if abs(values[-1]) < 1.2 else shock)
    train, valid = (windows(np.array(part), 12) for part in (values[:500], values[500:]))
    linear = fitted("linear_ar", {"lags": 5}, train)
    linear_error = lags.half_squared_error(linear, valid)

    model = build(family, block)
    task = series.Task(train, valid, series.Config(batch_size=32), 1, CPU)
    fitting.fit(model, task, 0.02, 25, tmp_path)
    loss, metrics = task.validate(model)
    error = float(loss.total) / loss.tokens
    assert metrics["rmse"] == pytest.approx(math.sqrt(2 * error))
    assert error < 0.5 * linear_error


def test_a_plan_has_each_row_once_and_depends_on_the_epoch() -> None:
    train = windows(noise(30), 4)
    task = series.Task(train, train, series.Config(batch_size=8), 1, CPU)
    first, second = task.plan(1), task.plan(2)
    assert [len(batch) for batch in first] == [8, 8, 8, 2]
    assert sorted(np.concatenate(first)) == list(range(26))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


@pytest.mark.parametrize("family", ["linear_ar", "nadaraya_watson"])
def test_more_lags_than_the_longest_prediction_leaves_are_refused(family: str) -> None:
    block = {"lags": 18} | ({} if family == "linear_ar" else {"width": 1.0, "learned": False})
    with pytest.raises(UserError) as error:
        fitted(family, block, windows(noise(200), 80))
    assert str(error.value) == (
        "model.lags: got 18 with 80 inputs in a row; expected at most 17, as predictions 64 steps "
        "ahead know no more. Set fewer lags, or a longer read.history."
    )


def test_the_first_update_refuses_more_lags_than_a_row_has_inputs(tmp_path: Path) -> None:
    train = windows(noise(20), 3)
    task = series.Task(train, train, series.Config(batch_size=8), 1, CPU)
    with pytest.raises(UserError, match=r"^model.lags: got 5 with 3 inputs in a row"):
        fitting.fit(build("lag_mlp", MLP), task, 0.02, 1, tmp_path)


@pytest.mark.parametrize(
    ("family", "block", "line"),
    [
        ("linear_ar", {"lags": 0}, "lags: got 0; expected at least 1."),
        ("lag_mlp", MLP | {"hidden": 0}, "hidden: got 0; expected at least 1."),
        ("recurrent_ar", GRU | {"layers": 0}, "layers: got 0; expected at least 1."),
        (
            "nadaraya_watson",
            KERNEL | {"width": 0},
            "width: got 0.0; expected above 0, such as 0.2.",
        ),
    ],
)
def test_settings_out_of_range_are_refused(family: str, block: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as error:
        build(family, block)
    assert str(error.value) == f"settings.x.model.{line}"
