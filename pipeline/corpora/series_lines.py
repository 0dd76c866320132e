"""A series of numbers, one per line. A row is a number with the `history` numbers before it.

The files are consecutive parts of one series: those of train, valid, test, then those of further
splits. So the first row of valid has the end of train as its history. The first `history` numbers
of the series are no rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.core.errors import at_least_one, refuse
from pipeline.corpora import check_files_inside, inputs_and_values, read_numbers

KIND = "numbers"
_ORDER = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split (`all` for rows to be split), and the number of values before a row
    that are its inputs."""

    files: dict[str, tuple[str, ...]]
    history: int

    def __post_init__(self) -> None:
        check_files_inside(self.files)
        at_least_one(history=self.history)


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read the rows of each split; UserError for a series that is not longer than the history."""
    # The order of the keys means nothing in YAML.
    ordered = [split for split in _ORDER if split in config.files]
    ordered += [split for split in config.files if split not in _ORDER]
    splits = [split for split in ordered for _ in config.files[split]]
    names = [name for split in ordered for name in config.files[split]]
    parts = [read_numbers(raw, name) for name in names]
    for name, part in zip(names, parts, strict=True):
        if part.shape[1] > 1:
            raise refuse(
                str(raw / name), f"{part.shape[1]} numbers in a line", "one", "Name another file."
            )
    values = np.concatenate([part[:, 0] for part in parts])
    if len(values) <= config.history:
        got = f"{config.history} for a series of {len(values)} values"
        todo = "Set a shorter history, or read more values."
        raise refuse("read.history", got, f"less than {len(values)}", todo)

    # A window has the inputs of a row and its value.
    windows = np.lib.stride_tricks.sliding_window_view(values, config.history + 1)
    end = 0
    for split, part in zip(splits, parts, strict=True):
        first = max(end - config.history, 0)
        end += len(part)
        rows = windows[first : max(end - config.history, 0)]
        yield split, inputs_and_values(rows)
