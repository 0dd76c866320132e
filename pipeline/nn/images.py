"""Grey pictures as tensors, and their patches.

Shapes: B batch, N pictures, Y rows and X columns of pixels, P patches, D pixels of a patch.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from pipeline.core.errors import at_least_one, refuse


def refuse_other_size(image_BYX: Tensor, size: tuple[int, int]) -> None:
    """Raise UserError unless the pictures have the `size` of the model's, Y and X."""
    if tuple(image_BYX.shape[1:]) != size:
        raise refuse(
            "model.image_height",
            f"{size[0]} with image_width {size[1]}",
            f"{image_BYX.shape[1]} with {image_BYX.shape[2]}, the size of the corpus's pictures",
            "Take it from the corpus's `read`.",
        )


def check_patch(config: Any) -> None:
    """Refuse a `patch` that does not divide both sides of the picture; for
    `Config.__post_init__`."""
    at_least_one(patch=config.patch)
    if config.image_height % config.patch or config.image_width % config.patch:
        raise refuse(
            "patch",
            f"{config.patch} with pictures of {config.image_height} x {config.image_width} pixels",
            "a divisor of both sides",
            "Change either.",
        )


def pixels_NYX(table: pa.Table) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pixels of the pictures of a table of `tables.ENCODED_IMAGE`, from 0 (black) to 255.

    UserError for a damaged table: pictures of several sizes, or without all of their pixels."""
    sizes = {column: table[column].unique().to_pylist() for column in ("height", "width")}
    data = b"".join(table["pixels"].to_pylist())
    if any(len(sides) != 1 for sides in sizes.values()):
        raise refuse("pictures", f"sides of {sizes} pixels", "one size", "Run `dvc repro`.")
    [height], [width] = sizes.values()
    if len(data) != len(table) * height * width:
        expected = f"{len(table)} pictures of {height} x {width}"
        raise refuse("pictures", f"{len(data)} pixels", expected, "Run `dvc repro`.")
    # A copy: torch warns of memory that it may not write.
    return np.frombuffer(data, np.uint8).reshape(len(table), height, width).copy()


def scaled(pixels_BYX: Tensor) -> Tensor:
    """Pixels as numbers from 0 (black) to 1."""
    return pixels_BYX.float() / 255


def patches(image_BYX: Tensor, patch: int) -> Tensor:
    """Divide pictures into squares of `patch` pixels: patches_BPD, row by row (Dosovitskiy et al.
    2021, section 3.1; d2l section 11.8.1)."""
    batch, height, width = image_BYX.shape
    rows, columns = height // patch, width // patch
    # BYX -> B, rows, y, columns, x -> B, rows, columns, y, x
    grid = image_BYX.reshape(batch, rows, patch, columns, patch).transpose(2, 3)
    return grid.reshape(batch, rows * columns, patch * patch)
