"""Scoring functions of attention, and the masked softmax over their scores (d2l sections 11.2 to
11.4).

`project_keys` computes the part of the scores that depends on the keys alone; `forward` scores
queries against its result.

Shapes: B batch, Q queries, S keys, C width of a key, H width."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

Score = Literal["additive", "dot", "scaled_dot", "general", "gaussian"]


class Additive(nn.Module):
    """Additive attention: w . tanh(W_q q + W_k k) (Bahdanau et al. 2015, appendix A.1.2; d2l
    equation 11.3.7)."""

    def __init__(self, query: int, key: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query, width, bias=False)
        self.key = nn.Linear(key, width, bias=False)
        self.weight = nn.Linear(width, 1, bias=False)

    def project_keys(self, key_BSC: Tensor) -> Tensor:
        """Project the keys, BSC to BSH: once per source, not once per step."""
        projected: Tensor = self.key(key_BSC)
        return projected

    def forward(self, query_BQH: Tensor, keys_BSH: Tensor) -> Tensor:
        # Every query is added to every key.
        features_BQSH = torch.tanh(self.query(query_BQH)[:, :, None, :] + keys_BSH[:, None, :, :])
        scores_BQS: Tensor = self.weight(features_BQSH).squeeze(-1)
        return scores_BQS


class Dot(nn.Module):
    """Dot product q . k without parameters; queries and keys have the same width (Luong et al.
    2015, equation 8)."""

    def project_keys(self, key_BSC: Tensor) -> Tensor:
        """See `Additive.project_keys`."""
        return key_BSC

    def forward(self, query_BQH: Tensor, keys_BSH: Tensor) -> Tensor:
        return query_BQH @ keys_BSH.transpose(1, 2)


class ScaledDot(nn.Module):
    """Scaled dot product (W_q q) . (W_k k) / sqrt(H) (Vaswani et al. 2017, equation 1; d2l equation
    11.3.6)."""

    def __init__(self, query: int, key: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query, width, bias=False)
        self.key = nn.Linear(key, width, bias=False)
        self.scale = 1.0 / math.sqrt(width)

    def project_keys(self, key_BSC: Tensor) -> Tensor:
        """See `Additive.project_keys`."""
        projected: Tensor = self.key(key_BSC)
        return projected

    def forward(self, query_BQH: Tensor, keys_BSH: Tensor) -> Tensor:
        projected_BQH: Tensor = self.query(query_BQH)
        # Without the scale, long vectors would have large scores and a saturated softmax.
        return projected_BQH @ keys_BSH.transpose(1, 2) * self.scale


class General(nn.Module):
    """Bilinear form q . W k (Luong et al. 2015, equation 8, "general")."""

    def __init__(self, query: int, key: int) -> None:
        super().__init__()
        self.key = nn.Linear(key, query, bias=False)

    def project_keys(self, key_BSC: Tensor) -> Tensor:
        """See `Additive.project_keys`."""
        projected: Tensor = self.key(key_BSC)
        return projected

    def forward(self, query_BQH: Tensor, keys_BSH: Tensor) -> Tensor:
        return query_BQH @ keys_BSH.transpose(1, 2)


class Gaussian(nn.Module):
    """Gaussian kernel's exponent -|W_q q - W_k k|^2 / 2 (d2l equation 11.3.1).

    Its softmax gives the weights of Nadaraya-Watson regression (d2l section 11.2)."""

    def __init__(self, query: int, key: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query, width, bias=False)
        self.key = nn.Linear(key, width, bias=False)

    def project_keys(self, key_BSC: Tensor) -> Tensor:
        """See `Additive.project_keys`."""
        projected: Tensor = self.key(key_BSC)
        return projected

    def forward(self, query_BQH: Tensor, keys_BSH: Tensor) -> Tensor:
        projected_BQH: Tensor = self.query(query_BQH)
        # -|q - k|^2 / 2 = q . k - (|q|^2 + |k|^2) / 2, without a tensor BQSH of differences.
        query_squares_BQ = projected_BQH.square().sum(-1)
        key_squares_BS = keys_BSH.square().sum(-1)
        squares_BQS = query_squares_BQ[:, :, None] + key_squares_BS[:, None, :]
        return projected_BQH @ keys_BSH.transpose(1, 2) - squares_BQS / 2


Scoring = Additive | Dot | ScaledDot | General | Gaussian


def scoring(name: Score, query: int, key: int, width: int) -> Scoring:
    """Scoring function called `name`, for queries and keys of these widths; `width` is the one they
    are projected to."""
    # These two project one side at most, so they need no common width.
    if name == "dot":
        assert query == key
        return Dot()
    if name == "general":
        return General(query, key)
    classes: dict[Score, type[Additive] | type[ScaledDot] | type[Gaussian]]
    classes = {"additive": Additive, "scaled_dot": ScaledDot, "gaussian": Gaussian}
    return classes[name](query, key, width)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis, with weight 0 where `mask` (broadcast) is False (d2l section
    11.3.2). A row that is masked completely gets only zeros."""
    # Not -inf: softmax of a row of -inf is NaN.
    weights = torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=-1)
    return weights.masked_fill(~mask, 0.0)
