"""One file per task, named like the task, exporting `scoring(lowercase)`: the `Scoring` of its predictions on a corpus.

`lowercase` is the corpus's `text.lowercase`: models of a lowercased corpus never write a capital, so that a task that scores
text by its surface disregards case there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import config, params
from pipeline.scoring.resampling import Array, Bootstrap, Score

Column = tuple[str, str, str]
"""Title, dotted key below the split in the metrics, format."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """How a task's predictions are scored, summed up, ranked and laid out in a table.

    `rows(predictions, tokens, split)`: the split's scores, row by row, as a table of `schema`.
    `summary(table, bootstrap, limit)`: the numbers of `reports/metrics/<run>.json` for one split, `limit` being the split's
    entry in the corpus's `limits.json`.
    `by_length(table, bootstrap)`: the main score by length, as rows of `reports/plots/<run>/by_length.csv`.
    `units(table)` and `score(sums)`: what is resampled and how it is scored, for ranks and paired tests, where
    `higher_is_better` or not; `difference` is the name of what `score` gives.
    `main`: the key of the score shown first; `main_title` is its name over a column, `main_name` in a sentence, and `scale`
    its ends, if it has any. `columns` stand beside it and `further` ones below; `title`, `length` (what `by_length` counts),
    `unit` (what the training loss is the mean over) and `meaning` are the report's words for all of it.
    `book_bleu`: whether the answers to samples are sentences that the book's BLEU can score.
    """

    schema: pa.Schema
    rows: Callable[[Path, Path, str], pa.Table]
    summary: Callable[[pa.Table, Bootstrap, dict[str, float]], dict[str, Any]]
    by_length: Callable[[pa.Table, Bootstrap], list[dict[str, Any]]]
    units: Callable[[pa.Table], Array]
    score: Score
    higher_is_better: bool
    difference: str
    main: str
    main_title: str
    main_name: str
    scale: tuple[float, float] | None
    columns: tuple[Column, ...]
    further: tuple[Column, ...]
    title: str
    length: str
    unit: str
    meaning: str
    book_bleu: bool


def of_run(file: Path, name: str, run: params.Run) -> Scoring:
    """The scoring of the run `name` of the params file `file`, by its task and its corpus's case."""
    task = config.named_module("pipeline.scoring.tasks", run.task, f"runs.{name}.task")
    made: Scoring = task.scoring(config.section(file, f"corpora.{run.corpus}.text.lowercase"))
    return made
