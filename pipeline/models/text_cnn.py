"""Convolutions over the words, each filter's strongest answer kept (Kim 2014; d2l section 16.3).

As in Kim's own program a filter also reaches beyond both ends of the text, where there is nothing
(zeros), so that a text shorter than the filter has an answer too. Shapes: B batch, S positions, E
embedding, F filters, W windows, C classes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.core.errors import at_least_one, refuse, share
from pipeline.nn import embedding
from pipeline.nn.dropout import Dropout
from pipeline.nn.masks import real_BS

INIT_FROM = {"word2vec": {"dimension": "embedding"}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run: `filters` of each of the `widths`, in words; `dropout` of what they
    found."""

    embedding: int
    widths: tuple[int, ...]
    filters: int
    dropout: float

    def __post_init__(self) -> None:
        if not self.widths:
            raise refuse("widths", [], "one width at least")
        at_least_one(widths=min(self.widths), embedding=self.embedding, filters=self.filters)
        share(dropout=self.dropout)


class Model(nn.Module):
    """p(label | which short phrases)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.embedding = embedding.random_table(sizes.source, config.embedding)
        self.widths = config.widths
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.embedding, config.filters, width, padding=width - 1)
            for width in config.widths
        )
        self.dropout = Dropout(config.dropout)
        self.output = nn.Linear(config.filters * len(config.widths), sizes.target)

    def pooled_features(self, text: Prompt) -> list[Tensor]:
        """For each width, what its filters found at most over the windows that touch the text: BF,
        not negative."""
        real_BS1 = real_BS(text.length_B, text.ids_BS.shape[1])[:, :, None]
        x_BES = self.embedding(text.ids_BS).masked_fill(~real_BS1, 0.0).transpose(1, 2)
        pooled = []
        for width, convolution in zip(self.widths, self.convolutions, strict=True):
            answer_BFW = convolution(x_BES).relu()
            windows_B = text.length_B + width - 1
            touching_B1W = real_BS(windows_B, answer_BFW.shape[2])[:, None, :]
            pooled.append(answer_BFW.masked_fill(~touching_B1W, 0.0).amax(2))
        return pooled

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC."""
        logits_BC: Tensor = self.output(self.dropout(torch.cat(self.pooled_features(text), 1)))
        return logits_BC

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """The words' vectors; the rest is this run's own."""
        embedding.load_pretrained(self.embedding, tensors)
