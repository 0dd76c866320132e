"""MLflow's parent runs: one per setting, with its seeds as child runs and the mean of their scores,
and no confusion with trained runs."""

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from tracking_project import (
    TOP,
    Server,
    all_runs,
    digest_of,
    empty_store,
    finish,
    followers,
    lock_stages,
    parents,
    project,
    run_block,
    start_training,
    write_outputs,
)
from waiting import wait_for

from pipeline import tracking
from pipeline.tracking import (
    backfill,
    describe,
    mlflow_store,
    parent_runs,
    registry,
    run_lock,
    run_names,
)
from pipeline.tracking.setting import setting_of

__all__ = ["empty_store", "project"]  # fixtures

MEAN, DEVIATION = "score", "score_deviation"
SCORES = {1: 4.25, 2: 3.5, 3: 5.125}


def block_of(seed: int, **changes: Any) -> dict[str, Any]:
    setting = {
        "model": {"hidden": 8, "layers": 1},
        "objective": {"block_size": 16},
        "optim": {"name": "adam", "lr": 0.01},
        "training": {"max_epochs": 2},
    }
    return run_block(seed=seed) | setting | changes


def write_seeds(root: Path, scores: dict[int, float], name: str = "lstm", **changes: Any) -> None:
    """The runs of one setting, as the DAG leaves them: `lstm-1` with seed 1 ..."""
    file = root / "params.yaml"
    content = yaml.safe_load(file.read_text()) | {"runs": {}, "settings": {}}
    stages: dict[str, Any] = {}
    for seed, score in scores.items():
        run = f"{name}-{seed}"
        block = block_of(seed, **changes)
        content["runs"][run] = block
        stages |= lock_stages(run, block | {"search": {"method": "sampling"}})
        write_outputs(root, run, block, 10)
        write_score(root, run, score)
    file.write_text(yaml.safe_dump(content))
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


def write_score(root: Path, run: str, score: float) -> None:
    """The metrics of the evaluate stage."""
    estimate = {"score": score, "low": score - 1, "high": score + 1}
    metrics = {"run": run, "test": {"perplexity": estimate}, "valid": {"perplexity": 3.0}}
    (root / f"reports/metrics/{run}.json").write_text(json.dumps(metrics))


def set_digest(root: Path, run: str, digest: str) -> None:
    """As after another training of the run, with changed code."""
    path = root / f"data/models/{run}/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": digest}))


def children(client: MlflowClient, parent: Any) -> dict[str, Any]:
    """The child runs that MLflow's pages show below the parent, by name without score."""
    condition = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    runs = client.search_runs([parent.info.experiment_id], condition)
    return {run_names.without_score(run.info.run_name): run for run in runs}


def duration(run: Any) -> int:
    """Milliseconds, as MLflow's pages show them."""
    return int(run.info.end_time - run.info.start_time)


def test_seeds_are_the_children_of_their_setting_with_mean_and_deviation(project: Path) -> None:
    write_seeds(project, SCORES)
    message = tracking.sync(project)
    assert "setting lstm: recorded (3 runs)" in message
    client = mlflow_store.connect(project)
    [parent] = parents(client)
    assert parent.info.run_name == "4.29 · lstm"
    names = {child.info.run_name for child in children(client, parent).values()}
    assert names == {"4.25 · lstm-1", "3.50 · lstm-2", "5.12 · lstm-3"}
    seeds = children(client, parent)
    assert {name: run.data.tags["seed"] for name, run in seeds.items()} == {
        "lstm-1": "1",
        "lstm-2": "2",
        "lstm-3": "3",
    }
    assert {run.data.tags["setting"] for run in seeds.values()} == {"lstm"}
    # Under the name by which the children have it, so that they are in one column.
    assert parent.data.metrics == {
        MEAN: round(statistics.mean(SCORES.values()), 6),
        DEVIATION: round(statistics.stdev(SCORES.values()), 6),
        "seeds": 3.0,
        "valid_score": 3.0,
        "valid_score_deviation": 0.0,
    }
    assert all(MEAN in run.data.metrics for run in seeds.values())
    assert parent.data.params == {
        "family": "recurrent_lm",
        "task": "language_model",
        "corpus": "toy",
        "model.hidden": "8",
        "model.layers": "1",
        "objective.block_size": "16",
        "optim.name": "adam",
        "optim.lr": "0.01",
        "training.max_epochs": "2",
        "corpus_settings.text.level": "word",
    }
    assert parent.info.status == "FINISHED"
    assert duration(parent) == sum(duration(run) for run in seeds.values())
    assert parent.info.start_time == min(run.info.start_time for run in seeds.values())


