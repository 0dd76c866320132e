"""Data of the report: the runs of `params.yaml` with their scores, grouped by task and corpus,
ranked and compared in pairs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core import config, params, tables
from pipeline.core.errors import refuse
from pipeline.scoring import metrics_file
from pipeline.scoring.significance import Bootstrap, Pair, holm, pairs
from pipeline.scoring.tasks import Scoring, load_scoring, promotion, text_config
from pipeline.text.tokens import Text

SPLIT = "test"  # the split that ranks the runs
# Metrics that are not numbers, and the keys of a score with its interval.
_NO_NUMBERS = {"run", "family", "task", "corpus", "ranked_by", "notes", "signature"}
_ESTIMATE = {"score", "low", "high"}


@dataclass(frozen=True, slots=True)
class Result:
    """A run as `params.yaml` has it, and its `reports/metrics/<run>.json`."""

    name: str
    run: params.Run
    metrics: dict[str, Any]

    def metric(self, dotted: str) -> Any:
        """The metric under a dotted key; None if this run has none."""
        value: Any = self.metrics
        for key in dotted.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one task on one corpus, the best first, and the tests of pairs; `text` is the
    corpus's block `text`.

    Every pair of runs has a test, except those that cannot be compared: `untested` says which and
    why."""

    task: Scoring
    corpus: str
    text: Text
    results: tuple[Result, ...]
    pairs: tuple[Pair, ...]
    untested: str = ""

    @property
    def key(self) -> str:
        return f"{self.results[0].run.task}_{self.corpus}"

    @property
    def notes(self) -> list[str]:
        """Warnings of the evaluate stage about the scores, without duplicates, and `untested`."""
        notes = [note for result in self.results for note in result.metrics.get("notes", [])]
        return list(dict.fromkeys([*notes, *filter(None, [self.untested])]))

    def beaten_by(self, name: str, level: float) -> list[str]:
        """The runs that `name` is significantly better than, in order of rank; `level` applies to
        the corrected p."""
        sign = 1 if self.task.higher_is_better else -1
        beaten = set()
        for pair in self.pairs:
            if pair.corrected >= level:
                continue
            if pair.first == name and sign * pair.difference > 0:
                beaten.add(pair.second)
            elif pair.second == name and sign * pair.difference < 0:
                beaten.add(pair.first)
        return [result.name for result in self.results if result.name in beaten]


def groups(file: Path, metrics: Path, scores: Path) -> list[Group]:
    """Load the runs of the params file, by task and corpus; UserError if one is not evaluated."""
    evaluation = params.evaluation(file)
    by_group: dict[tuple[str, str], list[Result]] = {}
    for name in config.section(file, "runs"):
        run = params.run(file, name)
        result = Result(name, run, _metrics(metrics / f"{name}.json", run))
        by_group.setdefault((run.task, run.corpus), []).append(result)
    return [_group(file, results, scores, evaluation) for _, results in sorted(by_group.items())]


def _group(file: Path, results: list[Result], scores: Path, evaluation: params.Evaluation) -> Group:
    first = results[0]
    corpus = first.run.corpus
    task = load_scoring(file, first.name, first.run)
    table = {
        r.name: tables.read(scores / r.name / f"{SPLIT}.parquet", task.schema) for r in results
    }

    # Paired tests need the same rows for every run.
    references = table[first.name]
    for run, rows in table.items():
        if not rows["row"].equals(references["row"]):
            path = scores / run / f"{SPLIT}.parquet"
            expected = f"the {len(references)} rows of {first.name}"
            raise refuse(str(path), f"{len(rows)} rows", expected, "Run `dvc repro`.")

    # The references select the score, so the table of any run will do.
    task, _ = task.select_scoring(references)
    units = {run: task.units(rows) for run, rows in table.items()}
    sign = -1 if task.higher_is_better else 1
    sort_key = {
        run: sign * float(task.score(matrix.sum(0, keepdims=True))[0])
        for run, matrix in units.items()
    }
    ranked = sorted(results, key=lambda result: (sort_key[result.name], result.name))

    bootstrap = Bootstrap.of(evaluation, corpus, SPLIT)
    comparable, untested = _comparable(first.run.task, {r.name: table[r.name] for r in ranked})
    tests = [
        test
        for names in comparable
        for test in pairs({name: units[name] for name in names}, task.score, bootstrap)
    ]
    corrected = holm([test.p for test in tests])
    tests = [replace(test, corrected=p) for test, p in zip(tests, corrected, strict=True)]
    return Group(task, corpus, text_config(file, corpus), tuple(ranked), tuple(tests), untested)


def _comparable(task: str, scores: Mapping[str, pa.Table]) -> tuple[list[list[str]], str]:
    """Group the runs that are scored on the same selection of the task, in their order; the note
    says why there are several groups, and is "" for one."""
    selection = promotion(task).selection
    if selection is None:
        return [list(scores)], ""

    column, reason = selection
    groups: list[list[str]] = []
    for name, table in scores.items():
        same = (group for group in groups if scores[group[0]][column].equals(table[column]))
        group = next(same, None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    if len(groups) == 1:
        return groups, ""

    parts = " and ".join(", ".join(f"`{name}`" for name in group) for group in groups)
    return groups, f"no test compares {parts} with each other: {reason}"


def _metrics(path: Path, run: params.Run) -> dict[str, Any]:
    metrics = metrics_file.read(path)
    if (metrics.get("task"), metrics.get("corpus")) != (run.task, run.corpus):
        raise refuse(
            str(path),
            "another task's or corpus's scores",
            f"{run.task} on {run.corpus}",
            "Run `dvc repro`.",
        )
    if (key := _damaged({"parameters": None} | metrics)) is not None:
        raise refuse(
            f"{path}: {key}", "no number", "what evaluate writes", "Remove it. Run `dvc repro`."
        )
    if not isinstance(metrics.get(SPLIT), dict):
        raise refuse(
            str(path),
            f"no scores of the split {SPLIT}",
            "what evaluate writes",
            "Remove it. Run `dvc repro`.",
        )
    return metrics


def _damaged(metrics: dict[str, Any]) -> str | None:
    """Dotted key of the first metric that is neither a number nor a score with both bounds; None if
    there is none."""
    for key, value in metrics.items():
        if isinstance(value, dict):
            # A dict with any key of an estimate must have all three.
            missing = _ESTIMATE - value.keys() if _ESTIMATE & value.keys() else set()
            inner_key = min(missing) if missing else _damaged(value)
            if inner_key is not None:
                return f"{key}.{inner_key}"
        elif key not in _NO_NUMBERS and type(value) not in (int, float):
            return key
    return None
