"""Nearest neighbours, the baseline of image classifiers: the labels of the training pictures that
are nearest by Euclidean distance (Cover and Hart 1967). It is fitted without gradients.

Shapes: B batch, N training pictures, K nearest ones, Y rows and X columns of pixels, D pixels of a
picture, C classes.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import Sizes
from pipeline.core.errors import refuse
from pipeline.core.images import check_size
from pipeline.nn import images


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    `neighbours`: the numbers K to choose from, by validation loss. `smoothing`: added to the K
    labels, equally to all classes, so that none has probability 0."""

    image_height: int
    image_width: int
    neighbours: tuple[int, ...]
    smoothing: float

    def __post_init__(self) -> None:
        check_size(self)
        if not self.neighbours or min(self.neighbours) < 1:
            raise refuse("neighbours", list(self.neighbours), "numbers of at least 1")
        if self.smoothing <= 0:
            raise refuse("smoothing", self.smoothing, "above 0, such as 1.0")


class Model(nn.Module):
    """P(label | labels of the nearest training pictures) = (count + smoothing / C) / (K +
    smoothing)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.image_size = (config.image_height, config.image_width)
        self.candidates = config.neighbours
        self.smoothing = config.smoothing
        self.classes = sizes.target
        self.register_buffer("pixels_ND", torch.empty((0, 0), dtype=torch.uint8))
        self.register_buffer("label_N", torch.empty(0, dtype=torch.int64))
        self.register_buffer("neighbours", torch.zeros((), dtype=torch.int64))
        self.pixels_ND: Tensor
        self.label_N: Tensor
        self.neighbours: Tensor

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Store the training pictures, and choose the number of neighbours; `seed` is not used."""
        self.pixels_ND = torch.from_numpy(images.pixels_NYX(train)).flatten(1)
        self.label_N = _labels(train)
        image_NYX = torch.from_numpy(images.pixels_NYX(valid))
        images.refuse_other_size(image_NYX, self.image_size)

        label_N = _labels(valid)
        order_BK = self._nearest(image_NYX.flatten(1), max(self.candidates))
        losses = {}
        for number in self.candidates:
            log_probs_NC = self._log_probs(order_BK[:, :number])
            losses[float(F.nll_loss(log_probs_NC, label_N))] = (number, log_probs_NC)
        loss = min(losses)
        number, log_probs_NC = losses[loss]
        self.neighbours.fill_(number)
        accuracy = float((log_probs_NC.argmax(1) == label_N).double().mean())
        return {"loss": loss, "accuracy": accuracy, "neighbours": float(number)}

    def classify(self, image_BYX: Tensor) -> Tensor:
        """logits_BC."""
        images.refuse_other_size(image_BYX, self.image_size)
        pixels_BD = (image_BYX * 255).round().flatten(1)
        return self._log_probs(self._nearest(pixels_BD, int(self.neighbours)))

    def _nearest(self, pixels_BD: Tensor, number: int) -> Tensor:
        """Rows order_BK of the nearest training pictures; of two as near the first one."""
        # |a - b|^2 less |b|^2, which is the same for all. Sums of whole numbers are exact in
        # float64, so equal distances are equal.
        train_ND, pixels_BD = self.pixels_ND.double(), pixels_BD.double()
        distance_BN = train_ND.square().sum(1) - 2 * pixels_BD @ train_ND.T
        return distance_BN.sort(dim=1, stable=True).indices[:, :number]

    def _log_probs(self, order_BK: Tensor) -> Tensor:
        count_BC = F.one_hot(self.label_N[order_BK], self.classes).sum(1).double()
        total = order_BK.shape[1] + self.smoothing
        return ((count_BC + self.smoothing / self.classes) / total).log()


def _labels(table: pa.Table) -> Tensor:
    return torch.from_numpy(table["label"].to_numpy().astype(np.int64))
