"""Image classification: predict the label of a grey picture (d2l chapters 7 and 8, section 11.8).

Shapes: B batch, N pictures, Y rows and X columns of pixels, C classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import ImageClassifier, Loss
from pipeline.core import tables
from pipeline.core.errors import at_least_one, share
from pipeline.core.seeding import derive
from pipeline.nn.images import pixels_NYX, scaled
from pipeline.text.token_budget import describe_rows

SCHEMA = tables.ENCODED_IMAGE
KIND = "image"  # of the corpora that it reads
SOURCE_TARGET = ("image", "label")  # numbers of pixels and of labels
USES_SEARCH = False  # whether decoding is a search
MODELS = (ImageClassifier,)  # protocols of the models that it trains
SCORING_BATCH = 256  # pictures per batch when scoring


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`objective:` of a run.

    - `batch_size`: pictures of a batch; the last one of an epoch may have fewer.
    - `label_smoothing`: with s, the true label keeps 1 - s, and all labels share the rest equally
      (Szegedy et al. 2016, section 7).
    """

    batch_size: int
    label_smoothing: float

    def __post_init__(self) -> None:
        at_least_one(batch_size=self.batch_size)
        share(label_smoothing=self.label_smoothing)


class Task:
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        self.image = torch.from_numpy(pixels_NYX(train))
        self.label = torch.from_numpy(train["label"].to_numpy().astype(np.int64))
        self.valid = valid
        self.config = config
        self.seed = seed
        self.device = device

    def plan(self, epoch: int) -> list[np.ndarray[Any, Any]]:
        """The epoch's batches as arrays of rows, in random order."""
        rng = np.random.default_rng(derive(self.seed, f"batches of epoch {epoch}"))
        rows = rng.permutation(len(self.label))
        return [
            rows[start : start + self.config.batch_size]
            for start in range(0, len(rows), self.config.batch_size)
        ]

    def batch(self, planned: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        """Pictures image_BYX and the numbers of their labels label_B."""
        rows_B = torch.from_numpy(planned)
        return scaled(self.image[rows_B].to(self.device)), self.label[rows_B].to(self.device)

    def loss(
        self, model: ImageClassifier, batch: tuple[Tensor, Tensor], hidden_state: None
    ) -> tuple[Loss, None]:
        image_BYX, label_B = batch
        logits_BC = model.classify(image_BYX).float()
        smoothing = self.config.label_smoothing
        total = F.cross_entropy(logits_BC, label_B, reduction="sum", label_smoothing=smoothing)
        return Loss(total, len(label_B)), None

    def validate(self, model: ImageClassifier) -> tuple[Loss, dict[str, float]]:
        log_probs_NC = torch.from_numpy(log_probs(model, pixels_NYX(self.valid), self.device))
        label_N = torch.from_numpy(self.valid["label"].to_numpy().astype(np.int64))
        loss = Loss(F.nll_loss(log_probs_NC, label_N, reduction="sum"), len(label_N))
        return loss, {"accuracy": float((log_probs_NC.argmax(1) == label_N).double().mean())}

    def describe(self, planned: np.ndarray[Any, Any]) -> str:
        return describe_rows(planned)


@torch.inference_mode()
def log_probs(
    model: ImageClassifier, image_NYX: np.ndarray[Any, np.dtype[np.uint8]], device: torch.device
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """log P(label | picture) of each picture and label, NC."""
    batches = [
        model.classify(scaled(image_BYX.to(device))).double().log_softmax(-1).cpu()
        for image_BYX in torch.split(torch.from_numpy(image_NYX), SCORING_BATCH)
    ]
    log_probs_NC: np.ndarray[Any, np.dtype[np.float64]] = torch.cat(batches).numpy()
    return log_probs_NC
