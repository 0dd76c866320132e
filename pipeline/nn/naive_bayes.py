"""Weights of naive Bayes on n-grams (McCallum and Nigam 1998; Manning, Raghavan and Schütze 2008,
section 13.2).

Shapes: C classes, F distinct n-grams, P occurrences of n-grams, N texts."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one, refuse
from pipeline.nn.ngram_linear import NgramLinear
from pipeline.text.token_budget import Ragged


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    - `ngrams`: words of the longest n-gram; all from one word on are counted.
    - `counts`: `all` occurrences of an n-gram in a text, or each n-gram of a text `once`.
    - `alpha`: added to the count of each n-gram in each class (additive smoothing).
    - `calibrate`: fit the temperature of the probabilities on the validation texts. Naive Bayes
      takes the n-grams of a text for independent, and is far too sure of its labels otherwise.
    """

    ngrams: int
    counts: Literal["all", "once"]
    alpha: float
    calibrate: bool

    def __post_init__(self) -> None:
        at_least_one(ngrams=self.ngrams)
        if self.alpha <= 0:
            raise refuse("alpha", self.alpha, "above 0, such as 1.0")

    def linear(self, sizes: Sizes) -> NgramLinear:
        """A classifier without weights."""
        return NgramLinear(self.ngrams, self.counts == "once", sizes.source, sizes.target)


def fit(linear: NgramLinear, texts: Ragged, label_N: NDArray[np.int64], alpha: float) -> None:
    """Set the weights by counting the n-grams of each label's texts, with `alpha` added to each
    count."""
    occurrences = linear.number(texts, label_N)
    features = len(linear.index)
    classes = len(linear.bias_C)

    # log P(n-gram | label) = log (count + alpha) / (total + alpha F), equation 13.7
    cell_P = occurrences.feature_P * classes + label_N[occurrences.row_P]
    count_FC = np.bincount(cell_P, minlength=features * classes).reshape(features, classes)
    smoothed_FC = count_FC + alpha
    weight_FC = np.log(smoothed_FC) - np.log(smoothed_FC.sum(0))
    # log P(label), equation 13.5
    bias_C = np.log(np.bincount(label_N, minlength=classes) / len(label_N))
    linear.set_weights(weight_FC, bias_C)
