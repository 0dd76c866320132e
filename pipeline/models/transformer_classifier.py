"""Transformer encoder (Vaswani et al. 2017; d2l section 11.7.4), the mean of its positions, then a
linear layer.

Shapes: B batch, S positions, H width, C classes.
"""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.core.errors import at_least_one
from pipeline.nn import embedding, transformer
from pipeline.nn.cells import Implementation
from pipeline.nn.dropout import Dropout
from pipeline.nn.masks import real_BS
from pipeline.nn.pooling import mean_BH
from pipeline.nn.positional import positions
from pipeline.nn.transformer import EncoderBlock, Stack

# word2vec's `dimension` must equal this family's `width`.
INIT_FROM = {"word2vec": {"dimension": "width"}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    `norm_first`: pre-norm, or post-norm as in the paper. `learned_positions`: their number, or null
    for sinusoidal ones."""

    width: int
    heads: int
    feed_forward: int
    layers: int
    dropout: float
    norm_first: bool
    learned_positions: int | None
    implementation: Implementation

    def __post_init__(self) -> None:
        transformer.check(self)
        at_least_one(layers=self.layers)


class Model(nn.Module):
    """p(label | text)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.width = config.width
        self.embedding = nn.Embedding(sizes.source, config.width)
        self.positions = positions(config.learned_positions, config.width)
        self.dropout = Dropout(config.dropout)

        block = transformer.block_config(config, norm="layer", activation="relu")
        self.encoder = Stack[EncoderBlock](EncoderBlock(block) for _ in range(config.layers))
        # The last block of a pre-norm stack leaves its sum unnormalised (Xiong et al. 2020).
        self.norm = nn.LayerNorm(config.width) if config.norm_first else nn.Identity()
        self.output = nn.Linear(config.width, sizes.target)
        transformer.initialise(self, config.width)

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC."""
        size = text.ids_BS.shape[1]
        mask_B11S = real_BS(text.length_B, size)[:, None, None, :]

        # Embeddings times sqrt(H) plus positional encodings (Vaswani et al. 2017, section 3.4).
        x_BSH = self.dropout(
            self.embedding(text.ids_BS) * math.sqrt(self.width) + self.positions(0, size)
        )
        for block in self.encoder:
            x_BSH = block(x_BSH, mask_B11S)

        # Mean pooling; BERT uses the vector of <cls> instead (d2l section 15.8.4).
        logits_BC: Tensor = self.output(self.dropout(mean_BH(self.norm(x_BSH), text.length_B)))
        return logits_BC

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """Load word vectors into the embedding; all other weights stay random."""
        embedding.load_pretrained(self.embedding, tensors)
