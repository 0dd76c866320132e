"""BERT's encoder (Devlin et al. 2019; d2l section 15.8), for pre-training and fine-tuning.

A text begins with BOS in the role of <cls>. Each of its sentences ends with EOS in the role of
<sep>. MASK has the last row of the embedding table, which has one row more than the vocabulary.

Shapes: B batch, S positions, H width, C classes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.contracts import MASK, Prompt, Sizes
from pipeline.core.errors import at_least_one
from pipeline.nn import transformer
from pipeline.nn.cells import Implementation
from pipeline.nn.dropout import Dropout
from pipeline.nn.masks import real_BS
from pipeline.nn.positional import positions
from pipeline.nn.transformer import EncoderBlock, Stack


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    `learned_positions`: their number, that is the longest text's length, as in the paper; or null
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
    """Transformer encoder over two segments; every position attends to both its sides.

    The output at <cls> represents the whole text (d2l section 15.8.4)."""

    def __init__(self, config: Config, vocabulary: int) -> None:
        super().__init__()
        self.mask_row = vocabulary
        self.tokens = nn.Embedding(vocabulary + 1, config.width)
        self.segments = nn.Embedding(2, config.width)
        self.positions = positions(config.learned_positions, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)
        # Post-norm, as in the original Transformer, with GELU (Devlin et al. 2019, appendix A.2).
        block = transformer.block_config(config, norm="layer", norm_first=False, activation="gelu")
        self.blocks = Stack[EncoderBlock](EncoderBlock(block) for _ in range(config.layers))
        # Pre-trained by next-sentence prediction.
        self.pooler = nn.Linear(config.width, config.width)

    def forward(self, text: Prompt, segment_BS: Tensor) -> Tensor:
        """hidden_BSH. `segment_BS`: 0 in the first sentence, 1 in the second."""
        size = text.ids_BS.shape[1]
        ids_BS = text.ids_BS.masked_fill(text.ids_BS == MASK, self.mask_row)

        # Input: the sum of token, segment and position embeddings (d2l section 15.8.4).
        embedded_BSH = self.tokens(ids_BS) + self.segments(segment_BS) + self.positions(0, size)
        x_BSH: Tensor = self.dropout(self.norm(embedded_BSH))

        mask_B11S = real_BS(text.length_B, size)[:, None, None, :]
        for block in self.blocks:
            x_BSH = block(x_BSH, mask_B11S)
        return x_BSH

    def pooled(self, hidden_BSH: Tensor) -> Tensor:
        """pooled_BH: tanh of a linear layer over <cls>, as input of sentence-level heads."""
        return torch.tanh(self.pooler(hidden_BSH[:, 0]))

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """Load the encoder of another model, whose tensors are called `encoder.`... and have the
        same sizes."""
        self.load_state_dict({name: tensors[f"encoder.{name}"] for name in self.state_dict()})


class FineTuned(nn.Module):
    """A linear layer over the encoder's pooled <cls> (Devlin et al. 2019, section 4.1)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.encoder = Encoder(config, sizes.source)
        self.dropout = Dropout(config.dropout)
        self.output = nn.Linear(config.width, sizes.target)
        transformer.initialise(self, config.width)

    def logits(self, text: Prompt, segment_BS: Tensor) -> Tensor:
        """logits_BC of texts that begin with BOS."""
        hidden_BSH = self.encoder(text, segment_BS)
        logits_BC: Tensor = self.output(self.dropout(self.encoder.pooled(hidden_BSH)))
        return logits_BC

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """Load the encoder; the output layer stays random."""
        self.encoder.load_pretrained(tensors)
