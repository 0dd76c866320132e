"""Reader of `reports/metrics/<run>.json`, the scores that the evaluate stage writes."""

from pathlib import Path
from typing import Any

from pipeline.core.errors import read_json


def read(path: Path, todo: str | None = None) -> dict[str, Any]:
    """Read the scores of one run; UserError if the file is absent or damaged.

    `todo` replaces the advice of the error, for a copy that `dvc repro` does not write."""
    todo = todo or f"Run `dvc repro -f evaluate@{path.stem}`."
    return read_json(path, f"the scores of the run {path.stem}", todo)
