"""A count model that guesses masked words, the baseline of masked language models: every masked
word given the words next to it (`nn/neighbours.py`). It is fitted by counting, without gradients,
and does not say which sentence follows another.

Shapes: B batch, S positions, N masked positions, V vocabulary."""

from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import BOS, EOS, MASK, Prompt, Sizes
from pipeline.nn import neighbours
from pipeline.text.token_budget import Ragged


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run: there is nothing to choose, so it is `{}`."""


class Model(nn.Module):
    """p(word | the word before it, the word after it, and what is shown in its place)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.counts = neighbours.NeighbourCounts(sizes.target)

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Count the words of the rows; `seed` is not used. The task computes the scores, which
        depend on its masks."""
        self.counts.fit(*neighbours.of_rows(Ragged(train["ids"])))
        return {}

    def read(self, text: Prompt, segment_BS: Tensor) -> Tensor:
        """The neighbours of each position and its own id: hidden_BSH, H = 3."""
        ids_BS = text.ids_BS
        left_BS = F.pad(ids_BS[:, :-1], (1, 0), value=BOS)
        # A second sentence begins after an EOS, and was counted after BOS.
        left_BS = left_BS.where(left_BS != EOS, BOS)
        right_BS = F.pad(ids_BS[:, 1:], (0, 1), value=EOS)
        return torch.stack([left_BS, right_BS, ids_BS], -1)

    def project(self, hidden_NH: Tensor) -> Tensor:
        left_N, right_N, shown_N = hidden_NH.unbind(-1)
        log_prob_NV = self.counts.log_probs(left_N, right_N)

        # A chosen word is shown as often as a random one in its place (Devlin et al. 2019, 3.1).
        vocabulary = log_prob_NV.shape[1]
        row_M = (shown_N != MASK).nonzero()[:, 0]
        shown_MV = F.one_hot(shown_N[row_M], vocabulary).double() + 1 / vocabulary
        log_prob_NV[row_M] += shown_MV.log()
        return log_prob_NV.log_softmax(-1).float()

    def follows(self, hidden_BSH: Tensor) -> Tensor:
        """Equal logits_B2: half of the second sentences follow."""
        return torch.zeros(len(hidden_BSH), 2, device=hidden_BSH.device)