def test_a_second_sync_changes_nothing(project: Path) -> None:
    write_seeds(project, SCORES)
    tracking.sync(project)
    before = (project / "mlflow.db").read_bytes()
    assert "setting" not in tracking.sync(project)
    assert (project / "mlflow.db").read_bytes() == before


def test_a_further_seed_and_another_score_update_the_same_parent(project: Path) -> None:
    write_seeds(project, {1: 4.25})
    tracking.sync(project)
    client = mlflow_store.connect(project)
    [first] = parents(client)
    assert first.data.metrics == {MEAN: 4.25, "seeds": 1.0, "valid_score": 3.0}

    write_seeds(project, {1: 4.25, 2: 3.5})
    assert "setting lstm: brought up to date (2 runs)" in tracking.sync(project)
    [second] = parents(client)
    assert second.info.run_id == first.info.run_id
    assert second.data.metrics == {
        MEAN: 3.875,
        DEVIATION: round(statistics.stdev([4.25, 3.5]), 6),
        "seeds": 2.0,
        "valid_score": 3.0,
        "valid_score_deviation": 0.0,
    }

    write_score(project, "lstm-2", 6.25)
    tracking.sync(project)
    [third] = parents(client)
    # Another score is no other training: the runs end as they did.
    assert third.info.end_time == second.info.end_time
    assert third.data.metrics[MEAN] == 5.25
    # The names show the present scores.
    assert third.info.run_name == "5.25 · lstm"
    assert children(client, third)["lstm-2"].info.run_name == "6.25 · lstm-2"
    assert duration(third) == sum(duration(run) for run in children(client, third).values())
    # Earlier means are MLflow's history of the metric.
    history = client.get_metric_history(third.info.run_id, MEAN)
    assert [(point.step, point.value) for point in history] == [(0, 4.25), (1, 3.875), (2, 5.25)]


@pytest.mark.long
def test_a_seed_that_the_project_no_longer_has_counts_until_its_run_is_deleted(
    project: Path,
) -> None:
    write_seeds(project, {1: 4.0, 2: 6.0})
    tracking.sync(project)
    client = mlflow_store.connect(project)
    write_seeds(project, {1: 4.0})
    tracking.sync(project)
    [parent] = parents(client)
    assert parent.data.metrics["seeds"] == 2.0

    client.delete_run(children(client, parent)["lstm-2"].info.run_id)
    tracking.sync(project)
    [parent] = parents(client)
    assert parent.data.metrics["seeds"] == 1.0
    assert parent.data.metrics[MEAN] == 4.0
    assert math.isnan(parent.data.metrics[DEVIATION])


def test_a_seed_that_was_trained_again_counts_once(project: Path) -> None:
    write_seeds(project, SCORES)
    tracking.sync(project)
    set_digest(project, "lstm-1", "f" * 64)
    write_score(project, "lstm-1", 9.0)
    tracking.sync(project)
    client = mlflow_store.connect(project)
    [parent] = parents(client)
    assert len(all_runs(client)) == 4
    assert parent.data.metrics["seeds"] == 3.0
    assert parent.data.metrics[MEAN] == round(statistics.mean([9.0, 3.5, 5.125]), 6)


def test_names_that_somebody_chose_on_the_pages_stay(project: Path) -> None:
    write_seeds(project, {1: 4.25, 2: 3.5})
    tracking.sync(project)
    client = mlflow_store.connect(project)
    [parent] = parents(client)
    client.update_run(parent.info.run_id, name="the best")
    client.update_run(children(client, parent)["lstm-2"].info.run_id, name="lstm-2 so far")
    write_seeds(project, {1: 4.25, 2: 6.25, 3: 5.25})
    tracking.sync(project)
    [parent] = parents(client)
    assert parent.info.run_name == "the best"
    assert parent.data.metrics[MEAN] == 5.25
    seeds = children(client, parent).values()
    names = {"4.25 · lstm-1", "lstm-2 so far", "5.25 · lstm-3"}
    assert {run.info.run_name for run in seeds} == names
    assert {run.data.tags["setting"] for run in seeds} == {"lstm"}


