"""The few numbers that `dvc metrics` and `dvc exp show` compare: each setting's score."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.report.results import TEST, Group

_DECIMALS = 6  # as in the metrics of a run


def to_json(groups: Sequence[Group]) -> str:
    """The mean over the seeds of each setting's main score, their standard deviation, and their
    number, by corpus and setting. The deviation is missing for one seed.

    The score has its name in the metrics; a validation score has the prefix `valid_`."""
    content: dict[str, Any] = {}
    for group in groups:
        main = f"{group.split}.{group.task.main}.score"
        name = group.task.main if group.split == TEST else f"{group.split}_{group.task.main}"
        for setting in group.settings:
            values = np.asarray(setting.values(main))
            entry: dict[str, Any] = {name: round(float(values.mean()), _DECIMALS)}
            if len(values) > 1:
                entry["deviation"] = round(float(values.std(ddof=1)), _DECIMALS)
            entry["seeds"] = len(values)
            content.setdefault(group.corpus, {})[setting.name] = entry
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
