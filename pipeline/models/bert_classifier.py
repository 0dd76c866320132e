"""BERT fine-tuned (Devlin et al. 2019, section 4.1; d2l section 16.6): a linear layer over the
encoder's pooled <cls>.

Shapes: B batch, S positions, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import BOS, Prompt, Sizes
from pipeline.nn import bert, transformer
from pipeline.nn.dropout import Dropout

Config = bert.Config

# Every key of `model:` must equal that of the pre-trained run.
INIT_FROM = {"bert": None}
# For <cls>; padding beyond the longest text is not read.
EXTRA_POSITIONS = 1


class Model(nn.Module):
    """p(label | text)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.encoder = bert.Encoder(config, sizes.source)
        self.dropout = Dropout(config.dropout)
        self.output = nn.Linear(config.width, sizes.target)
        transformer.initialise(self, config.width)

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC of texts that end with EOS; <cls> is prepended here."""
        # Cut padding beyond the longest text: it may have no learned position.
        longest = int(text.length_B.max())
        ids_BS = F.pad(text.ids_BS[:, :longest], (1, 0), value=BOS)

        # A single sentence: all positions are in segment 0.
        hidden_BSH = self.encoder(Prompt(ids_BS, text.length_B + 1), torch.zeros_like(ids_BS))
        logits_BC: Tensor = self.output(self.dropout(self.encoder.pooled(hidden_BSH)))
        return logits_BC

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """Load the encoder; the output layer stays random."""
        self.encoder.load_pretrained(tensors)
