"""BERT fine-tuned on pairs of texts (Devlin et al. 2019, section 4.1; d2l section 16.7): a linear
layer over the encoder's pooled <cls>.

A pair is read as BOS premise EOS hypothesis EOS; the hypothesis and its EOS are segment 1.

Shapes: B batch, S positions of the pair, C classes.
"""

import torch
from torch import Tensor

from pipeline.contracts import BOS, PAD, Prompt
from pipeline.nn import bert
from pipeline.nn.masks import real_BS

Config = bert.Config

# Every key of `model:` must equal that of the pre-trained run.
INIT_FROM = {"bert": None}
# For <cls>; padding beyond the longest pair is not read.
EXTRA_POSITIONS = 1


class Model(bert.FineTuned):
    """p(label | premise, hypothesis)."""

    def classify_pair(self, premise: Prompt, hypothesis: Prompt) -> Tensor:
        """logits_BC."""
        return self.logits(*joined(premise, hypothesis))


def joined(premise: Prompt, hypothesis: Prompt) -> tuple[Prompt, Tensor]:
    """Each pair as one text that begins with BOS, and segment_BS."""
    length_B = 1 + premise.length_B + hypothesis.length_B
    width = int(length_B.max())
    # Where a position reads from, in each text.
    from_premise_S = torch.arange(width, device=length_B.device) - 1
    from_hypothesis_BS = from_premise_S[None, :] - premise.length_B[:, None]
    segment_BS = (from_hypothesis_BS >= 0) & real_BS(length_B, width)

    first_BS = _gathered(premise.ids_BS, from_premise_S.expand(len(length_B), -1))
    second_BS = _gathered(hypothesis.ids_BS, from_hypothesis_BS)
    ids_BS = torch.where(segment_BS, second_BS, first_BS)
    ids_BS = ids_BS.masked_fill(~real_BS(length_B, width), PAD)
    ids_BS[:, 0] = BOS
    return Prompt(ids_BS, length_B), segment_BS.long()


def _gathered(ids_BS: Tensor, position_BS: Tensor) -> Tensor:
    """The ids at the positions; any id for those that are not in the text."""
    return ids_BS.gather(1, position_BS.clamp(0, ids_BS.shape[1] - 1))
