"""Scoring functions of attention, and the masked softmax over their scores.

Shapes: B batch, Q queries, S keys, C width of a key, H width. Book: d2l sections 11.2 to 11.4.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

Score = Literal["additive", "dot", "scaled_dot", "general", "gaussian"]


class Additive(nn.Module):
    """w . tanh(W_q q + W_k k) (Bahdanau et al. 2015, appendix A.1.2; d2l equation 11.3.7)."""

    def __init__(self, query: int, key: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query, width, bias=False)
        self.key = nn.Linear(key, width, bias=False)
        self.weight = nn.Linear(width, 1, bias=False)

    def project_keys(self, key_BSC: Tensor) -> Tensor:
        """The part of the scores that depends on the keys alone: computed once per source."""
        projected: Tensor = self.key(key_BSC)
        return projected

    def forward(self, query_BQH: Tensor, keys_BSH: Tensor) -> Tensor:
        features = torch.tanh(self.query(query_BQH)[:, :, None, :] + keys_BSH[:, None, :, :])
        scores_BQS: Tensor = self.weight(features).squeeze(-1)
        return scores_BQS


class Dot(nn.Module):
    """q . k as they are, so both must be of one width (Luong et al. 2015, equation 8)."""

    def project_keys(self, key_BSC: Tensor) -> Tensor:
        """As `Additive.project_keys`."""
        return key_BSC

    def forward(self, query_BQH: Tensor, keys_BSH: Tensor) -> Tensor:
        return query_BQH @ keys_BSH.transpose(1, 2)


class ScaledDot(nn.Module):
    """q . k / sqrt(H) (Vaswani et al. 2017, equation 1; d2l equation 11.3.6), both projected to one
    width."""

    def __init__(self, query: int, key: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query, width, bias=False)
        self.key = nn.Linear(key, width, bias=False)
        self.scale = 1.0 / math.sqrt(width)

    def project_keys(self, key_BSC: Tensor) -> Tensor:
        """As `Additive.project_keys`."""
        projected: Tensor = self.key(key_BSC)
        return projected

    def forward(self, query_BQH: Tensor, keys_BSH: Tensor) -> Tensor:
        projected_BQH: Tensor = self.query(query_BQH)
        return projected_BQH @ keys_BSH.transpose(1, 2) * self.scale


class General(nn.Module):
    """q . W k with a learned W (Luong et al. 2015, equation 8)."""

    def __init__(self, query: int, key: int) -> None:
        super().__init__()
        self.key = nn.Linear(key, query, bias=False)

    def project_keys(self, key_BSC: Tensor) -> Tensor:
        """As `Additive.project_keys`."""
        projected: Tensor = self.key(key_BSC)
        return projected

    def forward(self, query_BQH: Tensor, keys_BSH: Tensor) -> Tensor:
        return query_BQH @ keys_BSH.transpose(1, 2)


class Gaussian(nn.Module):
    """-|W_q q - W_k k|^2 / 2: softmax of it is Nadaraya-Watson regression with a Gaussian kernel
    (d2l equation 11.3.1)."""

    def __init__(self, query: int, key: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query, width, bias=False)
        self.key = nn.Linear(key, width, bias=False)

    def project_keys(self, key_BSC: Tensor) -> Tensor:
        """As `Additive.project_keys`."""
        projected: Tensor = self.key(key_BSC)
        return projected

    def forward(self, query_BQH: Tensor, keys_BSH: Tensor) -> Tensor:
        near_BQH: Tensor = self.query(query_BQH)
        squares_BQS = near_BQH.square().sum(-1)[:, :, None] + keys_BSH.square().sum(-1)[:, None, :]
        return near_BQH @ keys_BSH.transpose(1, 2) - squares_BQS / 2


Scoring = Additive | Dot | ScaledDot | General | Gaussian


def scoring(name: Score, query: int, key: int, width: int) -> Scoring:
    """The scoring function called `name` for queries and keys of these widths."""
    if name == "dot":
        assert query == key
        return Dot()
    if name == "general":
        return General(query, key)
    kinds: dict[Score, type[Additive] | type[ScaledDot] | type[Gaussian]]
    kinds = {"additive": Additive, "scaled_dot": ScaledDot, "gaussian": Gaussian}
    return kinds[name](query, key, width)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis with no weight where `mask` (broadcast) is False (d2l section
    11.3.2).

    A row in which nothing may be looked at gets weights of zero.
    """
    weights = torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=-1)
    return weights.masked_fill(~mask, 0.0)
