"""BERT fine-tuned (Devlin et al. 2019, section 4.1; d2l section 16.6): one layer on what the
encoder makes of <cls>.

Shapes: B batch, S positions, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import BOS, Prompt, Sizes
from pipeline.nn import bert, transformer
from pipeline.nn.dropout import Dropout

Config = bert.Config

INIT_FROM = {"bert": None}  # all of `model:` is BERT's
EXTRA_POSITIONS = 1  # <cls>; padding beyond the longest text is not read


class Model(nn.Module):
    """p(label | text)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.encoder = bert.Encoder(config, sizes.source)
        self.dropout = Dropout(config.dropout)
        self.output = nn.Linear(config.width, sizes.target)
        transformer.initialise(self, config.width)

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC of texts that end with EOS; <cls> is put before them here."""
        longest = int(text.length_B.max())  # padding beyond it may have no learned position
        ids_BS = F.pad(text.ids_BS[:, :longest], (1, 0), value=BOS)
        hidden_BSH = self.encoder(Prompt(ids_BS, text.length_B + 1), torch.zeros_like(ids_BS))
        logits_BC: Tensor = self.output(self.dropout(self.encoder.pooled(hidden_BSH)))
        return logits_BC

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """The encoder; the head is this run's own."""
        self.encoder.load_pretrained(tensors)
