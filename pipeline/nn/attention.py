"""How well a query matches a key: the scoring functions, and the masked softmax over them.

Shapes: B batch, Q queries, S keys, H width. Book: d2l sections 11.3 and 11.4.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

Score = Literal["additive", "scaled_dot"]


class Additive(nn.Module):
    """w . tanh(W_q q + W_k k) (Bahdanau et al. 2015, appendix A.1.2; d2l equation 11.3.7)."""

    def __init__(self, query: int, key: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query, width, bias=False)
        self.key = nn.Linear(key, width, bias=False)
        self.weight = nn.Linear(width, 1, bias=False)

    def keys(self, key_BSH: Tensor) -> Tensor:
        """What of the scores depends on the keys alone: computed once per source."""
        projected: Tensor = self.key(key_BSH)
        return projected

    def forward(self, query_BQH: Tensor, keys_BSH: Tensor) -> Tensor:
        features = torch.tanh(self.query(query_BQH)[:, :, None, :] + keys_BSH[:, None, :, :])
        scores_BQS: Tensor = self.weight(features).squeeze(-1)
        return scores_BQS


class ScaledDot(nn.Module):
    """q . k / sqrt(H) (Vaswani et al. 2017, equation 1; d2l equation 11.3.6), both projected to one width."""

    def __init__(self, query: int, key: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query, width, bias=False)
        self.key = nn.Linear(key, width, bias=False)
        self.scale = 1.0 / math.sqrt(width)

    def keys(self, key_BSH: Tensor) -> Tensor:
        """What of the scores depends on the keys alone: computed once per source."""
        projected: Tensor = self.key(key_BSH)
        return projected

    def forward(self, query_BQH: Tensor, keys_BSH: Tensor) -> Tensor:
        query_BQK: Tensor = self.query(query_BQH)
        return query_BQK @ keys_BSH.transpose(1, 2) * self.scale


def scoring(name: Score, query: int, key: int, width: int) -> Additive | ScaledDot:
    """The scoring function called `name` for queries and keys of these widths."""
    kinds: dict[Score, type[Additive] | type[ScaledDot]] = {"additive": Additive, "scaled_dot": ScaledDot}
    return kinds[name](query, key, width)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis with no weight where `mask` (broadcast) is False (d2l section 11.3.2).

    A row in which nothing may be looked at gets weights of zero.
    """
    weights = torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=-1)
    return weights.masked_fill(~mask, 0.0)
