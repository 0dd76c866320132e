"""One file per task, named like the task, exporting `scoring(lowercase, tokenizer)`: how its
predictions are scored.

`lowercase` is the corpus's `text.lowercase`: models of a lowercased corpus never write a capital,
so that a task that scores text by its surface disregards case there. `tokenizer` is BLEU's; a table
that is scored already needs none."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core import config, params, tables
from pipeline.scoring import tokenizers
from pipeline.scoring.significance import Array, Bootstrap, Score
from pipeline.text.tokens import Text

Column = tuple[str, str, str]
"""Title, dotted key below the split in the metrics, format."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """The folders that the stages predict, tokenize and encode wrote for a run, and the block
    `text` of its corpus.

    References and answers are read by `text` before they are compared. Without `encoded` no word
    counts as unknown."""

    predictions: Path
    tokens: Path
    encoded: Path | None
    text: Text


def _no_substitute(table: pa.Table) -> None:
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """Functions and words by which a task's predictions are scored, summed up, ranked and laid out
    in a table.

    `rows(inputs, split)`: the split's scores, row by row, as a table of `schema`. `summary(table,
    bootstrap, limit)`: the numbers of `reports/metrics/<run>.json` for one split, `limit` being the
    split's entry in the corpus's `limits.json`. `by_length(table, bootstrap)`: the main score by
    length, as rows of `reports/plots/<run>/by_length.csv`. `units(table)` and `score(sums)`: what
    is resampled and how it is scored, for ranks and paired tests, where `higher_is_better` or not;
    `difference` is the name of what `score` gives. `main`: the key of the score shown first;
    `main_title` is its name over a column, `main_name` in a sentence, and `scale` its ends, if it
    has any. `columns` stand beside it and `further` ones below; `title`, `length` (what `by_length`
    counts), `unit` (what the training loss is the mean over) and `meaning` are the report's words
    for all of it. `book_bleu`: whether the answers to samples are sentences that the book's BLEU
    can score. `substitute(table)`: another scoring, with the reason, where this one gives all
    answers to these rows the same score."""

    schema: pa.Schema
    rows: Callable[[Inputs, str], pa.Table]
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
    substitute: Callable[[pa.Table], "tuple[Scoring, str] | None"] = _no_substitute

    def select_scoring(self, table: pa.Table) -> "tuple[Scoring, str]":
        """Scoring that ranks the rows of `table`, chosen by their references alone, and the reason
        if it is another one."""
        return self.substitute(table) or (self, "")


def load_scoring(file: Path, name: str, run: params.Run, tokenizer: str = "13a") -> Scoring:
    """The scoring of the run `name` of the params file `file`, by its task and its corpus's
    case."""
    task = config.named_module("pipeline.scoring.tasks", run.task, f"runs.{name}.task")
    scoring: Scoring = task.scoring(text_config(file, run.corpus).lowercase, tokenizer)
    return scoring


def text_config(file: Path, corpus: str) -> Text:
    """The block `text` of a corpus of the params file."""
    where = f"corpora.{corpus}.text"
    return config.load(Text, config.section(file, where), where)


def bleu_tokenizer(file: Path, corpus: str, tokens: Path) -> tuple[params.Tokenizer, str]:
    """BLEU's tokenizer for a corpus of the params file, with its tokens in the folder `tokens`, and
    a warning or "".

    `auto` goes by the script of the corpus's references. A corpus that is not of pairs has none:
    its tokenizer is 13a."""
    where = f"corpora.{corpus}.bleu"
    if tables.schema(tokens / "test.parquet", *tables.TOKENS.values()) != tables.TOKENS_PAIR:
        return "13a", ""
    return tokenizers.resolve(
        params.corpus(file, corpus).bleu, tokenizers.references(tokens), where
    )
