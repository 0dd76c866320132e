"""What MLflow's pages of an experiment show first."""

import json
from pathlib import Path

from tracking_project import all_runs, empty_store, parents, project

from pipeline import tracking
from pipeline.tracking import mlflow_store, pages

__all__ = ["empty_store", "project"]  # fixtures
SERVER = "http://127.0.0.1:5000"


def test_an_experiment_has_views_whose_columns_and_groups_exist(project: Path) -> None:
    tracking.sync(project)
    client = mlflow_store.connect(project)
    experiment = mlflow_store.find_experiment(client, "language_model")
    views = {
        view: json.loads(experiment.tags[f"mlflow.sharedViewState.{view}"])
        for view in (pages.SCORES, pages.CURVES)
    }
    assert [view["name"] for view in views.values()] == ["Scores", "Curves"]

    columns = json.loads(views[pages.SCORES]["state"])["selectedColumns"]
    assert columns[:3] == ["metrics.`score`", "metrics.`score_deviation`", "metrics.`seeds`"]
    names = [column.split("`")[1] for column in columns[:5]]
    assert names == sorted(names), "the pages sort them by name"
    [parent], [run] = parents(client), all_runs(client)
    assert {"score", "seeds"} <= set(parent.data.metrics)
    assert {"corpus", "family"} <= set(parent.data.params)

    state = json.loads(views[pages.CURVES]["state"])
    [group] = state["groupBy"]["groupByKeys"]
    assert run.data.tags[group["groupByData"]] == "lstm"
    matching = client.search_runs([experiment.experiment_id], state["searchFilter"])
    assert [run.info.run_id for run in matching] == [run.info.run_id]
    assert experiment.tags["mlflow.experiment.primaryMetric.name"] == "score"
    assert experiment.tags["mlflow.experiment.primaryMetric.greaterIsBetter"] == "False"


def test_word_vectors_have_no_column_and_no_word_about_a_validation_score(project: Path) -> None:
    tracking.sync(project)
    client = mlflow_store.connect(project)
    client.create_experiment("vectors", tags={mlflow_store.EXPERIMENT: "seqline/word_vectors"})
    pages.set_up(client, ["language_model", "word_vectors"])
    texts = {
        task: " ".join(mlflow_store.find_experiment(client, task).tags.values())
        for task in ("language_model", "word_vectors")
    }
    assert "valid" in texts["language_model"]
    assert "valid" not in texts["word_vectors"]


def test_what_somebody_changed_on_the_pages_stays(project: Path) -> None:
    tracking.sync(project)
    client = mlflow_store.connect(project)
    place = mlflow_store.find_experiment(client, "language_model").experiment_id
    for tag in ("mlflow.sharedViewState.scores", "mlflow.note.content"):
        client.set_experiment_tag(place, tag, "mine")
    (project / "reports/metrics/lstm.json").write_text('{"test": {"perplexity": {"score": 4.0}}}')
    assert "brought up to date" in tracking.sync(project)
    tags = mlflow_store.find_experiment(client, "language_model").tags
    assert tags["mlflow.sharedViewState.scores"] == tags["mlflow.note.content"] == "mine"


def test_the_addresses_of_scores_are_those_of_the_project_s_experiments(project: Path) -> None:
    client = mlflow_store.connect(project)
    assert pages.scores_pages(client, SERVER) == []
    tracking.sync(project)
    client.create_experiment("somebody else's")
    place = mlflow_store.find_experiment(client, "language_model").experiment_id
    assert pages.scores_pages(client, SERVER) == [
        f"seqline/language_model: {SERVER}/#/experiments/{place}/runs?viewStateShareKey=scores"
        "&workflowType=machine_learning"
    ]
