"""Families of picture classifiers: what they learn, what does not matter to them, and settings that
do not fit the pictures."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from family_cases import CNN, MLP, NEIGHBOURS, SWIN, VIT
from family_cases import PICTURES as FAMILIES

from pipeline.contracts import Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.nn.images import pixels_NYX, scaled
from pipeline.tasks import image_classification
from pipeline.training import checkpoint

CPU = torch.device("cpu")


def built(family: str, block: dict[str, Any]) -> Any:
    torch.manual_seed(3)
    return checkpoint.build(family, block, Sizes(0, 2, False), "settings.x.model").eval()


def strokes(count: int, seed: int) -> pa.Table:
    """A stroke in each of two opposite corners, lying or standing; label 1 if both are alike: no
    corner alone says anything."""
    rng = np.random.default_rng(seed)
    image_NYX = rng.integers(0, 60, (count, 8, 8)).astype(np.uint8)
    stands_N2 = rng.integers(0, 2, (count, 2))
    for image_YX, stands in zip(image_NYX, stands_N2, strict=True):
        for corner, is_standing in zip((image_YX[:4, :4], image_YX[4:, 4:]), stands, strict=True):
            place = (slice(None), 1) if is_standing else (1, slice(None))
            corner[place] = 255
    labels = (stands_N2[:, 0] == stands_N2[:, 1]).astype(int).tolist()
    return table(image_NYX, labels)


def table(image_NYX: np.ndarray, labels: list[int]) -> pa.Table:
    count, height, width = image_NYX.shape
    pixels = [image.tobytes() for image in image_NYX]
    columns = [range(count), pixels, [height] * count, [width] * count, labels]
    return pa.table(columns, schema=tables.ENCODED_IMAGE)


def objective() -> image_classification.Config:
    return image_classification.Config(batch_size=32, label_smoothing=0.0)


def test_neighbours_know_the_strokes_too() -> None:
    model = built("image_neighbours", NEIGHBOURS)
    metrics = model.fit(strokes(300, 1), strokes(60, 2), seed=1)
    assert metrics["accuracy"] > 0.95
    assert metrics["neighbours"] in (1, 5)


@torch.inference_mode()
def test_without_positions_a_vision_transformer_would_read_a_bag_of_patches() -> None:
    """Patches in another place: other logits, but the same ones if all positions are equal."""
    model = built("vision_transformer", VIT)
    image_BYX = scaled(torch.from_numpy(pixels_NYX(strokes(4, 1))))
    moved_BYX = image_BYX.roll(4, 2)
    assert not torch.allclose(model.classify(image_BYX), model.classify(moved_BYX), atol=1e-4)
    model.positions.weight.copy_(model.positions.weight[1].expand_as(model.positions.weight))
    torch.testing.assert_close(model.classify(image_BYX), model.classify(moved_BYX))


def test_batches_are_all_rows_in_an_order_of_the_epoch() -> None:
    task = image_classification.Task(strokes(100, 1), strokes(9, 2), objective(), 1, CPU)
    first, second = task.plan(1), task.plan(2)
    assert [len(rows) for rows in first] == [32, 32, 32, 4]
    assert sorted(np.concatenate(first)) == list(range(100))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))
    assert all(np.array_equal(a, b) for a, b in zip(first, task.plan(1), strict=True))
    image_BYX, label_B = task.batch(first[0])
    assert (image_BYX.min(), image_BYX.max()) == (0, 1)
    assert label_B.tolist() == strokes(100, 1)["label"].take(first[0]).to_pylist()


def test_the_validation_loss_is_the_mean_of_nats() -> None:
    train, valid = strokes(20, 1), strokes(15, 2)
    task = image_classification.Task(train, valid, objective(), 1, CPU)
    model = built("image_mlp", MLP)
    loss, metrics = task.validate(model)
    log_probs = image_classification.log_probs(model, pixels_NYX(valid), CPU)
    label = valid["label"].to_numpy()
    assert float(loss.total) == pytest.approx(-log_probs[range(15), label].sum())
    assert loss.tokens == 15
    assert metrics == {"accuracy": pytest.approx((log_probs.argmax(1) == label).mean())}


# Settings that do not fit


@pytest.mark.parametrize(
    ("family", "block", "line"),
    [
        (
            "vision_transformer",
            VIT | {"patch": 3},
            "patch: got 3 with pictures of 8 x 8 pixels; expected a divisor of both sides. "
            "Change either.",
        ),
        (
            "swin_transformer",
            SWIN | {"patch": 16},
            "patch: got 16 with pictures of 8 x 8 pixels; expected a divisor of both sides. "
            "Change either.",
        ),
        (
            "swin_transformer",
            SWIN | {"window": 4},
            "window: got 4 with a feature map of 2 x 2 in stage 2; expected at most 2. Use smaller "
            "windows or patches, or fewer stages.",
        ),
        (
            "swin_transformer",
            SWIN | {"window": 8, "layers": [2], "heads": [2]},
            "window: got 8 with a feature map of 4 x 4 in stage 1; expected at most 4. Use smaller "
            "windows or patches, or fewer stages.",
        ),
        (
            "swin_transformer",
            SWIN | {"window": 3},
            "window: got 3 with a feature map of 4 x 4 in stage 1; expected a divisor of both "
            "sides.",
        ),
        (
            "swin_transformer",
            SWIN | {"image_height": 12, "image_width": 12, "window": 3, "patch": 4},
            "layers: got 2 stages with a feature map of 3 x 3 in stage 1; expected even sides "
            "before each further stage. Use fewer stages.",
        ),
        (
            "swin_transformer",
            SWIN | {"heads": [2]},
            "heads: got 1 numbers with 2 in layers; expected one number for each stage in both. "
            "Change either.",
        ),
        (
            "swin_transformer",
            SWIN | {"heads": [2, 3]},
            "heads: got 3 in stage 2 with width 32; expected a divisor of width. Change either.",
        ),
        (
            "vision_transformer",
            VIT | {"heads": 3},
            "heads: got 3 with width 16; expected a divisor of width. Change either.",
        ),
        (
            "image_cnn",
            CNN | {"filters": [4, 4, 4, 4]},
            "filters: got 4 numbers with pictures of 8 x 8 pixels; expected 3 at most: each halves "
            "the picture.",
        ),
        (
            "image_cnn",
            CNN | {"kernel": 4},
            "kernel: got 4; expected an odd number, so that pictures keep their size.",
        ),
        ("image_cnn", CNN | {"filters": []}, "filters: got []; expected one number at least."),
        ("image_mlp", MLP | {"layers": 0}, "layers: got 0; expected at least 1."),
        (
            "image_neighbours",
            NEIGHBOURS | {"neighbours": [3, 0]},
            "neighbours: got [3, 0]; expected numbers of at least 1.",
        ),
        (
            "image_neighbours",
            NEIGHBOURS | {"smoothing": 0.0},
            "smoothing: got 0.0; expected above 0, such as 1.0.",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(
    family: str, block: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError) as error:
        built(family, block)
    assert str(error.value) == f"settings.x.model.{line}"


@pytest.mark.parametrize("name", [*FAMILIES, "neighbours"])
def test_pictures_of_another_size_than_the_models_are_refused_in_one_line(name: str) -> None:
    family, block = FAMILIES.get(name, ("image_neighbours", NEIGHBOURS))
    model = built(family, block)
    with pytest.raises(UserError) as error:
        model.classify(torch.zeros(2, 4, 16))
    assert str(error.value) == (
        "model.image_height: got 8 with image_width 8; expected 4 with 16, the size of the "
        "corpus's pictures. Take it from the corpus's `read`."
    )


def test_a_damaged_table_of_pictures_is_refused_in_one_line() -> None:
    whole = strokes(3, 1)
    columns = whole.to_pydict()
    for changes, words in (
        ({"height": [8, 8, 4]}, "sides of"),
        ({"pixels": [b"", *columns["pixels"][1:]]}, "got 128 pixels; expected 3 pictures of 8 x 8"),
    ):
        damaged = pa.table(columns | changes, schema=tables.ENCODED_IMAGE)
        with pytest.raises(UserError, match=words) as error:
            pixels_NYX(damaged)
        assert "\n" not in str(error.value)
