"""Multinomial naive Bayes on n-grams (McCallum and Nigam 1998; Manning, Raghavan and Schütze 2008,
section 13.2), with counts or, as Wang and Manning 2012 recommend, each n-gram once per text.

It is fitted by counting, without gradients.

Shapes: B batch, C classes, N texts.
"""

import pyarrow as pa
from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.nn import naive_bayes
from pipeline.nn.labelled import label_numbers
from pipeline.text.token_budget import Ragged

Config = naive_bayes.Config


class Model(nn.Module):
    """P(label | n-grams of the text)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.linear = config.linear(sizes)

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Count the n-grams of each label's texts; `seed` is not used."""
        texts = Ragged(train["ids"])
        naive_bayes.fit(self.linear, texts, label_numbers(train), self.config.alpha)
        return self.linear.finish(Ragged(valid["ids"]), label_numbers(valid), self.config.calibrate)

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC."""
        return self.linear.classify(text)