@pytest.mark.long
def test_changed_hyperparameters_are_another_parent_that_shows_the_change(project: Path) -> None:
    write_seeds(project, SCORES)
    tracking.sync(project)
    client = mlflow_store.connect(project)
    [before] = parents(client)

    write_seeds(project, {1: 2.0, 2: 3.0}, model={"hidden": 512, "layers": 1})
    for run in ("lstm-1", "lstm-2"):
        set_digest(project, run, digest_of(f"{run} with 512"))
    tracking.sync(project)
    by_name = {run_names.without_score(parent.info.run_name): parent for parent in parents(client)}
    assert set(by_name) == {"lstm", "lstm hidden=512"}
    assert by_name["lstm hidden=512"].data.metrics["seeds"] == 2.0
    names = {"lstm-1 hidden=512", "lstm-2 hidden=512"}
    assert set(children(client, by_name["lstm hidden=512"])) == names
    assert set(children(client, by_name["lstm"])) == {"lstm-1", "lstm-2", "lstm-3"}
    # The superseded setting keeps its mean, although the project lacks two of its runs.
    assert by_name["lstm"].data.metrics == before.data.metrics


@pytest.mark.long
def test_many_changes_are_counted(project: Path) -> None:
    write_seeds(project, {1: 4.0})
    tracking.sync(project)
    write_seeds(project, {1: 4.0}, model={f"a_long_key_{n}": n for n in range(9)})
    set_digest(project, "lstm-1", "f" * 64)
    tracking.sync(project)
    other = next(
        parent
        for parent in parents(mlflow_store.connect(project))
        if run_names.without_score(parent.info.run_name) != "lstm"
    )
    assert run_names.without_score(other.info.run_name) == (
        "lstm a_long_key_0=0 a_long_key_1=1 a_long_key_2=2 a_long_key_3=3 +5"
    )


def test_another_search_is_the_same_setting(project: Path) -> None:
    """Training ignores the search: the trained runs are the same."""
    block = block_of(1)
    settings = [
        setting_of("lstm-1", block | {"search": search}, {})
        for search in (None, {"method": "beam", "beam_size": 5})
    ]
    assert settings[0] == settings[1] == setting_of("lstm-2", block_of(2), {})


@pytest.mark.parametrize(
    "change",
    [
        {"corpus": "other"},
        {"family": "transformer_lm"},
        {"setting": "gru"},
        {"optim": {"name": "adam", "lr": 0.02}},
        {"training": {"max_epochs": 3}},
        {"objective": {"block_size": 8}},
    ],
)
def test_what_determines_a_setting_changes_its_digest(change: dict[str, Any]) -> None:
    first = setting_of("lstm-1", block_of(1), {})
    second = setting_of("lstm-1", block_of(1, **change), {})
    assert first is not None
    assert second is not None
    assert first.digest != second.digest


def test_the_settings_of_the_corpus_change_the_digest() -> None:
    first, second = (
        setting_of("lstm-1", block_of(1), {"corpus_settings.limit": limit})
        for limit in ("null", "2000")
    )
    assert first is not None
    assert second is not None
    assert first.digest != second.digest


def test_the_source_of_the_corpus_does_not_change_the_digest() -> None:
    """The data are the same; others would change the digests of the runs."""
    sources = ({"corpus_settings.source.url": "http://a"}, {"corpus_settings.source": "null"}, {})
    first, *others = (setting_of("lstm-1", block_of(1), source) for source in sources)
    assert first is not None
    assert others == [first] * 2


def parent_of_an_older_version(project: Path) -> tuple[MlflowClient, Any]:
    """The parent of three seeds, with the tag that left the corpus's settings out."""
    write_seeds(project, SCORES)
    tracking.sync(project)
    client = mlflow_store.connect(project)
    [parent] = parents(client)
    set_former_tag(client, parent)
    return client, parent


def set_former_tag(client: MlflowClient, parent: Any) -> None:
    setting = setting_of("lstm-1", block_of(1), {})
    assert setting is not None
    client.set_tag(parent.info.run_id, parent_runs.DIGEST, setting.former_tag)


