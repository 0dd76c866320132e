"""Files of labelled pictures: what is read, and what is one line for the user."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core import config, tables
from pipeline.core.errors import UserError
from pipeline.core.images import encode_png
from pipeline.corpora import labelled_images

BLOCK: dict[str, Any] = {"files": {"train": ["a.parquet"]}, "image_height": 2, "image_width": 3}
PIXELS = [np.full((2, 3), level, np.uint8) for level in (0, 100, 255)]


def write(folder: Path, images: list[bytes | None], labels: list[str | None]) -> None:
    table = pa.table([pa.array(images, pa.binary()), labels], schema=tables.IMAGES)
    tables.write(folder / "a.parquet", table)


def read(folder: Path, **changes: Any) -> list[tuple[str, pa.RecordBatch]]:
    block = config.load(labelled_images.Config, BLOCK | changes, "corpora.c.read")
    return list(labelled_images.read(folder, block))


def refused(folder: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as error:
        read(folder, **changes)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{folder}/", "")


def test_every_row_is_decoded(tmp_path: Path) -> None:
    write(tmp_path, [encode_png(pixels) for pixels in PIXELS], ["x", "y", "x"])
    [(split, batch)] = read(tmp_path)
    assert split == "train"
    assert batch.schema == tables.RAW_IMAGE
    assert batch["pixels"].to_pylist() == [pixels.tobytes() for pixels in PIXELS]
    assert batch["label"].to_pylist() == ["x", "y", "x"]
    assert (batch["height"].to_pylist(), batch["width"].to_pylist()) == ([2] * 3, [3] * 3)
    assert batch["reject"].null_count == 3


def test_a_picture_of_another_size_is_refused_by_its_row(tmp_path: Path) -> None:
    write(tmp_path, [encode_png(PIXELS[0]), encode_png(PIXELS[1].T)], ["x", "y"])
    assert refused(tmp_path) == (
        "a.parquet, row 1: got a picture of 3 x 2 pixels; expected 2 x 3, height by width. "
        "Scale it, or leave it out."
    )


def test_broken_bytes_are_refused_by_their_row(tmp_path: Path) -> None:
    write(tmp_path, [encode_png(PIXELS[0]), b"\xff\xd8\xff"], ["x", "y"])
    assert refused(tmp_path) == (
        "a.parquet, row 1: got bytes that are no PNG file (other bytes); expected a picture as a "
        "PNG file. Save it again, or leave it out."
    )


def test_a_row_without_picture_or_label_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [encode_png(PIXELS[0])] * 2, ["x", None])
    assert refused(tmp_path) == "a.parquet, row 1: got no label; expected a picture and its label."
    write(tmp_path, [None], ["x"])
    assert refused(tmp_path) == "a.parquet, row 0: got no image; expected a picture and its label."


def test_a_file_without_rows_or_with_other_columns_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [], [])
    assert "got no row; expected one picture at least." in refused(tmp_path)
    tables.write(tmp_path / "a.parquet", tables.RAW_PAIR.empty_table())
    assert "expected columns image binary, label string" in refused(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    assert "expected a Parquet file" in refused(tmp_path)
    (tmp_path / "a.parquet").unlink()
    assert "got no such file" in refused(tmp_path)


def test_labels_that_look_alike_are_refused(tmp_path: Path) -> None:
    write(tmp_path, [encode_png(PIXELS[0])] * 2, ["x", "X"])
    assert "got the labels" in refused(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"files": {}}, "files: got no split"),
        ({"files": {"train": []}}, "files.train: got no file"),
        ({"files": {"train": ["../a"]}}, "files.train: got ../a"),
        ({"image_height": 0}, "image_height: got 0; expected from 1 to 1024 pixels."),
        ({"image_width": 2000}, "image_width: got 2000; expected from 1 to 1024 pixels."),
    ],
)
def test_a_block_that_cannot_be_read_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    assert words in refused(tmp_path, **changes)
