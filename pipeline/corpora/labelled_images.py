"""Parquet files of PNG pictures with a label each, such as those of the built-in `toy_pictures`.

All pictures of a corpus have one size. Colours become their brightness."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.core.images import check_size, decode_png
from pipeline.corpora import check_files_inside, check_labels, corpus_file

KIND = "image"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files (`tables.IMAGES`) by split (`all` for rows to be split), and the size of each
    picture in pixels."""

    files: dict[str, tuple[str, ...]]
    image_height: int
    image_width: int

    def __post_init__(self) -> None:
        check_files_inside(self.files)
        for split, names in self.files.items():
            if not names:
                raise refuse(f"files.{split}", "no file", "one Parquet file at least")
        check_size(self)


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read and decode every row of every file under `raw`.

    UserError for a picture of another size, for bytes that are no PNG file, and for a row without
    a picture or a label."""
    size = (config.image_height, config.image_width)
    for split, names in config.files.items():
        for name in names:
            path = corpus_file(raw, name)
            first = 0
            for batch in tables.batches(path, tables.IMAGES):
                yield split, _decode(batch, path, first, size)
                first += len(batch)
            if not first:
                raise refuse(str(path), "no row", "one picture at least", "Name another file.")


def _decode(batch: pa.RecordBatch, path: Path, first: int, size: tuple[int, int]) -> pa.RecordBatch:
    """Decode a batch as `tables.RAW_IMAGE`; `first` is the number of its first row in the file."""
    for column in ("image", "label"):
        if batch[column].null_count:
            row = first + pc.index(pc.is_null(batch[column]), True).as_py()
            raise refuse(f"{path}, row {row}", f"no {column}", "a picture and its label")
    check_labels(str(path), pc.unique(batch["label"]).to_pylist())

    pixels = [
        decode_png(data, f"{path}, row {first + number}", size).tobytes()
        for number, data in enumerate(batch["image"].to_pylist())
    ]
    columns = [
        pa.array(pixels, pa.binary()),
        pa.repeat(pa.scalar(size[0], pa.int32()), len(batch)),
        pa.repeat(pa.scalar(size[1], pa.int32()), len(batch)),
        batch["label"],
        pa.nulls(len(batch), pa.string()),
    ]
    return pa.record_batch(columns, schema=tables.RAW_IMAGE)
