"""Multinomial naive Bayes on n-grams (McCallum and Nigam 1998; Manning, Raghavan and Schütze 2008,
section 13.2), with counts or, as Wang and Manning 2012 recommend, each n-gram once per text.

It is fitted by counting, without gradients.

Shapes: B batch, C classes, N texts.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.core.errors import at_least_one, refuse
from pipeline.nn import naive_bayes
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


class Model(nn.Module):
    """P(label | n-grams of the text)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.linear = NgramLinear(
            config.ngrams, config.counts == "once", sizes.source, sizes.target
        )

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Count the n-grams of each label's texts; `seed` is not used."""
        label_N = train["label"].to_numpy().astype(np.int64)
        naive_bayes.fit(self.linear, Ragged(train["ids"]), label_N, self.config.alpha)

        valid_label_N = valid["label"].to_numpy().astype(np.int64)
        return self.linear.finish(Ragged(valid["ids"]), valid_label_N, self.config.calibrate)

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC."""
        return self.linear.classify(text)
