"""Dropout that decides on four elements by one random number."""

import pytest
import torch

from pipeline.nn.dropout import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_each_of_the_four_is_dropped_with_probability_p_and_alone(p: float) -> None:
    torch.manual_seed(1)
    rows = 200_000
    dropped_N4 = (dropout(torch.ones(rows, 4), p, True) == 0).double()
    error = (p * (1 - p) / rows) ** 0.5
    assert dropped_N4.mean(0).tolist() == pytest.approx([p] * 4, abs=5 * error)
    correlation_44 = torch.corrcoef(dropped_N4.T)
    assert (correlation_44 - torch.eye(4)).abs().max() < 5 / rows**0.5
    one_row_on = torch.corrcoef(torch.stack([dropped_N4[:-1].flatten(), dropped_N4[1:].flatten()]))
    assert one_row_on[0, 1].abs() < 5 / (4 * rows) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (1,), (5, 3), (2, 7, 9), (0, 4)])
def test_the_kept_are_scaled_and_so_are_their_gradients(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(1)
    x = torch.rand(shape, dtype=dtype).add(1).requires_grad_()
    found = dropout(x, 0.25, True)
    assert found.dtype == dtype
    assert found.shape == x.shape
    kept = (found != 0).to(dtype) * torch.tensor(1 / 0.75).to(dtype)
    torch.testing.assert_close(found, x * kept)
    found.sum().backward()
    torch.testing.assert_close(x.grad, kept)


@pytest.mark.parametrize("p", [0.1, 0.3, 1 - 1e-3])
def test_the_mean_stays(p: float) -> None:
    torch.manual_seed(1)
    elements = 4_000_000
    error = (p / (1 - p) / elements) ** 0.5
    assert float(dropout(torch.ones(elements), p, True).mean()) == pytest.approx(1, abs=5 * error)


def test_any_order_of_memory_is_dropped_alike() -> None:
    x = torch.rand(4, 5, 6).add(1)
    torch.manual_seed(1)
    plain = dropout(x, 0.5, True)
    torch.manual_seed(1)
    assert torch.equal(dropout(x.transpose(0, 2).contiguous().transpose(0, 2), 0.5, True), plain)
    assert dropout(torch.ones(1, 3).expand(1000, 3), 0.5, True).mean(0).var() > 0


def test_a_seed_makes_the_same_choice_again_and_the_next_call_another() -> None:
    def drawn() -> list[torch.Tensor]:
        torch.manual_seed(7)
        return [dropout(torch.ones(50, 3), 0.5, True) for _ in range(2)]

    (first, second), again = drawn(), drawn()
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert not torch.equal(first, second)


def test_dropout_is_inactive_in_eval_and_at_0_and_strong_near_1() -> None:
    x, layer = torch.randn(1000), Dropout(0.5)
    assert torch.equal(layer.eval()(x), x)
    assert not torch.equal(layer.train()(x), x)
    assert torch.equal(dropout(x, 0.0, True), x)
    assert int((dropout(x, 1 - 1e-9, True) != 0).sum()) < 10
