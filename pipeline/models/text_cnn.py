"""textCNN: convolutions over the words with max-over-time pooling (Kim 2014; d2l section 16.3).

As in Kim's program, zero padding lets a filter reach beyond both ends of the text. So texts that
are shorter than the filter have features too.

Shapes: B batch, S positions, E
embedding, F filters, W windows, C classes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.core.errors import at_least_one, refuse, share
from pipeline.nn import embedding
from pipeline.nn.dropout import Dropout
from pipeline.nn.masks import real_BS

# word2vec's `dimension` must equal this family's `embedding`.
INIT_FROM = {"word2vec": {"dimension": "embedding"}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `widths`: in words. `filters`: their number for each width. `dropout`: of
    the pooled features. `max_norm`: largest L2 norm of a label's output weights (Kim 2014, section
    2.1: 3), null for any."""

    embedding: int
    widths: tuple[int, ...]
    filters: int
    dropout: float
    max_norm: float | None

    def __post_init__(self) -> None:
        if not self.widths:
            raise refuse("widths", [], "one width at least")
        at_least_one(widths=min(self.widths), embedding=self.embedding, filters=self.filters)
        share(dropout=self.dropout)
        if self.max_norm is not None and self.max_norm <= 0:
            raise refuse("max_norm", self.max_norm, "above 0, or null")


class Model(nn.Module):
    """p(label | short phrases of the text)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.embedding = embedding.random_table(sizes.source, config.embedding)
        self.widths = config.widths
        # One-dimensional convolutions over time, the embedding being the channels (d2l section
        # 16.3.1).
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.embedding, config.filters, width, padding=width - 1)
            for width in config.widths
        )
        self.dropout = Dropout(config.dropout)
        self.output = nn.Linear(config.filters * len(config.widths), sizes.target)
        self.max_norm = config.max_norm

    def pooled_features(self, text: Prompt) -> list[Tensor]:
        """Pooled features BF of each width: each filter's maximum over the windows that overlap the
        text."""
        # Padding ids get zero vectors, like the convolution's own padding.
        real_BS1 = real_BS(text.length_B, text.ids_BS.shape[1])[:, :, None]
        x_BES = self.embedding(text.ids_BS).masked_fill(~real_BS1, 0.0).transpose(1, 2)

        features = []
        for width, convolution in zip(self.widths, self.convolutions, strict=True):
            activation_BFW = convolution(x_BES).relu()

            # Max-over-time pooling (d2l section 16.3.2). The fill 0 is the least value of relu.
            windows_B = text.length_B + width - 1
            overlaps_text_B1W = real_BS(windows_B, activation_BFW.shape[2])[:, None, :]
            features.append(activation_BFW.masked_fill(~overlaps_text_B1W, 0.0).amax(2))
        return features

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC."""
        logits_BC: Tensor = self.output(self.dropout(torch.cat(self.pooled_features(text), 1)))
        return logits_BC

    @torch.no_grad()
    def constrain(self) -> None:
        """Shrink the output weights of each label to the norm `max_norm`, if theirs is larger."""
        if self.max_norm is not None:
            self.output.weight.renorm_(p=2, dim=0, maxnorm=self.max_norm)

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """Load word vectors into the embedding; all other weights stay random."""
        embedding.load_pretrained(self.embedding, tensors)
