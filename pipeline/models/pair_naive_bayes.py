"""Naive Bayes on the n-grams of a pair of texts, those of each text counted by themselves, or on
those of the hypothesis alone (Manning, Raghavan and Schütze 2008, section 13.2).

It is fitted by counting, without gradients. With `texts: hypothesis` it measures how much the
hypothesis alone gives away (Gururangan et al. 2018).

Shapes: B batch, C classes, N pairs.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.nn import naive_bayes
from pipeline.nn.labelled import label_numbers
from pipeline.nn.ngram_linear import NgramLinear, fitted_scale, metrics
from pipeline.text.token_budget import Ragged

_SIDES = {"both": ("premise", "hypothesis"), "hypothesis": ("hypothesis",)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(naive_bayes.Config):
    """`model:` of a run, as that of `naive_bayes`. `texts`: `both`, or the `hypothesis` alone."""

    texts: Literal["both", "hypothesis"]


class Model(nn.Module):
    """P(label | n-grams of the texts)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.ModuleDict({side: config.linear(sizes) for side in _SIDES[config.texts]})

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Count the n-grams of each label's texts; `seed` is not used."""
        label_N = label_numbers(train)
        for side, linear in self._linear().items():
            naive_bayes.fit(linear, Ragged(train[side]), label_N, self.config.alpha)
            # log P(label) counts once.
            if side == "premise":
                linear.bias_C = torch.zeros_like(linear.bias_C)

        valid_label_N = label_numbers(valid)
        logits_NC = np.sum(
            [linear.logits(Ragged(valid[side])) for side, linear in self._linear().items()], 0
        )
        if self.config.calibrate:
            scale = fitted_scale(logits_NC, valid_label_N)
            for linear in self._linear().values():
                linear.scale = torch.full_like(linear.scale, scale)
            logits_NC = logits_NC * scale
        return metrics(logits_NC, valid_label_N)

    def classify_pair(self, premise: Prompt, hypothesis: Prompt) -> Tensor:
        """logits_BC."""
        texts = {"premise": premise, "hypothesis": hypothesis}
        logits_BC = [linear.classify(texts[side]) for side, linear in self._linear().items()]
        return torch.stack(logits_BC).sum(0)

    def _linear(self) -> dict[str, NgramLinear]:
        return dict(self.linear.items())  # type: ignore[arg-type]
