"""The few numbers that `dvc metrics` and `dvc exp show` compare: each setting's score."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.report.cross_validation import CrossValidation
from pipeline.report.results import TEST, Group

_DECIMALS = 6  # as in the metrics of a run


def to_json(groups: Sequence[Group], cross_validations: Sequence[CrossValidation]) -> str:
    """The mean of each setting's main score, the standard deviation and the number of values, by
    corpus and setting. The deviation is missing for one value.

    Values are those of the seeds. For a cross-validated text, whose name is in the place of the
    corpus's, they are those of the folds, each the mean over its seeds.

    The score has its name in the metrics; a validation score has the prefix `valid_`."""
    content: dict[str, Any] = {}
    for over_folds in cross_validations:
        for setting in over_folds.settings:
            entry = _entry(over_folds, setting.values(_key(over_folds)), "folds")
            content.setdefault(over_folds.text.name, {})[setting.name] = entry
    for group in groups:
        for of_seeds in group.settings:
            entry = _entry(group, of_seeds.values(_key(group)), "seeds")
            content.setdefault(group.corpus, {})[of_seeds.name] = entry
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _key(group: Group | CrossValidation) -> str:
    return f"{group.split}.{group.task.main}.score"


def _entry(group: Group | CrossValidation, values: Sequence[float], count: str) -> dict[str, Any]:
    name = group.task.main if group.split == TEST else f"{group.split}_{group.task.main}"
    entry: dict[str, Any] = {name: round(float(np.mean(values)), _DECIMALS)}
    if len(values) > 1:
        entry["deviation"] = round(float(np.std(values, ddof=1)), _DECIMALS)
    return entry | {count: len(values)}
