"""Scores of each task: one module per task, with the task's name.

It exports `scoring(lowercase, tokenizer)`, PROMOTION and INTERFACE, so that no other module has to
name a task.

`lowercase` is the corpus's `text.lowercase`. Models of a lowercased corpus never write capitals, so
metrics on text ignore case there. `tokenizer` is BLEU's; a table that is scored already needs
none."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core import config, params, tables
from pipeline.scoring import tokenizers
from pipeline.scoring.significance import Array, Bootstrap, Score
from pipeline.text.tokens import Text, load_text

Column = tuple[str, str, str]
"""Title, dotted key below the split in the metrics, format."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Folders of the stages predict, tokenize and encode for a run, and the block `text` of its
    corpus.

    `text` normalizes references and outputs before they are compared; it is None for a corpus
    without text. Without `encoded` no word counts as unknown."""

    predictions: Path
    tokens: Path
    encoded: Path | None
    text: Text | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """Functions that score a task's predictions, and the report's words for the scores."""

    # rows(inputs, split): the scores of a split, row by row, as a table of `schema`.
    schema: pa.Schema
    rows: Callable[[Inputs, str], pa.Table]
    # summary(table, bootstrap, limit): the split's metrics in reports/metrics/<run>.json; `limit`
    # is the split's entry in the corpus's limits.json.
    summary: Callable[[pa.Table, Bootstrap, dict[str, float]], dict[str, Any]]
    # by_length(table, bootstrap): the main score as rows of reports/plots/<run>/by_length.csv.
    by_length: Callable[[pa.Table, Bootstrap], list[dict[str, Any]]]

    # Ranks and paired tests: score(sums) of the resampled units(table), which are sums over the
    # blocks of dependent rows. `sums(table)` are those of each row. `difference` names the unit of
    # `score`.
    sums: Callable[[pa.Table], Array]
    units: Callable[[pa.Table], Array]
    score: Score
    higher_is_better: bool
    difference: str

    # The main score: its key in the metrics, the score of summed sums(table), its name above a
    # column and in a sentence, and its lowest and highest value.
    main: str
    main_score: Score
    main_title: str
    main_name: str
    scale: tuple[float, float] | None
    decimals: int = 2  # of the main score in the report
    divided_by: str = "length"  # what by_length.csv divides the main score by

    # The report: columns next to the main score, columns of the further scores, the section's
    # title, the unit that by_length counts, the unit that the training loss is the mean over, and
    # the explanation of the scores.
    columns: tuple[Column, ...]
    further: tuple[Column, ...]
    title: str
    length: str
    unit: str
    meaning: str

    # True if sample outputs are sentences that the book's BLEU can score.
    d2l_bleu: bool
    # substitute(table): another scoring and the reason, if this one gives the same score to all
    # outputs for these references.
    substitute: Callable[[pa.Table], "tuple[Scoring, str] | None"] = lambda table: None

    @property
    def form(self) -> str:
        """Format of the main score."""
        return f"{{:.{self.decimals}f}}"

    @property
    def interval_decimals(self) -> int:
        """Decimals of the interval of `score`."""
        return self.decimals if self.higher_is_better else max(self.decimals, 3)

    @property
    def difference_decimals(self) -> int:
        """Decimals of a difference in `score`."""
        return self.decimals if self.higher_is_better else max(self.decimals, 4)

    def select_scoring(self, table: pa.Table) -> "tuple[Scoring, str]":
        """Select the scoring that ranks the rows of `table` by their references alone; the reason
        is "" unless it is a substitute."""
        return self.substitute(table) or (self, "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """How runs of a task are selected, compared and guarded when a challenger is evaluated.

    `guards`: names in `pipeline.promotion.guards`; `score` is the task's own score. `validation`:
    the key below `valid` in the metrics that selects the challenger, and whether higher is better;
    None if the task has no validation score. `likelihood_text`: the text whose likelihood is
    scored, if any. The flags say what must be the same for two models to be comparable.
    """

    guards: tuple[str, ...]
    validation: tuple[str, bool] | None
    likelihood_text: str | None
    # The text itself is the only input: likelihoods of differently normalized texts differ.
    same_normalization: bool
    # The vocabulary is the set of answers: with another one the task itself is another.
    same_vocabulary: bool
    # The column of the scores that identifies what the task selected to be scored, and the reason
    # why two runs with different values cannot be compared; None if everything is scored.
    selection: tuple[str, str] | None
    # False for scores on benchmarks, which have no splits and no training rows.
    has_splits: bool
    # Columns of the prompts (of several, joined by tabs) and of the reference in a split's tokens,
    # and the predictions of its rows in order: read(folder of predictions, split).
    outputs: tuple[tuple[str, ...], str, Callable[[Path, str], list[str]]] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Interface:
    """Interface of a task's versions, for MLflow's signature.

    `outputs`: MLflow's types of the output columns by name. `params`: types and defaults by name.
    `example`: an input text. `command`: the subcommand of `seqline` that gives the same answers."""

    outputs: dict[str, str]
    params: dict[str, tuple[str, Any]]
    example: str
    command: str | None


def promotion(task: str) -> Promotion:
    """PROMOTION of the task."""
    rules: Promotion = config.named_module("pipeline.scoring.tasks", task, "task").PROMOTION
    return rules


def interface(task: str) -> Interface:
    """INTERFACE of the task."""
    served: Interface = config.named_module("pipeline.scoring.tasks", task, "task").INTERFACE
    return served


def guards() -> dict[str, tuple[str, ...]]:
    """Guards of every task."""
    return {task: promotion(task).guards for task in config.module_names("pipeline.scoring.tasks")}


def load_scoring(file: Path, name: str, run: params.Run, tokenizer: str = "13a") -> Scoring:
    """Load the scoring for the task of the run `name` of the params file `file`."""
    task = config.named_module("pipeline.scoring.tasks", run.task, f"runs.{name}.task")
    text = text_config(file, run.corpus)
    scoring: Scoring = task.scoring(text is not None and text.lowercase, tokenizer)
    return scoring


def text_config(file: Path, corpus: str) -> Text | None:
    """The block `text` of a corpus of the params file; None for a corpus without text."""
    where = f"corpora.{corpus}.text"
    values = config.section(file, where)
    return load_text(values, values is not None, where)


def bleu_tokenizer(file: Path, corpus: str, tokens: Path) -> tuple[params.Tokenizer, str]:
    """Select BLEU's tokenizer for a corpus of the params file; return it with a warning or "".

    `tokens` is the corpus's folder of the tokenize stage. `auto` depends on the script of the
    references there. A corpus without pairs has no references: its tokenizer is 13a."""
    where = f"corpora.{corpus}.bleu_tokenizer"
    if tables.schema(tokens / "test.parquet", *tables.TOKENS.values()) != tables.TOKENS_PAIR:
        return "13a", ""
    return tokenizers.resolve(
        params.corpus(file, corpus).bleu_tokenizer, tokenizers.references(tokens), where
    )
