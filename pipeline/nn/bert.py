"""BERT's encoder (Devlin et al. 2019; d2l section 15.8), shared by pre-training and by what is
fine-tuned from it.

A text begins with BOS, which serves as <cls>, and every sentence in it ends with EOS, which serves
as <sep>. The embedding table has one row more than the vocabulary has ids: the last one is that of
MASK. Shapes: B batch, S positions, H width."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.contracts import MASK, Prompt
from pipeline.core.errors import at_least_one
from pipeline.nn import transformer
from pipeline.nn.cells import Implementation
from pipeline.nn.dropout import Dropout
from pipeline.nn.masks import real_BS
from pipeline.nn.positional import positions
from pipeline.nn.transformer import EncoderBlock, Stack


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `learned_positions`: the longest text's length, as in the paper, or null
    for sinusoidal ones."""

    width: int
    heads: int
    feed_forward: int
    layers: int
    dropout: float
    learned_positions: int | None
    implementation: Implementation

    def __post_init__(self) -> None:
        transformer.check(self)
        at_least_one(layers=self.layers)


class Encoder(nn.Module):
    """Sees both sides of every position; what it makes of the first, <cls>, stands for the whole
    text."""

    def __init__(self, config: Config, vocabulary: int) -> None:
        super().__init__()
        self.mask = vocabulary
        self.tokens = nn.Embedding(vocabulary + 1, config.width)
        self.segments = nn.Embedding(2, config.width)
        self.positions = positions(config.learned_positions, config.width)
        self.norm, self.dropout = nn.LayerNorm(config.width), Dropout(config.dropout)
        block = transformer.block_config(config, norm="layer", norm_first=False, activation="gelu")
        self.blocks = Stack[EncoderBlock](EncoderBlock(block) for _ in range(config.layers))
        self.pooler = nn.Linear(config.width, config.width)

    def forward(self, text: Prompt, segment_BS: Tensor) -> Tensor:
        """hidden_BSH. `segment_BS`: 0 where the first sentence stands, 1 where the second does."""
        size = text.ids_BS.shape[1]
        ids_BS = text.ids_BS.masked_fill(text.ids_BS == MASK, self.mask)
        embedded_BSH = self.tokens(ids_BS) + self.segments(segment_BS) + self.positions(0, size)
        x_BSH: Tensor = self.dropout(self.norm(embedded_BSH))
        seen = real_BS(text.length_B, size)[:, None, None, :]
        for block in self.blocks:
            x_BSH = block(x_BSH, seen)
        return x_BSH

    def pooled(self, hidden_BSH: Tensor) -> Tensor:
        """pooled_BH: the text as a whole."""
        return torch.tanh(self.pooler(hidden_BSH[:, 0]))

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """Take over another model's encoder, whose tensors are called `encoder.`... and have the
        same sizes."""
        self.load_state_dict({name: tensors[f"encoder.{name}"] for name in self.state_dict()})
