"""Selection of the challenger among runs of one task and corpus: the best on the valid split.

The test split must not choose. The best of twenty equal runs on the test set looks better than the
champion by luck alone, and a test that does not know of the other nineteen finds it significant far
more often than its level says. Runs of one configuration with different seeds are contenders like
any other. A translator is chosen by perplexity, which does not depend on the search."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import refuse
from pipeline.dag.paths import RunPaths
from pipeline.scoring import metrics_file
from pipeline.scoring.tasks import promotion


def select_challenger(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the run with the best validation score; of equal ones the first.

    `load_metrics` has the content of `reports/metrics/<run>.json` by run. Word vectors have no
    validation score, as their benchmarks have no splits: the first run is returned, since the test
    must not choose."""
    assert metrics
    tasks = {_task(run, content) for run, content in metrics.items()}
    assert len(tasks) == 1, f"runs of {', '.join(sorted(tasks))} cannot challenge one champion"

    validation = promotion(tasks.pop()).validation
    if validation is None:
        return next(iter(metrics))
    key, higher_is_better = validation
    # `min` returns the first of equal ones.
    sign = -1 if higher_is_better else 1
    return min(metrics, key=lambda run: sign * _validation_score(run, metrics[run], key))


def best_run(root: Path, runs: Sequence[str]) -> str:
    """Return the evaluated run of the project with the best validation score; `runs` are of one
    task on one corpus."""
    paths = RunPaths(root)
    # The metrics of all runs are in one folder.
    [folder] = {paths.option("evaluate", run, "metrics").parent for run in runs}
    return select_challenger(load_metrics(folder, runs))


def load_metrics(folder: Path, runs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Load `<run>.json` from the folder for each run; UserError if one is absent or damaged."""
    return {run: metrics_file.read(folder / f"{run}.json") for run in runs}


def _task(run: str, metrics: Mapping[str, Any]) -> str:
    task = metrics.get("task")
    if not isinstance(task, str):
        raise refuse(
            f"the metrics of {run}",
            "no task",
            "the metrics of an evaluated run",
            f"Run `dvc repro -f evaluate@{run}`.",
        )
    return task


def _validation_score(run: str, metrics: Mapping[str, Any], key: str) -> float:
    value: Any = metrics.get("valid")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if not isinstance(value, int | float):
        raise refuse(
            f"the metrics of {run}", f"no valid.{key}", "a validation score", "Run `dvc repro`."
        )
    return float(value)
