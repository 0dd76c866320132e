"""What MLflow's pages of an experiment show first: the score. Imports mlflow.

MLflow's own default table has no metric at all. A saved view, which the pages list under "Views",
has the scores as its first columns. Its format is MLflow's own: pages that do not know it show
their default."""

import json
from collections.abc import Collection
from typing import Any

from pipeline.tracking import mlflow_store, run_scores

VIEW = "scores"
"""Id of the saved view, for addresses: `.../runs?viewStateShareKey=scores`."""
_VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
_PRIMARY_TAG = "mlflow.experiment.primaryMetric.name"  # its chart comes first
_DIRECTION_TAG = "mlflow.experiment.primaryMetric.greaterIsBetter"
_NOTE_TAG = "mlflow.note.content"
_NOTE = (
    "A row is a setting, and the rows below it are its seeds. `score` is the test score that ranks "
    "settings, `valid_score` is the same on validation data. Choose *Views*, *Scores* to see them "
    "as the first columns."
)
_COLUMNS = (
    *(f"metrics.`{name}`" for name in run_scores.COLUMNS),
    "params.`corpus`",
    "params.`family`",
)


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


def _tags(task: str, experiment: Any) -> dict[str, str]:
    state = {"selectedColumns": list(_COLUMNS)}
    view = {
        "name": "Scores",
        "createdAt": int(experiment.creation_time or 0),
        "state": json.dumps(state),
    }
    tags = {_VIEW_TAG: json.dumps(view), _PRIMARY_TAG: run_scores.SCORE, _NOTE_TAG: _NOTE}
    scoring = run_scores.scoring_of(task, {})
    if scoring is not None:
        tags[_DIRECTION_TAG] = str(scoring.higher_is_better)
    return tags
