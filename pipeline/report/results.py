"""Data of the report: the settings of `params.yaml` with the scores of their runs, grouped by task
and corpus, ranked and compared in pairs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core import config, params, tables
from pipeline.core.errors import refuse
from pipeline.report.fold_texts import FoldText, cross_validated
from pipeline.scoring import metrics_file, seeds
from pipeline.scoring.folds import FoldPair
from pipeline.scoring.seeds import SettingPair, SettingScore
from pipeline.scoring.significance import Bootstrap, Pair, pairs
from pipeline.scoring.tasks import Scoring, load_scoring, promotion, text_config
from pipeline.text.tokens import Text

TEST, VALID = "test", "valid"  # the splits that can rank the settings
LEVEL = 0.05  # of significance
# Metrics that are not numbers, and the keys of a score with its interval.
_NO_NUMBERS = {"run", "family", "task", "corpus", "weights", "ranked_by", "notes", "signature"}
_ESTIMATE = {"score", "low", "high"}


@dataclass(frozen=True, slots=True)
class Result:
    """A run as `params.yaml` has it, and its `reports/metrics/<run>.json`.

    `is_trained`: by gradients, or it contains a run that is, as a mixture of models does."""

    name: str
    run: params.Run
    metrics: dict[str, Any]
    is_trained: bool

    def metric(self, dotted: str) -> Any:
        """The metric under a dotted key; None if this run has none."""
        value: Any = self.metrics
        for key in dotted.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def scored_splits(self, main: str) -> list[str]:
        """The splits with the score `main`, in the order of the metrics."""
        return [
            name
            for name, value in self.metrics.items()
            if isinstance(value, dict) and main in value
        ]


@dataclass(frozen=True, slots=True)
class SettingResults:
    """A setting on one corpus: its runs in the order of params.yaml, and the mean of their scores
    with an interval that covers seeds and test sentences."""

    name: str
    results: tuple[Result, ...]
    supports_claims: bool  # the variation over seeds and rows is known, so that it can be compared
    score: SettingScore

    @property
    def first(self) -> Result:
        """The run whose outputs are shown."""
        return self.results[0]

    @property
    def is_fitted(self) -> bool:
        """Whether the family is fitted without gradients."""
        return self.first.run.optim is None

    @property
    def is_deterministic(self) -> bool:
        """Whether a further seed would change nothing: no part is trained by gradients."""
        return not any(result.is_trained for result in self.results)

    def values(self, dotted: str) -> list[float]:
        """The metric of every run; none if a run lacks it."""
        values = [result.metric(dotted) for result in self.results]
        return [] if None in values else values


@dataclass(frozen=True, slots=True)
class Group:
    """The settings of one task on one corpus, the best first; `text` is the corpus's block `text`.

    `split` ranks them: `TEST`, or `VALID` if the test set is not to be looked at.
    `pairs` has the test of every pair of settings that support claims. `model_pairs` compares the
    first runs of all settings, as models; it is empty if all settings support claims.
    `comparable` are the settings that are scored on the same selection of the rows, and `untested`
    says which pairs cannot be compared, and why.

    `fold_of` is the cross-validated text that the corpus is one fold of, if any. One fold supports
    no claims and has no tests: settings are compared over folds (`cross_validation`)."""

    task: Scoring
    corpus: str
    split: str
    text: Text | None
    settings: tuple[SettingResults, ...]
    pairs: tuple[SettingPair, ...]
    model_pairs: tuple[Pair, ...]
    comparable: tuple[tuple[str, ...], ...]
    untested: str
    fold_of: FoldText | None

    @property
    def results(self) -> list[Result]:
        """The runs of all settings."""
        return [result for setting in self.settings for result in setting.results]

    @property
    def key(self) -> str:
        return f"{self.settings[0].first.run.task}_{self.corpus}"

    @property
    def split_name(self) -> str:
        """The name of the split in sentences: "test" or "validation"."""
        return split_name(self.split)

    @property
    def notes(self) -> list[str]:
        """Warnings of the evaluate stage about the scores, without duplicates, and `untested`."""
        notes = [note for result in self.results for note in result.metrics.get("notes", [])]
        return list(dict.fromkeys([*notes, *filter(None, [self.untested])]))

    def compared_with(self, name: str) -> set[str]:
        """The settings that a test compares with `name`."""
        return compared_with(name, self.pairs)

    def beaten_by(self, name: str, level: float) -> list[str]:
        """The settings that `name` is significantly better than, in order of rank; `level` applies
        to the corrected p."""
        ranked = [setting.name for setting in self.settings]
        return beaten(name, ranked, self.pairs, self.task.higher_is_better, level)


def compared_with(name: str, pairs: Sequence[SettingPair | FoldPair]) -> set[str]:
    """The settings that the tests of the `pairs` compare with `name`."""
    both = [{pair.first, pair.second} for pair in pairs]
    return {other for names in both if name in names for other in names - {name}}


def beaten(
    name: str,
    settings: Sequence[str],
    pairs: Sequence[SettingPair | FoldPair],
    higher_is_better: bool,
    level: float,
) -> list[str]:
    """Those of the `settings`, in their order, that `name` is significantly better than by the
    tests of the `pairs`."""
    sign = 1 if higher_is_better else -1
    found = set()
    for pair in pairs:
        if pair.corrected >= level:
            continue
        if pair.first == name and sign * pair.difference > 0:
            found.add(pair.second)
        elif pair.second == name and sign * pair.difference < 0:
            found.add(pair.first)
    return [setting for setting in settings if setting in found]


def ranking_split(evaluation: params.Evaluation) -> str:
    """The split whose scores rank the settings."""
    return TEST if evaluation.test else VALID


def split_name(split: str) -> str:
    """The name of a split in sentences."""
    return "validation" if split == VALID else split


def groups(
    file: Path, metrics: Path, scores: Path, settings: Collection[str] | None = None
) -> list[Group]:
    """Load the runs of the params file (or of the `settings` alone), by task and corpus; UserError
    if one is not evaluated.

    Runs of `unranked` are left out."""
    evaluation = params.evaluation(file)
    left_out = unranked(file)
    runs = {name: params.run(file, name) for name in config.section(file, "runs")}
    by_group: dict[tuple[str, str], list[Result]] = {}
    for name, run in runs.items():
        if (run.task, run.corpus) in left_out:
            continue
        if settings is not None and run.setting not in settings:
            continue
        content = _metrics(metrics / f"{name}.json", run, ranking_split(evaluation))
        result = Result(name, run, content, params.is_trained(file, name))
        by_group.setdefault((run.task, run.corpus), []).append(result)

    # Other runs of the file decide too whether a fold stands alone: it is then a test set.
    folds = cross_validated(file, runs.values())
    return [
        _group(file, results, scores, evaluation, folds.get(key))
        for key, results in sorted(by_group.items())
    ]


def unranked(file: Path) -> list[tuple[str, str]]:
    """Tasks and corpora of the params file whose settings have no score on the ranking split.

    These are tasks without validation scores, if the test set is not to be looked at."""
    if params.evaluation(file).test:
        return []
    runs = [params.run(file, name) for name in config.section(file, "runs")]
    kinds = sorted({(run.task, run.corpus) for run in runs})
    return [(task, corpus) for task, corpus in kinds if promotion(task).validation is None]


def _group(
    file: Path,
    results: list[Result],
    scores: Path,
    evaluation: params.Evaluation,
    fold_of: FoldText | None,
) -> Group:
    split = ranking_split(evaluation)
    first = results[0]
    corpus = first.run.corpus
    task = load_scoring(file, first.name, first.run)
    table = {
        r.name: tables.read(scores / r.name / f"{split}.parquet", task.schema) for r in results
    }

    # Paired tests need the same rows for every run.
    references = table[first.name]
    for run, rows in table.items():
        if not rows["row"].equals(references["row"]):
            path = scores / run / f"{split}.parquet"
            expected = f"the {len(references)} rows of {first.name}"
            raise refuse(str(path), f"{len(rows)} rows", expected, "Run `dvc repro`.")

    # The references select the score, so the table of any run will do.
    task, _ = task.select_scoring(references)
    by_setting: dict[str, list[Result]] = {}
    for result in results:
        by_setting.setdefault(result.run.setting, []).append(result)
    units = {
        name: np.stack([task.units(table[result.name]) for result in of_setting])
        for name, of_setting in by_setting.items()
    }
    compared = [
        seeds.Setting(name, units[name], not any(result.is_trained for result in of_setting))
        for name, of_setting in by_setting.items()
    ]

    # Rank the settings by the mean of their scores.
    ranked = [
        SettingResults(
            setting.name,
            tuple(by_setting[setting.name]),
            setting.is_testable and fold_of is None,
            seeds.estimate(setting, task.score, evaluation.confidence),
        )
        for setting in compared
    ]
    sign = -1 if task.higher_is_better else 1
    ranked.sort(key=lambda setting: (sign * setting.score.mean, setting.name))
    compared.sort(key=lambda setting: [s.name for s in ranked].index(setting.name))

    # Settings that are scored on other selections of the rows cannot be compared.
    first_tables = {setting.name: table[setting.first.name] for setting in ranked}
    comparable, untested = _comparable(first.run.task, first_tables)
    named_pairs = [
        pair
        for names in comparable
        for pair in combinations([setting for setting in compared if setting.name in names], 2)
        if fold_of is None
    ]
    tests = seeds.compare_pairs(named_pairs, task.score, evaluation.confidence, LEVEL)

    model_pairs: list[Pair] = []
    if fold_of is None and not all(setting.supports_claims for setting in ranked):
        bootstrap = Bootstrap.of(evaluation, corpus, split)
        first_units = {setting.name: units[setting.name][0] for setting in ranked}
        first_runs = {setting.name: setting.first.name for setting in ranked}
        for names in comparable:
            group_units = {first_runs[name]: first_units[name] for name in names}
            model_pairs += pairs(group_units, task.score, bootstrap)
    return Group(
        task,
        corpus,
        split,
        text_config(file, corpus),
        tuple(ranked),
        tuple(tests),
        tuple(model_pairs),
        tuple(tuple(names) for names in comparable),
        untested,
        fold_of,
    )


def _comparable(task: str, scores: Mapping[str, pa.Table]) -> tuple[list[list[str]], str]:
    """Group settings that are scored on the same selection of the task, in their order; the note
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


def _metrics(path: Path, run: params.Run, split: str) -> dict[str, Any]:
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
    if not isinstance(metrics.get(split), dict):
        raise refuse(
            str(path),
            f"no scores of the split {split}",
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
