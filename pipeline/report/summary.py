"""The few numbers that `dvc metrics` and `dvc exp show` compare: each setting's score."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.cross_validation import CrossValidation
from pipeline.report.results import TEST, Group

_DECIMALS = 6  # as in the metrics of a run


@dataclass(frozen=True, slots=True)
class _Entry:
    """A setting's scores on a corpus or a cross-validated text; `score` is their name."""

    setting: str
    corpus: str
    score: str
    values: list[float]


def to_json(groups: Sequence[Group], cross_validations: Sequence[CrossValidation]) -> str:
    """The mean of each setting's main score, and its standard deviation: `lstm.perplexity` and
    `lstm.deviation`. The name of a setting on several corpora begins with the corpus.

    All scores come before the deviations, because `dvc exp show` cuts off the last columns. The
    deviation is missing for one value. Values are those of the seeds. For a cross-validated text
    they are those of the folds, each the mean over its seeds; the single folds have no entries.

    The score has its name in the metrics; a validation score has the prefix `valid_`."""
    entries = list(_entries(groups, cross_validations))
    corpora = Counter(entry.setting for entry in entries)
    names = [
        entry.setting if corpora[entry.setting] == 1 else f"{entry.corpus}.{entry.setting}"
        for entry in entries
    ]
    scores = {
        f"{name}.{entry.score}": round(float(np.mean(entry.values)), _DECIMALS)
        for name, entry in zip(names, entries, strict=True)
    }
    deviations = {
        f"{name}.deviation": round(float(np.std(entry.values, ddof=1)), _DECIMALS)
        for name, entry in zip(names, entries, strict=True)
        if len(entry.values) > 1
    }
    return json.dumps(scores | deviations, indent=2, ensure_ascii=False) + "\n"


def _entries(
    groups: Sequence[Group], cross_validations: Sequence[CrossValidation]
) -> Iterator[_Entry]:
    for over_folds in cross_validations:
        for of_folds in over_folds.settings:
            values = of_folds.values(_key(over_folds))
            yield _Entry(of_folds.name, over_folds.text.name, _name(over_folds), values)
        for single in over_folds.single:
            values = single.values(_key(over_folds))
            yield _Entry(single.name, single.first.run.corpus, _name(over_folds), values)
    for group in groups:
        if group.fold_of is not None:
            continue
        for of_seeds in group.settings:
            values = of_seeds.values(_key(group))
            yield _Entry(of_seeds.name, group.corpus, _name(group), values)


def _key(group: Group | CrossValidation) -> str:
    return f"{group.split}.{group.task.main}.score"


def _name(group: Group | CrossValidation) -> str:
    return group.task.main if group.split == TEST else f"{group.split}_{group.task.main}"
