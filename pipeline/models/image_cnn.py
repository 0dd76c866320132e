"""Convolutional network like LeNet-5 (LeCun et al. 1998; d2l section 7.6), with ReLU and
max-pooling: convolutions that halve the picture, then a perceptron over all that is left.

Shapes: B batch, Y rows and X columns of pixels, F feature maps, C classes.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one, refuse, share
from pipeline.core.images import check_size
from pipeline.nn import images
from pipeline.nn.dropout import Dropout


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    `filters`: their number in each convolution. `kernel`: pixels of a filter's side, an odd number.
    `hidden`: units of the perceptron, whose dropout is `dropout`."""

    image_height: int
    image_width: int
    filters: tuple[int, ...]
    kernel: int
    hidden: int
    dropout: float

    def __post_init__(self) -> None:
        check_size(self)
        if not self.filters:
            raise refuse("filters", [], "one number at least")
        at_least_one(filters=min(self.filters), kernel=self.kernel, hidden=self.hidden)
        if self.kernel % 2 == 0:
            raise refuse("kernel", self.kernel, "an odd number, so that pictures keep their size")
        # Each convolution halves both sides.
        most = min(self.image_height, self.image_width).bit_length() - 1
        if len(self.filters) > most:
            size = f"{self.image_height} x {self.image_width}"
            got = f"{len(self.filters)} numbers with pictures of {size} pixels"
            raise refuse("filters", got, f"{most} at most: each halves the picture")
        share(dropout=self.dropout)


class Model(nn.Module):
    """p(label | picture)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.image_size = (config.image_height, config.image_width)
        blocks: list[nn.Module] = []
        # The input has one map: its grey levels.
        inputs = 1
        for filters in config.filters:
            convolution = nn.Conv2d(inputs, filters, config.kernel, padding=config.kernel // 2)
            blocks += [convolution, nn.ReLU(), nn.MaxPool2d(2)]
            inputs = filters
        self.convolutions = nn.Sequential(*blocks)

        halvings = len(config.filters)
        height, width = (side >> halvings for side in self.image_size)
        self.perceptron = nn.Sequential(
            nn.Linear(inputs * height * width, config.hidden),
            nn.ReLU(),
            Dropout(config.dropout),
            nn.Linear(config.hidden, sizes.target),
        )

    def classify(self, image_BYX: Tensor) -> Tensor:
        """logits_BC."""
        images.refuse_other_size(image_BYX, self.image_size)
        maps_BFYX = self.convolutions(image_BYX[:, None])
        logits_BC: Tensor = self.perceptron(maps_BFYX.flatten(1))
        return logits_BC
