"""Cross-entropy over a large vocabulary, estimated by its frequent words and a random sample of the
rare ones (importance sampling: Bengio and Senecal 2003; Jean et al. 2015).

Shapes: N positions, V vocabulary, H hidden, W words of the estimate."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.nn.cross_entropy import summed_cross_entropy


def sampled_cross_entropy(
    output: nn.Linear, hidden_NH: Tensor, label_N: Tensor, words: int
) -> Tensor:
    """Estimate the sum of -log softmax at the labels, in nats, from `words` of the vocabulary.

    The first half of them are the first ids, the most frequent words. The others are drawn by
    torch's generator from the remaining ids, and each stands for several. A position's label has
    its own logit in any case. The sum of exponentials is estimated without bias, and its logarithm
    a little too low. With `words` of at least V the loss is exact."""
    vocabulary = output.out_features
    if words >= vocabulary:
        return summed_cross_entropy(output(hidden_NH), label_N)

    frequent = words // 2
    drawn = words - frequent
    rare = vocabulary - frequent
    device = hidden_NH.device
    drawn_W = frequent + torch.randperm(rare, device=device)[:drawn]
    word_W = torch.cat([torch.arange(frequent, device=device), drawn_W])

    # A drawn word's exponential counts as often as it is drawn too rarely.
    log_times_W = torch.zeros(words, device=device)
    log_times_W[frequent:] = math.log(rare / drawn)
    # One look-up for the words and the labels: each has a gradient of the whole table's size.
    weight_WH, weight_NH = F.embedding(torch.cat([word_W, label_N]), output.weight).split(
        [words, len(label_N)]
    )
    bias_W, bias_N = output.bias[word_W], output.bias[label_N]
    logits_NW = F.linear(hidden_NH, weight_WH, bias_W + log_times_W)

    # The label's logit replaces that of the same word, or fills one more column.
    column_V = torch.full((vocabulary,), words, device=device)
    column_V[word_W] = torch.arange(words, device=device)
    column_N = column_V[label_N]
    label_N1 = (hidden_NH * weight_NH).sum(1, True) + bias_N[:, None]
    logits_NW = F.pad(logits_NW, (0, 1), value=-math.inf)
    logits_NW = logits_NW.scatter(1, column_N[:, None], label_N1.to(logits_NW.dtype))
    return summed_cross_entropy(logits_NW, column_N)
