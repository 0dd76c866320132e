"""Multilayer perceptron over all pixels of a picture (d2l chapter 5). It does not know which pixels
are next to each other.

Shapes: B batch, Y rows and X columns of pixels, C classes.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one, share
from pipeline.core.images import check_size
from pipeline.nn import images
from pipeline.nn.dropout import Dropout


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `hidden`: units of each hidden layer. `dropout`: after each of them."""

    image_height: int
    image_width: int
    hidden: int
    layers: int
    dropout: float

    def __post_init__(self) -> None:
        check_size(self)
        at_least_one(hidden=self.hidden, layers=self.layers)
        share(dropout=self.dropout)


class Model(nn.Module):
    """p(label | picture)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.image_size = (config.image_height, config.image_width)
        blocks: list[nn.Module] = []
        for layer in range(config.layers):
            inputs = config.hidden if layer else config.image_height * config.image_width
            blocks += [nn.Linear(inputs, config.hidden), nn.ReLU(), Dropout(config.dropout)]
        self.layers = nn.Sequential(*blocks, nn.Linear(config.hidden, sizes.target))

    def classify(self, image_BYX: Tensor) -> Tensor:
        """logits_BC."""
        images.refuse_other_size(image_BYX, self.image_size)
        logits_BC: Tensor = self.layers(image_BYX.flatten(1))
        return logits_BC
