"""A count model that fills blanks, the baseline of blank fillers: every word given the words next
to it (`nn/neighbours.py`). It is fitted by counting, without gradients.

Shapes: B batch, T positions from BOS to EOS, W = T - 2 words, N positions, V vocabulary."""

from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.nn import neighbours
from pipeline.text.token_budget import Ragged

_BATCH = 1024  # words that are scored at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run: there is nothing to choose, so it is `{}`."""


class Model(nn.Module):
    """p(word | the word before it, the word after it)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.counts = neighbours.NeighbourCounts(sizes.target)

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Count the words of the rows; `seed` is not used. `loss`: nats per word."""
        self.counts.fit(*neighbours.of_rows(Ragged(train["ids"])))
        left_N, word_N, right_N = neighbours.of_rows(Ragged(valid["ids"]))
        nats = 0.0
        for part in torch.split(torch.arange(len(word_N)), _BATCH):
            log_prob_NV = self.counts.log_probs(left_N[part], right_N[part])
            nats -= float(log_prob_NV.gather(1, word_N[part, None]).sum())
        return {"loss": nats / max(len(word_N), 1)}

    def hidden(self, ids_BT: Tensor, length_B: Tensor) -> Tensor:
        """The two neighbours of each word: hidden_BWH, H = 2."""
        return torch.stack([ids_BT[:, :-2], ids_BT[:, 2:]], -1)

    def project(self, hidden_NH: Tensor) -> Tensor:
        return self.counts.log_probs(hidden_NH[:, 0], hidden_NH[:, 1]).float()
