"""Checks of picture classifiers: two strokes in opposite corners, lying or standing; the label is
whether they are alike."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.conformance import (
    ADAM,
    CPU,
    Case,
    Check,
    Failed,
    expect_different,
    expect_same,
    expect_shape,
)
from pipeline.conformance.rows import accuracy
from pipeline.contracts import Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.nn.images import pixels_NYX, scaled
from pipeline.tasks import image_classification

EXAMPLE = "pipeline.models.image_mlp"
SIZES = Sizes(0, 2, False)
OPTIM = ADAM
RATES = (0.01, 0.002, 0.03)
EPOCHS = 10
_LEAST = 0.85  # share of right labels


def training(model: Any) -> tuple[pa.Table, pa.Table, image_classification.Config]:
    """Pictures of the model's size."""
    objective = image_classification.Config(batch_size=32, label_smoothing=0.0)
    return _rows(model, 500, 1), _rows(model, 60, 2), objective


def outputs(model: Any) -> Tensor:
    """Logits BC of a few pictures."""
    with torch.inference_mode():
        logits_BC: Tensor = model.classify(_pictures(model))
        return logits_BC


def learned(model: Any) -> tuple[bool, str]:
    """By the accuracy on new pictures."""
    test = _rows(model, 200, 3)
    log_probs_NC = image_classification.log_probs(model, pixels_NYX(test), CPU)
    return accuracy(log_probs_NC, test, _LEAST)


def shapes(case: Case) -> None:
    """`classify` gives a logit for each picture and label, and refuses pictures of another size."""
    model = case.model()
    expect_shape("classify", outputs(model), (5, SIZES.target), "BC")
    height, width = model.image_size
    try:
        model.classify(torch.zeros(1, height + 1, width))
    except UserError:
        return
    raise Failed(
        "classify: got an output for a picture of another size; expected a UserError. Call "
        "nn.images.refuse_other_size first."
    )


def pictures(case: Case) -> None:
    """The other pictures of a batch change no logit."""
    model = case.model()
    with torch.inference_mode():
        alone = torch.cat([model.classify(image_YX[None]) for image_YX in _pictures(model)])
    expect_same("pictures one by one", alone, outputs(model), "Compute each picture by itself.")


@torch.inference_mode()
def pixels(case: Case) -> None:
    """Each pixel changes the logits."""
    if case.is_fitted:
        return
    model = case.model()
    image_1YX = _pictures(model)[:1]
    before_C = model.classify(image_1YX)[0]

    # Picture i of the batch differs in pixel i.
    height, width = model.image_size
    changed = image_1YX.repeat(height * width, 1, 1)
    changed.flatten(1).diagonal().copy_(1 - image_1YX.flatten())
    for pixel, after_C in enumerate(model.classify(changed)):
        y, x = divmod(pixel, width)
        todo = "Read all of the picture."
        expect_different(f"a change of the pixel in row {y}, column {x}", after_C, before_C, todo)


CHECKS: tuple[Check, ...] = (shapes, pictures, pixels)


def _pictures(model: Any) -> Tensor:
    return scaled(torch.from_numpy(pixels_NYX(_rows(model, 5, 4))))


def _rows(model: Any, count: int, seed: int) -> pa.Table:
    height, width = model.image_size
    rng = np.random.default_rng(seed)
    image_NYX = rng.integers(0, 60, (count, height, width)).astype(np.uint8)
    stands_N2 = rng.integers(0, 2, (count, 2))
    half, middle = height // 2, width // 2
    for image_YX, stands in zip(image_NYX, stands_N2, strict=True):
        corners = (image_YX[:half, :middle], image_YX[half:, middle:])
        for corner, is_standing in zip(corners, stands, strict=True):
            place = (slice(None), middle // 2) if is_standing else (half // 2, slice(None))
            corner[place] = 255
    label_N = (stands_N2[:, 0] == stands_N2[:, 1]).astype(int)
    data = [image_YX.tobytes() for image_YX in image_NYX]
    columns = [range(count), data, [height] * count, [width] * count, label_N]
    return pa.table(columns, schema=tables.ENCODED_IMAGE)
