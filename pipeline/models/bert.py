"""BERT in pre-training (Devlin et al. 2019; d2l section 15.8): masked language modelling and
next-sentence prediction.

Shapes: B batch, S positions, N masked positions, H width, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import Prompt, Sizes
from pipeline.nn import bert, transformer

Config = bert.Config


class Model(nn.Module):
    """p(word | the words on both sides), and p(the second sentence follows the first)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.encoder = bert.Encoder(config, sizes.target)
        # Head of masked language modelling (d2l section 15.8.5.1).
        self.transform = nn.Sequential(
            nn.Linear(config.width, config.width), nn.GELU(), nn.LayerNorm(config.width)
        )
        self.bias = nn.Parameter(torch.zeros(sizes.target))
        # Head of next-sentence prediction (d2l section 15.8.5.2).
        self.next = nn.Linear(config.width, 2)
        transformer.initialise(self, config.width)

    def read(self, text: Prompt, segment_BS: Tensor) -> Tensor:
        hidden_BSH: Tensor = self.encoder(text, segment_BS)
        return hidden_BSH

    def project(self, hidden_NH: Tensor) -> Tensor:
        """logits_NV, with the token embeddings as output weights (Press & Wolf 2017)."""
        # The last row of the table is that of MASK, which is never predicted.
        return F.linear(self.transform(hidden_NH), self.encoder.tokens.weight[:-1], self.bias)

    def follows(self, hidden_BSH: Tensor) -> Tensor:
        logits_B2: Tensor = self.next(self.encoder.pooled(hidden_BSH))
        return logits_B2