def test_a_parent_of_an_older_version_with_two_corpora_keeps_its_own(project: Path) -> None:
    client, parent = parent_of_an_older_version(project)
    # As an older version left them: a run on the corpus with other settings is a child too.
    experiment = parent.info.experiment_id
    tags = {"seqline.run": "lstm-9", "seqline.digest": "9" * 64, "seed": "9"}
    stranger = client.create_run(
        experiment, tags={**tags, "mlflow.parentRunId": parent.info.run_id}, run_name="lstm-9"
    )
    client.log_param(stranger.info.run_id, "corpus_settings.text.level", "char")
    client.log_metric(stranger.info.run_id, MEAN, 90.0)
    client.set_terminated(stranger.info.run_id)
    tracking.sync(project)
    [same] = parents(client)
    assert same.info.run_id == parent.info.run_id
    assert same.data.metrics[MEAN] == round(statistics.mean(SCORES.values()), 6)
    assert len(children(client, same)) == 3

    # On another corpus alone it is not theirs.
    set_former_tag(client, parent)
    other = setting_of("lstm-1", block_of(1), {"corpus_settings.text.level": "char"})
    assert other is not None
    assert parent_runs._find(client, other, [client.get_run(parent.info.run_id)]) is None


def test_a_parent_of_an_older_version_without_the_corpus_is_kept(project: Path) -> None:
    client, parent = parent_of_an_older_version(project)
    tracking.sync(project)
    [same] = parents(client)
    assert (same.info.run_id, same.data.tags) == (parent.info.run_id, parent.data.tags)


def test_a_chosen_name_of_a_parent_stays_beside_another_of_that_name(project: Path) -> None:
    write_seeds(project, SCORES)
    tracking.sync(project)
    write_seeds(project, SCORES, model={"hidden": 16, "layers": 1})
    for seed in SCORES:
        set_digest(project, f"lstm-{seed}", f"{seed}" * 64)
    tracking.sync(project)
    client = mlflow_store.connect(project)
    for parent in parents(client):
        client.update_run(parent.info.run_id, name="for the paper")
    tracking.sync(project)
    assert [parent.info.run_name for parent in parents(client)] == ["for the paper"] * 2


@pytest.mark.parametrize(
    "block", [{}, {"family": "f"}, block_of(1, setting="a' or 'a' = 'a"), block_of(1, task=None)]
)
def test_a_block_that_names_no_setting_has_no_parent(block: dict[str, Any]) -> None:
    assert setting_of("lstm-1", block, {}) is None


def test_a_run_of_an_older_version_is_of_a_setting_of_its_own_name() -> None:
    block = block_of(1)
    del block["setting"]
    setting = setting_of("lstm", block, {})
    assert setting is not None
    assert setting.name == "lstm"


