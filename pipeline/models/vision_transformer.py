"""Vision Transformer: a Transformer encoder over the patches of a picture (Dosovitskiy et al. 2021;
d2l section 11.8).

Shapes: B batch, Y rows and X columns of pixels, P patches, D pixels of a patch, S positions, H
width, C classes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one
from pipeline.core.images import check_size
from pipeline.nn import images, transformer
from pipeline.nn.cells import Implementation
from pipeline.nn.dropout import Dropout
from pipeline.nn.transformer import EncoderBlock, Stack


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    `patch`: pixels of a patch's side. `pooling`: classify by the vector of a learned `<cls>` before
    the patches (section 3.1 of the paper), or by the mean of the patches' vectors (appendix D.3).
    """

    image_height: int
    image_width: int
    patch: int
    width: int
    heads: int
    feed_forward: int
    layers: int
    dropout: float
    pooling: Literal["cls", "mean"]
    implementation: Implementation

    def __post_init__(self) -> None:
        check_size(self)
        images.check_patch(self)
        transformer.check(self)
        at_least_one(layers=self.layers)


class Model(nn.Module):
    """p(label | picture)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.image_size = (config.image_height, config.image_width)
        self.patch = config.patch
        patches = config.image_height * config.image_width // config.patch**2

        # One linear layer for every patch (equation 1).
        self.embedding = nn.Linear(config.patch**2, config.width)
        self.has_cls = config.pooling == "cls"
        self.cls_H = nn.Parameter(torch.zeros(config.width)) if self.has_cls else None
        self.positions = nn.Embedding(patches + self.has_cls, config.width)
        self.dropout = Dropout(config.dropout)

        # Pre-norm blocks with GELU (equations 2 and 3), and a last norm (equation 4).
        block = transformer.block_config(config, norm="layer", norm_first=True, activation="gelu")
        self.encoder = Stack[EncoderBlock](EncoderBlock(block) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.output = nn.Linear(config.width, sizes.target)
        transformer.initialise(self, config.width)

    def embed(self, image_BYX: Tensor) -> Tensor:
        """x_BSH: `<cls>`, if there is one, and the patches, with their positions added (equation
        1)."""
        images.refuse_other_size(image_BYX, self.image_size)
        x_BSH: Tensor = self.embedding(images.patches(image_BYX, self.patch))
        if self.cls_H is not None:
            x_BSH = torch.cat([self.cls_H.expand(len(x_BSH), 1, -1), x_BSH], 1)
        embedded_BSH: Tensor = self.dropout(x_BSH + self.positions.weight)
        return embedded_BSH

    def classify(self, image_BYX: Tensor) -> Tensor:
        """logits_BC."""
        x_BSH = self.embed(image_BYX)
        for block in self.encoder:
            x_BSH = block(x_BSH, None)

        x_BSH = self.norm(x_BSH)
        logits_BC: Tensor = self.output(x_BSH[:, 0] if self.has_cls else x_BSH.mean(1))
        return logits_BC
