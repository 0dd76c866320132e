"""The cross-entropy estimated from a sample of the vocabulary, against the exact one."""

import torch
from torch import nn
from torch.nn import functional as F

from pipeline.nn.sampled_softmax import sampled_cross_entropy

WORDS = 300


def case() -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """An output layer, vectors of eight positions, and labels from first to last id."""
    torch.manual_seed(3)
    output = nn.Linear(12, WORDS)
    hidden_NH = torch.randn(8, 12) * 2
    return output, hidden_NH, torch.tensor([0, 3, 9, 10, 40, 150, 298, 299])


def test_a_sample_of_every_word_gives_the_exact_loss_and_gradient() -> None:
    output, hidden_NH, label_N = case()
    parameters = list(output.parameters())

    loss = sampled_cross_entropy(output, hidden_NH, label_N, WORDS)
    exact = F.cross_entropy(output(hidden_NH), label_N, reduction="sum")
    torch.testing.assert_close(loss, exact)
    torch.testing.assert_close(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(exact, parameters)
    )


def test_the_sum_of_exponentials_is_right_on_average() -> None:
    """The exponential of a position's loss is that sum over a constant: 1 / P(label)."""
    output, hidden_NH, label_N = case()
    with torch.inference_mode():
        exact_N = 1 / output(hidden_NH).softmax(-1).gather(1, label_N[:, None])[:, 0]
        for n in (0, 4, 7):
            one = slice(n, n + 1)
            draws_D = torch.stack(
                [
                    sampled_cross_entropy(output, hidden_NH[one], label_N[one], 10).exp()
                    for _ in range(1000)
                ]
            )
            error = draws_D.std() / len(draws_D) ** 0.5
            assert abs(draws_D.mean() - exact_N[n]) < 5 * error


def test_words_outside_the_sample_have_no_gradient() -> None:
    output, hidden_NH, label_N = case()
    sampled_cross_entropy(output, hidden_NH, label_N, 10).backward()
    assert output.weight.grad is not None
    has_gradient_V = output.weight.grad.any(1)
    assert has_gradient_V[:11].all()
    assert has_gradient_V[label_N].all()
    assert 11 < int(has_gradient_V.sum()) < WORDS // 2
    # The label's gradient raises its logit.
    assert output.bias.grad is not None
    assert (output.bias.grad[label_N[4:]] < 0).all()