@pytest.mark.long
def test_a_store_without_parents_is_upgraded_without_duplicates(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_seeds(project, SCORES)
    with monkeypatch.context() as older:
        older.setattr(backfill, "backfill_setting", lambda *arguments: "")
        former = {"dvc.stage": "train@lstm", "dvc.deps/a": "b", "search.x": "1"}
        older.setattr(describe, "labels", lambda block, label="": former)
        tracking.sync(project)
    client = mlflow_store.connect(project)
    assert parents(client) == []
    before = {run.info.run_id for run in all_runs(client)}

    tracking.sync(project)
    [parent] = parents(client)
    assert {run.info.run_id for run in all_runs(client)} == before
    assert {run.info.run_id for run in children(client, parent).values()} == before
    assert parent.data.metrics["seeds"] == 3.0
    for run in all_runs(client):
        assert run.data.tags["setting"] == "lstm"
        assert not set(former) & set(run.data.tags), "they are in provenance.json"
    tracking.sync(project)
    assert len(parents(client)) == 1


def test_a_seed_that_an_older_version_recorded_counts_by_the_former_name_of_its_score(
    project: Path,
) -> None:
    """The project no longer has its run: nothing but MLflow knows the score."""
    write_seeds(project, {1: 4.0, 2: 6.0})
    tracking.sync(project)
    client = mlflow_store.connect(project)
    [parent] = parents(client)
    tags = {mlflow_store.RUN: "lstm-3", parent_runs.PARENT: parent.info.run_id, "seed": "3"}
    older = client.create_run(parent.info.experiment_id, tags=tags)
    client.log_metric(older.info.run_id, "test/perplexity/score", 8.0)
    client.set_terminated(older.info.run_id)
    tracking.sync(project)
    [parent] = parents(client)
    assert parent.data.metrics["seeds"] == 3.0
    assert parent.data.metrics[MEAN] == 6.0


def test_a_deleted_parent_comes_back(project: Path) -> None:
    write_seeds(project, SCORES)
    tracking.sync(project)
    client = mlflow_store.connect(project)
    [parent] = parents(client)
    client.delete_run(parent.info.run_id)
    tracking.sync(project)
    assert [run.info.run_id for run in parents(client)] == [parent.info.run_id]


@pytest.mark.long
def test_a_parent_that_is_gone_for_good_is_created_again(project: Path) -> None:
    write_seeds(project, SCORES)
    tracking.sync(project)
    client = mlflow_store.connect(project)
    [parent] = parents(client)
    client._tracking_client.store._hard_delete_run(parent.info.run_id)
    tracking.sync(project)
    [again] = parents(client)
    assert again.info.run_id != parent.info.run_id
    assert len(children(client, again)) == 3
    assert again.data.metrics["seeds"] == 3.0


def test_a_parent_of_an_older_version_is_found_by_its_whole_digest(project: Path) -> None:
    write_seeds(project, SCORES)
    tracking.sync(project)
    client = mlflow_store.connect(project)
    [parent] = parents(client)
    short = parent.data.tags[parent_runs.DIGEST]
    client.set_tag(parent.info.run_id, parent_runs.DIGEST, short + 52 * "f")
    tracking.sync(project)
    [same] = parents(client)
    assert (same.info.run_id, same.data.tags[parent_runs.DIGEST]) == (parent.info.run_id, short)


@pytest.mark.long
def test_of_two_parents_of_one_setting_the_older_one_keeps_all_children(project: Path) -> None:
    """As after the first syncs of two machines at once, on one server."""
    write_seeds(project, SCORES)
    tracking.sync(project)
    client = mlflow_store.connect(project)
    [parent] = parents(client)
    copy = client.create_run(
        parent.info.experiment_id,
        start_time=parent.info.start_time + 1,
        run_name="lstm",
        tags={key: parent.data.tags[key] for key in (parent_runs.NAME, parent_runs.DIGEST)},
    )
    moved = children(client, parent)["lstm-2"]
    client.set_tag(moved.info.run_id, parent_runs.PARENT, copy.info.run_id)
    tracking.sync(project)
    assert [run.info.run_id for run in parents(client)] == [parent.info.run_id]
    assert len(children(client, parent)) == 3
    assert client.get_run(copy.info.run_id).info.lifecycle_stage == "deleted"


@pytest.mark.long
def test_syncs_at_once_create_one_parent(project: Path) -> None:
    write_seeds(project, SCORES)
    program = "import sys, pathlib; from pipeline import tracking; " + (
        "print(tracking.sync(pathlib.Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", program, str(project)]
    syncs = [subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE) for _ in range(3)]
    assert [sync.wait() for sync in syncs] == [0, 0, 0]
    client = mlflow_store.connect(project)
    [parent] = parents(client)
    assert len(children(client, parent)) == 3
    # Deleted ones too: none was created and removed.
    assert len(client.search_runs([parent.info.experiment_id], run_view_type=3)) == 4


def test_a_parent_is_no_training_to_anything_that_searches_runs(project: Path) -> None:
    write_seeds(project, SCORES)
    tracking.sync(project)
    client = mlflow_store.connect(project)
    [parent] = parents(client)
    setting = setting_of("lstm-1", block_of(1), {})
    assert setting is not None
    assert mlflow_store.find_run(client, "language_model", setting.key) is None
    for run in all_runs(client):
        name = run_names.without_score(run.info.run_name)
        key = (name, digest_of(name))
        assert mlflow_store.find_run(client, "language_model", key).info.run_id == run.info.run_id
    # Filters and groups of the page by these tags show trained runs alone.
    assert not {"setting", "seed", "family", "corpus"} & set(parent.data.tags)
    assert registry.champions(project) == {}
    assert client.get_run(parent.info.run_id).info.lifecycle_stage == "active"


