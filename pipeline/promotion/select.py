"""Selection of the challenger among runs of one task and corpus: the best on the valid split.

The test split must not choose. The best of twenty equal runs on the test set looks better than the
champion by luck alone, and a test that knows nothing of the other nineteen calls it significant far
more often than its level says. Runs of one setting with other seeds are contenders like any other.
Nothing but likelihood is known of a translator on the valid split, which is not decoded: it is
chosen by perplexity."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import refuse

# by task: the key below `valid` in the metrics, and whether higher is better
_BEST: dict[str, tuple[str, bool]] = {
    "translation": ("perplexity.score", False),
    "language_model": ("bits_per_character", False),
    "classification": ("accuracy.score", True),
    "fill_blank": ("pseudo_perplexity.score", False),
    "masked_language_model": ("masked_perplexity.score", False),
}


def select_challenger(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """The run with the best validation score, given the contents of `reports/metrics/<run>.json` by
    run; of equal ones the first. Word vectors, whose judges know no splits, have none: the first
    run given is taken, lest the test choose."""
    assert metrics
    tasks = {str(found["task"]) for found in metrics.values()}
    assert len(tasks) == 1, f"runs of {', '.join(sorted(tasks))} cannot challenge one champion"
    if (task := tasks.pop()) not in _BEST:
        return next(iter(metrics))
    key, higher = _BEST[task]
    return min(metrics, key=lambda run: (-1 if higher else 1) * _valid(run, metrics[run], key))


def load_metrics(folder: Path, runs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The contents of `<run>.json` in the folder of each run; UserError for one that has not been
    evaluated."""
    found = {}
    for run in runs:
        path = folder / f"{run}.json"
        if not path.exists():
            raise refuse(
                str(path), "no such file", f"the scores of the run {run}", "Run `dvc repro`."
            )
        found[run] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _valid(run: str, found: Mapping[str, Any], key: str) -> float:
    here: Any = found.get("valid")
    for part in key.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    if not isinstance(here, int | float):
        raise refuse(
            f"the metrics of {run}", f"no valid.{key}", "a validation score", "Run `dvc repro`."
        )
    return float(here)
