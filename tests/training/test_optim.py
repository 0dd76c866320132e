"""Every optimiser against the book's equations in NumPy, what it reaches on a quadratic, and every
schedule's properties."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from fitting import OWN_KEYS
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from pipeline.training import optim

Array = NDArray[np.float64]
RATE, STEPS = 0.05, 12
CONSTANT = {"name": "constant", "warmup_steps": 0}


def chosen(name: str, schedule: dict[str, Any] = CONSTANT, **keys: Any) -> optim.Config:
    common = {
        "name": name,
        "learning_rate": RATE,
        "weight_decay": 0.0,
        "clip_norm": None,
        "schedule": schedule,
    }
    return optim.load(common | keys, "optim")


def sgd(gradients: list[Array]) -> Iterator[Array]:
    """The updates, -x_t + x_{t-1}, of d2l 12.5."""
    for g in gradients:
        yield RATE * g


def momentum(gradients: list[Array]) -> Iterator[Array]:
    """v_t = Σ β^τ g_{t-τ}, summed anew at every step (d2l equation 12.6.3)."""
    for t in range(len(gradients)):
        yield RATE * sum(0.8**tau * gradients[t - tau] for tau in range(t + 1))


def adagrad(gradients: list[Array]) -> Iterator[Array]:
    """d2l equation 12.7.5."""
    for t, g in enumerate(gradients, 1):
        yield RATE * g / np.sqrt(np.sum(np.square(gradients[:t]), 0))


def rmsprop(gradients: list[Array]) -> Iterator[Array]:
    """d2l equation 12.8.1."""
    s = np.zeros_like(gradients[0])
    for g in gradients:
        s = 0.9 * s + 0.1 * g**2
        yield RATE / np.sqrt(s) * g


def adadelta(gradients: list[Array]) -> Iterator[Array]:
    """d2l equations 12.9.1 to 12.9.4, scaled by the rate."""
    s, delta, epsilon = np.zeros_like(gradients[0]), np.zeros_like(gradients[0]), 1e-6
    for g in gradients:
        s = 0.9 * s + 0.1 * g**2
        update = np.sqrt(delta + epsilon) / np.sqrt(s + epsilon) * g
        delta = 0.9 * delta + 0.1 * update**2
        yield RATE * update


def adam(gradients: list[Array]) -> Iterator[Array]:
    """d2l equations 12.10.1 to 12.10.4."""
    v, s = np.zeros_like(gradients[0]), np.zeros_like(gradients[0])
    for t, g in enumerate(gradients, 1):
        v, s = 0.9 * v + 0.1 * g, 0.98 * s + 0.02 * g**2
        yield RATE * (v / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.98**t)) + 1e-9)


CLOSED_FORMS: dict[str, Callable[[list[Array]], Iterator[Array]]] = {
    "sgd": sgd,
    "momentum": momentum,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adadelta": adadelta,
    "adam": adam,
    "adamw": adam,  # without weight decay they are one
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_every_update_is_the_books(name: str) -> None:
    rng = np.random.default_rng(3)
    shapes = [(3,), (2, 4)]
    gradients = [[rng.normal(size=shape) for _ in range(STEPS)] for shape in shapes]
    parameters = [nn.Parameter(torch.from_numpy(rng.normal(size=shape))) for shape in shapes]
    optimizer = optim.optimizer(chosen(name, **OWN_KEYS[name]), parameters)
    expected = [list(CLOSED_FORMS[name](own)) for own in gradients]
    for t in range(STEPS):
        before = [parameter.detach().clone() for parameter in parameters]
        for parameter, own in zip(parameters, gradients, strict=True):
            parameter.grad = torch.from_numpy(own[t])
        optimizer.step()
        for parameter, old, updates in zip(parameters, before, expected, strict=True):
            np.testing.assert_allclose((old - parameter.detach()).numpy(), updates[t], rtol=1e-6)


def test_nesterov_takes_the_gradient_where_its_momentum_leads() -> None:
    """Sutskever et al. 2013, equations 3 and 4, whose x + β v is what torch holds; on a quadratic
    with curvatures a."""
    a, beta = np.array([0.5, 2.0, 7.0]), 0.8
    x, v = np.array([1.0, -2.0, 0.5]), np.zeros(3)
    parameter = nn.Parameter(torch.from_numpy(x.copy()))
    optimizer = optim.optimizer(chosen("nesterov", momentum=beta), [parameter])
    for _ in range(STEPS):
        v = beta * v - RATE * a * (x + beta * v)
        x = x + v
        parameter.grad = torch.from_numpy(a) * parameter.detach()
        optimizer.step()
        np.testing.assert_allclose(parameter.detach().numpy(), x + beta * v, rtol=1e-9)


def test_weight_decay_goes_through_the_gradient_but_with_adamw_past_it() -> None:
    x, decay = torch.tensor([2.0, -3.0], dtype=torch.float64), 0.1
    moved = {}
    for name in ("sgd", "adam", "adamw"):
        parameter = nn.Parameter(x.clone())
        optimizer = optim.optimizer(chosen(name, **OWN_KEYS[name], weight_decay=decay), [parameter])
        parameter.grad = torch.zeros_like(x)
        optimizer.step()
        moved[name] = x - parameter.detach()
    torch.testing.assert_close(moved["sgd"], RATE * decay * x)
    # its first update knows the gradient's sign alone
    torch.testing.assert_close(moved["adam"], RATE * x.sign())
    torch.testing.assert_close(moved["adamw"], RATE * decay * x)


@pytest.mark.parametrize("name", OWN_KEYS)
@pytest.mark.parametrize("start", [(1.0, -1.0), (-3.0, 0.2)])
def test_every_optimiser_finds_the_minimum_of_a_convex_quadratic(
    name: str, start: tuple[float, float]
) -> None:
    """0.1 (x - 1)² + 2 (y + 2)², the book's example (d2l 12.6.1.2) moved, with the cosine
    schedule."""
    rate = {"sgd": 0.2, "adadelta": 20.0, "adagrad": 1.0}.get(name, 0.1)
    block = chosen(
        name, {"name": "cosine", "warmup_steps": 10}, **OWN_KEYS[name], learning_rate=rate
    )
    point = nn.Parameter(torch.tensor(start))
    target, curvature = torch.tensor([1.0, -2.0]), torch.tensor([0.2, 4.0])
    optimizer = optim.optimizer(block, [point])
    for step in range(400):
        optimizer.param_groups[0]["lr"] = optim.rate(block, step + 1, step / 400, 1)
        point.grad = curvature * (point.detach() - target)
        optimizer.step()
    assert torch.allclose(point.detach(), target, atol=0.05)


SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {},
    "step": {"every": 3, "factor": 0.5},
    "cosine": {},
    "inverse_square_root": {},
}
EPOCHS, PER_EPOCH = 10, 40


def scheduled(name: str, warmup_steps: int) -> optim.Config:
    return chosen("sgd", {"name": name, "warmup_steps": warmup_steps, **SCHEDULES[name]})


def rates(block: optim.Config) -> list[float]:
    """The rate of every update of a training, as the loop asks for it."""
    return [
        optim.rate(block, step + 1, step / PER_EPOCH, EPOCHS) for step in range(EPOCHS * PER_EPOCH)
    ]


@pytest.mark.parametrize("name", SCHEDULES)
@given(warm=st.integers(1, 200))
def test_the_warm_up_is_linear_and_nothing_after_it_rises_above_the_rate(
    name: str, warm: int
) -> None:
    found = rates(scheduled(name, warm))
    assert found[: warm - 1] == pytest.approx([RATE * step / warm for step in range(1, warm)])
    assert all(0 < rate <= RATE for rate in found)
    assert all(later <= earlier for earlier, later in pairwise(found[warm - 1 :]))


def test_the_constant_rate_is_constant() -> None:
    assert set(rates(scheduled("constant", 0))) == {RATE}


def test_steps_halve_the_rate_after_every_third_epoch() -> None:
    found = rates(scheduled("step", 0))
    assert found[:: 3 * PER_EPOCH] == pytest.approx([RATE, RATE / 2, RATE / 4, RATE / 8])
    falls = [step for step, (earlier, later) in enumerate(pairwise(found), 1) if later < earlier]
    assert falls == [3 * PER_EPOCH, 6 * PER_EPOCH, 9 * PER_EPOCH]


@given(done=st.floats(0, EPOCHS))
def test_the_cosine_begins_at_the_rate_ends_at_zero_and_is_even_about_its_middle(
    done: float,
) -> None:
    block = scheduled("cosine", 0)
    assert optim.rate(block, 1, 0.0, EPOCHS) == RATE
    assert optim.rate(block, 1, float(EPOCHS), EPOCHS) == pytest.approx(0.0, abs=1e-12)
    assert optim.rate(block, 1, done, EPOCHS) + optim.rate(
        block, 1, EPOCHS - done, EPOCHS
    ) == pytest.approx(RATE)


@given(warm=st.integers(2, 200), per_epoch=st.integers(50, 400))
def test_the_cosine_is_continuous_where_the_warmup_ends(warm: int, per_epoch: int) -> None:
    block = scheduled("cosine", warm)
    rates_after = [
        optim.rate(block, step, (step - 1) / per_epoch, EPOCHS)
        for step in range(1, EPOCHS * per_epoch + 1)
    ]
    assert max(rates_after) == rates_after[warm - 1] == pytest.approx(RATE)
    steepest = RATE * max(1 / warm, math.pi / 2 / (EPOCHS * per_epoch - warm))
    assert all(abs(after - before) <= steepest * 1.01 for before, after in pairwise(rates_after))
    assert rates_after[-1] == pytest.approx(0.0, abs=RATE * 1e-3)


@given(warm=st.integers(1, 100), step=st.integers(100, 10**6))
def test_inverse_sqrt_peaks_after_warmup_and_halves_at_four_times_that(
    warm: int, step: int
) -> None:
    block = scheduled("inverse_square_root", warm)
    assert optim.rate(block, warm, 0.0, EPOCHS) == RATE
    assert optim.rate(block, 4 * step, 0.0, EPOCHS) == pytest.approx(
        optim.rate(block, step, 0.0, EPOCHS) / 2
    )


def test_the_inverse_square_root_is_that_of_attention_is_all_you_need() -> None:
    """Equation 3: width^-0.5 min(step^-0.5, step warmup^-1.5), whose highest rate is (width
    warmup)^-0.5."""
    width, warm = 512, 4000
    schedule = {"name": "inverse_square_root", "warmup_steps": warm}
    block = chosen("adam", schedule, betas=[0.9, 0.98], learning_rate=1 / math.sqrt(width * warm))
    for step in (1, 10, 3999, 4000, 4001, 100_000):
        paper = width**-0.5 * min(step**-0.5, step * warm**-1.5)
        assert optim.rate(block, step, 0.0, EPOCHS) == pytest.approx(paper)
