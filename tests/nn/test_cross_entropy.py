"""The loss by blocks of rows against torch's, in value and gradient."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from pipeline.nn import cross_entropy


@pytest.fixture(autouse=True)
def every_vocabulary_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small vocabularies would take torch's own loss."""
    monkeypatch.setattr(cross_entropy, "SMALL", 0)


def loss_and_gradient(
    logits_NV: Tensor, label_N: Tensor, smoothing: float, *, ours: bool
) -> tuple[Tensor, Tensor]:
    """Of a third of the loss, so that what comes from above is not 1; the logits are not the leaf,
    as in a model."""
    leaf_NV = logits_NV.clone().requires_grad_()
    if ours:
        loss = cross_entropy.summed_cross_entropy(leaf_NV * 1, label_N, smoothing)
    else:
        loss = F.cross_entropy(leaf_NV * 1, label_N, reduction="sum", label_smoothing=smoothing)
    (gradient_NV,) = torch.autograd.grad(loss / 3, leaf_NV)
    return loss.detach(), gradient_NV


@settings(deadline=None)
@given(
    positions=st.integers(0, 40),
    words=st.integers(1, 50),
    smoothing=st.sampled_from([0.0, 0.1, 0.7]),
    spread=st.sampled_from([0.0, 1.0, 300.0]),
    block=st.integers(1, 400),
    seed=st.integers(0, 2**32),
)
def test_it_is_torchs_in_value_and_gradient_however_the_blocks_fall(
    positions: int, words: int, smoothing: float, spread: float, block: int, seed: int
) -> None:
    drawn = torch.Generator().manual_seed(seed)
    logits_NV = spread * torch.randn(positions, words, generator=drawn, dtype=torch.float64)
    label_N = torch.randint(words, (positions,), generator=drawn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "BLOCK", block)
        found = loss_and_gradient(logits_NV, label_N, smoothing, ours=True)
    wanted = loss_and_gradient(logits_NV, label_N, smoothing, ours=False)
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)


def test_small_vocabularies_take_torchs_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "SMALL", 11)
    leaf_NV = torch.randn(4, 10, requires_grad=True)
    logits_NV = leaf_NV * 1
    before_NV = logits_NV.detach().clone()
    cross_entropy.summed_cross_entropy(logits_NV, torch.arange(4)).backward()
    assert torch.equal(logits_NV, before_NV)


def test_impossible_word_has_finite_loss_from_its_logit() -> None:
    """Its probability is 0 in float32, of which the logarithm would be infinite."""
    logits_NV, label_N = torch.tensor([[0.0, -1000.0, 1000.0]]), torch.tensor([1])
    loss, gradient_NV = loss_and_gradient(logits_NV, label_N, 0.0, ours=True)
    assert loss == 2000
    torch.testing.assert_close(3 * gradient_NV, torch.tensor([[0.0, -1.0, 1.0]]))


def test_equal_logits_cost_the_logarithm_of_the_vocabulary() -> None:
    loss, _ = loss_and_gradient(torch.zeros(7, 1000), torch.arange(7), 0.1, ours=True)
    assert float(loss) == pytest.approx(7 * math.log(1000))


def test_logits_in_bfloat16_are_summed_in_float32() -> None:
    torch.manual_seed(1)
    logits_NV, label_N = (3 * torch.randn(300, 2000)).bfloat16(), torch.randint(2000, (300,))
    found, gradient_NV = loss_and_gradient(logits_NV, label_N, 0.1, ours=True)
    wanted, wanted_NV = loss_and_gradient(logits_NV.float(), label_N, 0.1, ours=False)
    assert gradient_NV.dtype == torch.bfloat16
    assert float(found) == pytest.approx(float(wanted), rel=1e-6)
    torch.testing.assert_close(gradient_NV.float(), wanted_NV, atol=1e-7, rtol=2**-7)


def twice(logits_NV: Tensor, label_N: Tensor) -> Tensor:
    """The loss of logits that another loss has overwritten."""
    return cross_entropy.summed_cross_entropy(
        logits_NV, label_N
    ) + cross_entropy.summed_cross_entropy(logits_NV, label_N)


def changed(logits_NV: Tensor, label_N: Tensor) -> Tensor:
    """A loss whose gradient something else has overwritten."""
    loss = cross_entropy.summed_cross_entropy(logits_NV, label_N)
    logits_NV.detach().zero_()
    return loss


def gone(logits_NV: Tensor, label_N: Tensor) -> Tensor:
    """A loss whose gradient has been used."""
    loss = cross_entropy.summed_cross_entropy(logits_NV, label_N)
    loss.backward(retain_graph=True)
    return loss


def needed(logits_NV: Tensor, label_N: Tensor) -> Tensor:
    """The loss of logits by which their own gradient is computed."""
    return cross_entropy.summed_cross_entropy(logits_NV.exp(), label_N)


@pytest.mark.parametrize("made", [twice, changed, gone, needed])
def test_backward_through_overwritten_logits_is_an_error(
    made: Callable[[Tensor, Tensor], Tensor],
) -> None:
    leaf_NV = torch.randn(3, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        made(leaf_NV * 1, torch.tensor([0, 1, 2])).backward()


def test_logits_are_unchanged_without_gradient() -> None:
    logits_NV, label_N = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 1, 2])
    before_NV = logits_NV.detach().clone()
    with torch.no_grad():
        logits = logits_NV * 1
        loss = cross_entropy.summed_cross_entropy(logits, label_N)
    assert torch.equal(logits, before_NV)
    torch.testing.assert_close(loss, F.cross_entropy(before_NV, label_N, reduction="sum"))


def test_another_device_has_torchs_own() -> None:
    """`meta`, which computes nothing, stands for those that are not here."""
    loss = cross_entropy.summed_cross_entropy(
        torch.empty(3, 4, device="meta").bfloat16(), torch.empty(3, device="meta").long()
    )
    assert (loss.device.type, loss.dtype, loss.shape) == ("meta", torch.float32, ())


def test_logits_may_be_a_view_of_others_in_any_order() -> None:
    torch.manual_seed(1)
    leaf_TBV, label_N = torch.randn(5, 3, 7, requires_grad=True), torch.randint(7, (15,))
    found = torch.autograd.grad(
        cross_entropy.summed_cross_entropy((leaf_TBV * 1).transpose(0, 2).flatten(1).T, label_N),
        leaf_TBV,
    )
    wanted = torch.autograd.grad(
        F.cross_entropy(leaf_TBV.transpose(0, 2).flatten(1).T, label_N, reduction="sum"), leaf_TBV
    )
    torch.testing.assert_close(found, wanted)
