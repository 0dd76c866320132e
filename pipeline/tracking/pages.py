"""Settings of MLflow's pages: an experiment shows the score first. Imports mlflow.

MLflow's own default table has no metric at all, so names begin with the score (`run_names.scored`).
A saved view, which the pages list under "Views", has the scores as its first columns. Its format is
MLflow's own: pages that do not know it show their default."""

import json
from collections.abc import Collection
from typing import Any

from pipeline.tracking import describe, mlflow_store, run_scores

SCORES, CURVES = "scores", "curves"
"""Ids of the saved views, for addresses: `.../runs?viewStateShareKey=scores`."""
_VIEW_PREFIX = "mlflow.sharedViewState."
_PRIMARY_TAG = "mlflow.experiment.primaryMetric.name"  # its chart comes first
_DIRECTION_TAG = "mlflow.experiment.primaryMetric.greaterIsBetter"
_NOTE_TAG = "mlflow.note.content"
_TRAINING_PAGES = "workflowType=machine_learning"  # without it, MLflow shows those for chat agents


def set_up(client: Any, tasks: Collection[str]) -> None:
    """Give the experiment of each task its saved view, first chart and description.

    What somebody has changed on the pages stays."""
    for task in sorted(tasks):
        experiment = mlflow_store.find_experiment(client, task)
        if experiment is None:
            continue
        for tag, text in _tags(task, experiment).items():
            if tag not in experiment.tags:
                client.set_experiment_tag(experiment.experiment_id, tag, text)


def _views(has_validation: bool) -> dict[str, tuple[str, dict[str, Any]]]:
    """The name and the state of each view."""
    columns = [name for name in run_scores.COLUMNS if has_validation or not _is_validation(name)]
    scores = [name for name in columns if name in run_scores.SPLITS]
    return {
        SCORES: (
            "Scores",
            {
                "selectedColumns": [
                    *(f"metrics.`{name}`" for name in columns),
                    "params.`corpus`",
                    "params.`family`",
                ]
            },
        ),
        # The curves of a group are the mean over its runs: of each setting, over its seeds.
        CURVES: (
            "Curves",
            {
                "selectedColumns": [f"metrics.`{name}`" for name in scores],
                "searchFilter": "tags.seed LIKE '%'",
                "groupBy": {
                    "aggregateFunction": "average",
                    "groupByKeys": [{"mode": "tag", "groupByData": describe.SETTING}],
                },
                "runsHiddenMode": "SHOW_ALL",
                "chartsSearchFilter": "loss",
            },
        ),
    }


def _is_validation(column: str) -> bool:
    return column.startswith(run_scores.VALID_SCORE)


def _note(has_validation: bool) -> str:
    validation = ", `valid_score` is the same on validation data" if has_validation else ""
    return (
        "A row is a setting, and the rows below it are its seeds. A name begins with `score`, the "
        f"test score that ranks settings{validation}. *Views* has *Scores*, with the first columns "
        "for scores, and *Curves*, which lays the mean curves of all settings over one another."
    )


def _tags(task: str, experiment: Any) -> dict[str, str]:
    created = int(experiment.creation_time or 0)
    has_validation = run_scores.has_validation(task)
    tags = {
        f"{_VIEW_PREFIX}{view}": json.dumps(
            {"name": name, "createdAt": created, "state": json.dumps(state)}
        )
        for view, (name, state) in _views(has_validation).items()
    }
    tags |= {_PRIMARY_TAG: run_scores.SCORE, _NOTE_TAG: _note(has_validation)}
    scoring = run_scores.scoring_of(task, {})
    if scoring is not None:
        tags[_DIRECTION_TAG] = str(scoring.higher_is_better)
    return tags


def experiments_page(server: str) -> str:
    """Address of the list of experiments on MLflow's pages of `server`."""
    return f"{server}/#/experiments?{_TRAINING_PAGES}"


def scores_pages(client: Any, server: str) -> list[str]:
    """Addresses of the scores of the project's experiments, with their names."""
    experiments = [
        experiment
        for experiment in mlflow_store.all_pages(client.search_experiments)
        if {mlflow_store.EXPERIMENT, f"{_VIEW_PREFIX}{SCORES}"} <= set(experiment.tags)
    ]
    runs = f"runs?viewStateShareKey={SCORES}&{_TRAINING_PAGES}"
    return [
        f"{experiment.name}: {server}/#/experiments/{experiment.experiment_id}/{runs}"
        for experiment in sorted(experiments, key=lambda experiment: str(experiment.name))
    ]
