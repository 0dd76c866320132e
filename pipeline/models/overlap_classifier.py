"""Logistic regression on how much two texts overlap, without the words themselves: the overlap
features of Bowman et al. 2015, section 3.2.

It is fitted by scikit-learn, without gradients of this program.

Shapes: B batch, P positions of the premise, H of the hypothesis, F features, C classes, N pairs.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.contracts import BOS, EOS, PAD, Prompt, Sizes
from pipeline.core.errors import refuse
from pipeline.nn.labelled import label_numbers
from pipeline.nn.ngram_linear import metrics
from pipeline.text import labels
from pipeline.text.token_budget import Ragged

FEATURES = 8
_BATCH = 128  # pairs whose features are computed at a time
_ITERATIONS = 10_000  # at most


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `C`: weight of the loss against the norm of the weights."""

    C: float

    def __post_init__(self) -> None:
        if self.C <= 0:
            raise refuse("C", self.C, "above 0, such as 1.0")


class Model(nn.Module):
    """P(label | overlap of premise and hypothesis)."""

    weight_FC: Tensor
    bias_C: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("weight_FC", torch.zeros(FEATURES, sizes.target, dtype=torch.float64))
        self.register_buffer("bias_C", torch.zeros(sizes.target, dtype=torch.float64))

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Fit the regression to the training pairs; `seed` is not used."""
        # Takes a second to import, and only this family needs it.
        from sklearn.linear_model import LogisticRegression

        label_N = label_numbers(train)
        classes = len(self.bias_C)
        labels.rows_of_each(label_N, classes)
        feature_NF = self._features(train)
        mean_F = feature_NF.mean(0)
        deviation_F = np.maximum(feature_NF.std(0), 1e-9)
        regression = LogisticRegression(C=self.config.C, max_iter=_ITERATIONS)
        regression.fit((feature_NF - mean_F) / deviation_F, label_N)

        # Weights of the features as they are. Two labels have one row of weights: the difference.
        weight_CF = regression.coef_
        bias_C = regression.intercept_
        if classes == 2:
            weight_CF = np.concatenate([np.zeros_like(weight_CF), weight_CF])
            bias_C = np.concatenate([[0.0], bias_C])
        weight_CF = weight_CF / deviation_F
        self.weight_FC.copy_(torch.from_numpy(weight_CF.T))
        self.bias_C.copy_(torch.from_numpy(bias_C - weight_CF @ mean_F))

        valid_NF = torch.from_numpy(self._features(valid)).to(self.bias_C.device)
        logits_NC = (valid_NF @ self.weight_FC + self.bias_C).cpu().numpy()
        return metrics(logits_NC, label_numbers(valid))

    def classify_pair(self, premise: Prompt, hypothesis: Prompt) -> Tensor:
        """logits_BC, float64."""
        feature_BF = overlap(premise.ids_BS, hypothesis.ids_BS)
        logits_BC: Tensor = feature_BF @ self.weight_FC + self.bias_C
        return logits_BC

    def _features(self, table: pa.Table) -> NDArray[np.float64]:
        texts = [Ragged(table[side]) for side in ("premise", "hypothesis")]
        parts = []
        for start in range(0, len(table), _BATCH):
            rows = np.arange(start, min(start + _BATCH, len(table)))
            ids = [torch.from_numpy(text.padded(rows, before=None, after=EOS)) for text in texts]
            parts.append(overlap(*ids).numpy())
        return np.concatenate(parts)


def overlap(premise_BP: Tensor, hypothesis_BH: Tensor) -> Tensor:
    """feature_BF of pairs of texts, float64.

    - words of the hypothesis that the premise has, their share, and those that it lacks;
    - words of the premise that the hypothesis lacks, and their share;
    - the difference of the lengths;
    - the share of the hypothesis's pairs of neighbouring words that the premise has;
    - whether both texts begin with the same two words."""
    real_BP = _is_word(premise_BP)
    real_BH = _is_word(hypothesis_BH)
    same_BPH = premise_BP[:, :, None] == hypothesis_BH[:, None, :]
    same_BPH &= real_BP[:, :, None] & real_BH[:, None, :]
    # Neighbours: this word and the next one are the same.
    next_BPH = same_BPH[:, :-1, :-1] & same_BPH[:, 1:, 1:]

    words_p_B = real_BP.sum(1).double()
    words_h_B = real_BH.sum(1).double()
    shared_h_B = same_BPH.any(1).sum(1).double()
    shared_p_B = same_BPH.any(2).sum(1).double()
    bigrams_B = next_BPH.any(1).sum(1).double()
    begin_B = torch.zeros_like(words_p_B)
    if next_BPH.shape[1] and next_BPH.shape[2]:
        begin_B = next_BPH[:, 0, 0].double()
    return torch.stack(
        [
            shared_h_B,
            shared_h_B / words_h_B.clamp(min=1),
            words_h_B - shared_h_B,
            words_p_B - shared_p_B,
            (words_p_B - shared_p_B) / words_p_B.clamp(min=1),
            words_p_B - words_h_B,
            bigrams_B / (words_h_B - 1).clamp(min=1),
            begin_B,
        ],
        1,
    )


def _is_word(ids_BS: Tensor) -> Tensor:
    return (ids_BS != PAD) & (ids_BS != BOS) & (ids_BS != EOS)
