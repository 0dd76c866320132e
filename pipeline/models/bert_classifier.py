"""BERT fine-tuned (Devlin et al. 2019, section 4.1; d2l section 16.6): a linear layer over the
encoder's pooled <cls>.

Shapes: B batch, S positions, C classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import BOS, Prompt
from pipeline.nn import bert

Config = bert.Config

# Every key of `model:` must equal that of the pre-trained run.
INIT_FROM = {"bert": None}
# For <cls>; padding beyond the longest text is not read.
EXTRA_POSITIONS = 1


class Model(bert.FineTuned):
    """p(label | text)."""

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC of texts that end with EOS; <cls> is prepended here."""
        # Cut padding beyond the longest text: it may have no learned position.
        longest = int(text.length_B.max())
        ids_BS = F.pad(text.ids_BS[:, :longest], (1, 0), value=BOS)

        # A single sentence: all positions are in segment 0.
        return self.logits(Prompt(ids_BS, text.length_B + 1), torch.zeros_like(ids_BS))
