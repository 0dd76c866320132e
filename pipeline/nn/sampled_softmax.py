"""Cross-entropy over a large vocabulary, estimated by its frequent words and a random sample of the
rare ones (importance sampling: Bengio and Senecal 2003; Jean et al. 2015).

Shapes: N positions, V vocabulary, H hidden, W words of the sample."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.nn.cross_entropy import summed_cross_entropy


def sampled_cross_entropy(
    output: nn.Linear, hidden_NH: Tensor, label_N: Tensor, words: int
) -> Tensor:
    """Estimate the sum of -log softmax at the labels, in nats, from some of the vocabulary.

    The ids are in the order of frequency. By Zipf's law, id `i` takes part with the probability
    `words` / i, the first ones always, as decided by torch's generator. It stands for the inverse
    number of words. That makes `words` (1 + log(V / words)) words on average. A position's label
    has its own logit in any case. The sum of exponentials is estimated without bias, and its
    logarithm a little too low; with `words` of at least V the loss is exact."""
    vocabulary = output.out_features
    device = hidden_NH.device
    chance_V = (words / torch.arange(vocabulary, device=device)).clamp(max=1.0)
    (word_W,) = (torch.rand(vocabulary, device=device) < chance_V).nonzero(as_tuple=True)
    size = len(word_W)

    # One look-up for the words and the labels: each has a gradient of the whole table's size.
    ids = torch.cat([word_W, label_N])
    weights = F.embedding(ids, output.weight)
    biases = output.bias[ids]
    logits_NW = F.linear(hidden_NH, weights[:size], biases[:size] - chance_V[word_W].log())

    # The label's logit replaces that of the same word, or fills one more column.
    column_V = torch.full((vocabulary,), size, device=device)
    column_V[word_W] = torch.arange(size, device=device)
    column_N = column_V[label_N]
    label_N1 = (hidden_NH * weights[size:]).sum(1, keepdim=True) + biases[size:, None]
    logits_NW = F.pad(logits_NW, (0, 1), value=-math.inf)
    logits_NW = logits_NW.scatter(1, column_N[:, None], label_N1.to(logits_NW.dtype))
    return summed_cross_entropy(logits_NW, column_N)