def test_runs_that_are_not_evaluated_have_a_parent_without_scores(project: Path) -> None:
    write_seeds(project, SCORES)
    for metrics in (project / "reports/metrics").glob("*.json"):
        metrics.unlink()
    tracking.sync(project)
    [parent] = parents(mlflow_store.connect(project))
    assert parent.data.metrics == {}


@pytest.mark.long
def test_live_runs_that_start_at_once_have_one_parent_that_ends_with_the_last(
    project: Path,
) -> None:
    write_live_params(project)
    names = ("lstm-1", "lstm-2", "lstm-3")
    trainings = [start_training(project, 40, 0.05, run=name) for name in names]
    client = mlflow_store.connect(project)
    for training in trainings:
        finish(training)
    wait_for(lambda: [run.info.status for run in all_runs(client)] == ["FINISHED"] * 3)
    [parent] = parents(client)
    seeds = children(client, parent)
    assert sorted(seeds) == list(names)
    wait_for(lambda: client.get_run(parent.info.run_id).info.status == "FINISHED")
    expected = sum(duration(run) for run in seeds.values())
    wait_for(lambda: duration(client.get_run(parent.info.run_id)) == expected)
    assert client.get_run(parent.info.run_id).info.status == "FINISHED"
    assert parent.data.params["model.hidden"] == "8"


@pytest.mark.long
def test_a_live_run_is_a_child_while_it_is_trained(project: Path) -> None:
    write_live_params(project)
    training = start_training(project, 100_000, 0.05, run="lstm-1")
    client = mlflow_store.connect(project)
    try:
        [parent] = wait_for(lambda: parents(client))
        wait_for(lambda: "lstm-1" in children(client, parent))
        assert client.get_run(parent.info.run_id).info.status == "RUNNING"
    finally:
        training.kill()
        training.wait()
    wait_for(lambda: client.get_run(parent.info.run_id).info.status == "KILLED")


@pytest.mark.long
def test_curves_do_not_wait_for_another_process_that_holds_the_parent(project: Path) -> None:
    write_live_params(project)
    corpus = {"corpus_settings.text.level": "word"}
    setting = setting_of("lstm-1", block_of(1) | {"search": None}, corpus)
    assert setting is not None
    client = mlflow_store.connect(project)
    with run_lock.sole(project, setting.key, lambda: True, "follower"):
        training = start_training(project, 100_000, 0.05, run="lstm-1")
        try:
            wait_for(lambda: any("train/loss" in run.data.metrics for run in all_runs(client)))
            assert parents(client) == []
        except BaseException:
            training.kill()
            raise
    try:
        [parent] = wait_for(lambda: parents(client))
        wait_for(lambda: "lstm-1" in children(client, parent))
    finally:
        training.kill()
        training.wait()
    wait_for(lambda: not followers(project))


def write_live_params(root: Path) -> None:
    """A params.yaml that `params.run` accepts, so that the spool has the runs' blocks."""
    runs = {}
    setting: dict[str, Any] = {}
    for seed in (1, 2, 3):
        block = block_of(seed)
        setting = {key: block.pop(key) for key in ("model", "objective", "optim", "training")} | {
            "search": None
        }
        runs[f"lstm-{seed}"] = block
    content = {"corpora": {"toy": {}}, "settings": {"lstm": setting}, "runs": runs}
    (root / "params.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.long
def test_a_server_groups_seeds_as_the_project_s_own_store_does(
    project: Path, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_seeds(project, {1: 4.0, 2: 6.0})
    with Server(tmp_path / "server", empty_store) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        tracking.sync(project)
        client = mlflow_store.connect(project)
        [parent] = parents(client)
        seeds = children(client, parent)
        assert sorted(seeds) == ["lstm-1", "lstm-2"]
        assert parent.data.metrics[MEAN] == 5.0
        assert "setting" not in tracking.sync(project)

        client.delete_run(seeds["lstm-2"].info.run_id)
        write_seeds(project, {1: 4.0})
        tracking.sync(project)
        [parent] = parents(client)
        assert math.isnan(parent.data.metrics[DEVIATION])
        assert "setting" not in tracking.sync(project)
