"""Continuous cache of a language model (Grave, Joulin and Usunier 2016, "Improving Neural Language
Models with a Continuous Cache"): recent hidden vectors, each with the token that followed it.

p_cache(w | h) is proportional to the sum of exp(theta h . h_i) over the entries i whose token is w.

Shapes: Q hidden vectors, one after the other in a stream, K entries before them and of them, H
hidden, A values of theta, B batch, W entries of a decoding state, V vocabulary."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.contracts import PAD


class StreamCache:
    """The entries before each position of a stream that is read in windows, in order."""

    def __init__(self, size: int, hidden_H: Tensor) -> None:
        """`size`: entries before a position, at most. `hidden_H`: like the hidden vectors."""
        self.size = size
        self.key_KH = hidden_H.new_zeros(0, len(hidden_H))
        self.token_K = torch.zeros(0, dtype=torch.long, device=hidden_H.device)

    def add(self, hidden_QH: Tensor, next_Q: Tensor, thetas: Sequence[float]) -> Tensor:
        """p_cache_AQ (float64) of the tokens `next_Q` that follow the hidden vectors, for each
        theta; then add both as entries.

        0 for all tokens after the first hidden vector of the stream, before which the cache is
        empty."""
        past = len(self.token_K)
        key_KH = torch.cat([self.key_KH, hidden_QH])
        token_K = torch.cat([self.token_K, next_Q])

        # A position sees the `size` entries before it. Its own entry has the token to predict.
        place_Q1 = past + torch.arange(len(next_Q), device=next_Q.device)[:, None]
        place_K = torch.arange(len(token_K), device=next_Q.device)
        is_seen_QK = (place_K < place_Q1) & (place_K >= place_Q1 - self.size)
        score_QK = (hidden_QH @ key_KH.T).float().masked_fill(~is_seen_QK, -torch.inf)
        score_QK -= score_QK.amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).min)
        is_next_QK = token_K == next_Q[:, None]

        probabilities = []
        for theta in thetas:
            weight_QK = (theta * score_QK).exp_()
            total_Q = weight_QK.sum(1).double()
            next_weight_Q = weight_QK.mul_(is_next_QK).sum(1).double()
            # Only an empty cache has a total of 0: the largest weight of others is 1.
            probabilities.append(next_weight_Q / total_Q.clamp(min=1.0))

        self.key_KH = key_KH[-self.size :]
        self.token_K = token_K[-self.size :]
        return torch.stack(probabilities)


def distribution(
    hidden_BH: Tensor, key_BWH: Tensor, token_BW: Tensor, theta: float, vocabulary: int
) -> Tensor:
    """p_cache_BV (float32) of all tokens, from the entries of each row; an entry of PAD does not
    count. A row without entries has 0 for all tokens."""
    score_BW = theta * (key_BWH @ hidden_BH[:, :, None]).squeeze(2).float()
    is_empty_BW = token_BW == PAD
    share_BW = score_BW.masked_fill(is_empty_BW, -torch.inf).softmax(1)
    share_BW = share_BW.masked_fill(is_empty_BW, 0.0)
    zeros_BV = torch.zeros(len(hidden_BH), vocabulary, device=hidden_BH.device)
    return zeros_BV.scatter_add_(1, token_BW, share_BW)
