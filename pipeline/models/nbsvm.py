"""NBSVM (Wang and Manning 2012): a linear classifier whose features are the n-grams of a text,
weighted by their log-count ratios under naive Bayes.

It is fitted by scikit-learn, without gradients of this program.

Shapes: B batch, C classes, F distinct n-grams, P occurrences of n-grams, N texts.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.core.errors import at_least_one, refuse
from pipeline.nn.ngram_index import Occurrences
from pipeline.nn.ngram_linear import NgramLinear
from pipeline.text.token_budget import Ragged

_ITERATIONS = 10_000  # at most


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    - `ngrams`: words of the longest n-gram; all from one word on are features.
    - `counts`: `once`, as in the paper, makes a feature 1 in each text that has the n-gram; `all`
      makes it the number of occurrences.
    - `alpha`: added to each n-gram's count in each class, for the ratio r of equation 2.
    - `classifier`: `svm` (squared hinge loss, section 2.2) or `logistic` regression.
    - `C`: weight of the loss against the norm of the weights (equation 3).
    - `beta`: share of the classifier's own weights in their interpolation with their mean magnitude
      (equation 4): 1 is the classifier, 0 nearly naive Bayes. The paper uses 0.25.
    - `calibrate`: fit the temperature of the probabilities on the validation texts.
    - `refit`: fit again to the training and validation texts, with that temperature, as in papers
      whose settings need no validation texts. Validation metrics are those of the first fit.
    """

    ngrams: int
    counts: Literal["all", "once"]
    alpha: float
    classifier: Literal["svm", "logistic"]
    C: float
    beta: float
    calibrate: bool
    refit: bool

    def __post_init__(self) -> None:
        at_least_one(ngrams=self.ngrams)
        if self.alpha <= 0:
            raise refuse("alpha", self.alpha, "above 0, such as 1.0")
        if self.C <= 0:
            raise refuse("C", self.C, "above 0, such as 1.0")
        if not 0 <= self.beta <= 1:
            raise refuse("beta", self.beta, "a share from 0 to 1, such as 0.25")


class Model(nn.Module):
    """P(label | n-grams of the text); with more than two labels, one classifier for each against
    all others."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config

        def linear() -> NgramLinear:
            return NgramLinear(config.ngrams, config.counts == "once", sizes.source, sizes.target)

        self.linear = linear()
        self.unrefitted = linear() if config.refit else None

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Weight the n-grams of the training texts by their ratios, and fit the classifiers; `seed`
        is not used."""
        first = self.before_refit()
        self._fit_linear(first, train)
        valid_label_N = valid["label"].to_numpy().astype(np.int64)
        metrics = first.finish(Ragged(valid["ids"]), valid_label_N, self.config.calibrate)

        if self.config.refit:
            self._fit_linear(self.linear, pa.concat_tables([train, valid]))
            self.linear.scale = first.scale.clone()
        return metrics

    def before_refit(self) -> NgramLinear:
        """The classifier of the training texts alone."""
        return self.linear if self.unrefitted is None else self.unrefitted

    def _fit_linear(self, linear: NgramLinear, table: pa.Table) -> None:
        label_N = table["label"].to_numpy().astype(np.int64)
        occurrences = linear.number(Ragged(table["ids"]), label_N)
        features = len(linear.index)
        classes = len(linear.bias_C)

        weight_FC = np.zeros((features, classes))
        bias_C = np.zeros(classes)
        # Two labels need one classifier: the other's scores are the negative ones.
        for label in range(classes) if classes > 2 else [1]:
            weight_F, bias = fit_binary(occurrences, features, label_N == label, self.config)
            weight_FC[:, label] = weight_F
            bias_C[label] = bias
        linear.set_weights(weight_FC, bias_C)

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC."""
        return self.linear.classify(text)


def fit_binary(
    occurrences: Occurrences,
    features: int,
    is_positive_N: NDArray[np.bool_],
    config: Config,
) -> tuple[NDArray[np.float64], float]:
    """weight_F and bias of one label's score against all others."""
    ratio_F = log_count_ratio(occurrences, is_positive_N, features, config.alpha)
    matrix = _sparse_matrix(occurrences, ratio_F, len(is_positive_N))
    classifier = _classifier(config).fit(matrix, is_positive_N)
    own_F = classifier.coef_[0]

    # w' = (1 - beta) mean |w| + beta w (equation 4)
    weight_F = (1 - config.beta) * np.abs(own_F).mean() + config.beta * own_F
    return weight_F * ratio_F, float(classifier.intercept_[0])


def log_count_ratio(
    occurrences: Occurrences, is_positive_N: NDArray[np.bool_], features: int, alpha: float
) -> NDArray[np.float64]:
    """ratio_F = log (p / |p|) / (q / |q|), p being alpha plus the counts of the n-grams in the
    positive texts, q in all others (equation 2)."""
    is_positive_P = is_positive_N[occurrences.row_P]
    p_F = alpha + np.bincount(occurrences.feature_P[is_positive_P], minlength=features)
    q_F = alpha + np.bincount(occurrences.feature_P[~is_positive_P], minlength=features)
    ratio_F: NDArray[np.float64] = np.log(p_F / p_F.sum()) - np.log(q_F / q_F.sum())
    return ratio_F


def _sparse_matrix(occurrences: Occurrences, ratio_F: NDArray[np.float64], texts: int) -> Any:
    """The weighted features as a matrix NF in compressed rows; values of equal places are added."""
    # Takes half a second to import, and only this family needs it.
    from scipy import sparse

    row_P, feature_P = occurrences
    shape = (texts, len(ratio_F))
    return sparse.csr_matrix((ratio_F[feature_P], (row_P, feature_P)), shape)


def _classifier(config: Config) -> Any:
    """A linear classifier of liblinear (Fan et al. 2008), which regularizes the bias too."""
    # Takes a second to import, and only this family needs it.
    from sklearn import linear_model, svm

    if config.classifier == "svm":
        return svm.LinearSVC(C=config.C, dual=True, max_iter=_ITERATIONS, random_state=0)
    return linear_model.LogisticRegression(
        C=config.C, solver="liblinear", max_iter=_ITERATIONS, random_state=0
    )
