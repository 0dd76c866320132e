"""MLflow's parent run of each setting, whose child runs are the setting's runs: one per seed.

A parent is no training: it has none of the tags by which `mlflow_store.find_run` finds one. It is
identified by the digest of the setting's hyperparameters, family, task, corpus and the corpus's
settings."""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from mlflow.entities import ViewType

from pipeline.tracking import describe, mlflow_store, run_names, run_scores
from pipeline.tracking.run_outputs import Outputs
from pipeline.tracking.setting import TAG_LENGTH, Setting, without_source

DIGEST, NAME = "seqline.setting", "seqline.setting_name"
PARENT = "mlflow.parentRunId"
_SOURCE_TAGS = ("mlflow.source.name", "mlflow.source.type")
_PAGE_SIZE = 1000
_DECIMALS = 6  # as in reports/summary.json


def attach(client: Any, setting: Setting, run: Any) -> str:
    """Make a run that is being trained a child of its setting's parent; return the parent's id.

    The caller holds the lock of the setting's key, and the run's experiment exists."""
    parents = _search(client, run.info.experiment_id, setting.name)
    parent = _find(client, setting, parents) or _create(client, setting, [run], parents)
    _adopt(client, parent, [run])
    if parent.info.status != "RUNNING":
        client.update_run(parent.info.run_id, status="RUNNING")
    return str(parent.info.run_id)


def end(client: Any, parent_id: str) -> None:
    """End the parent as its last child ended, unless one is still being trained."""
    parent = client.get_run(parent_id)
    _end(client, parent, _children(client, parent))


def backfill(client: Any, setting: Setting, members: Sequence[Outputs]) -> str:
    """Record a setting whose runs are recorded; return the change, "" for none.

    `members` are the outputs of its runs in the project. The caller holds the lock of the setting's
    key."""
    experiment = mlflow_store.find_experiment(client, setting.task)
    if experiment is None:
        return ""
    parents = _search(client, experiment.experiment_id, setting.name)
    parent = _find(client, setting, parents)
    is_new = parent is None
    children = [] if parent is None else _children(client, parent)

    # Adopt the runs of a store that is older than the parent, and those whose follower could not.
    keys = {(member.name, member.digest) for member in members}
    missing = [
        mlflow_store.find_run(client, setting.task, key)
        for key in sorted(keys - {_key(child) for child in children})
    ]
    missing = [run for run in missing if run is not None]
    if parent is None:
        if not missing:
            return ""
        parent = _create(client, setting, missing, parents)
    if missing:
        _adopt(client, parent, missing)
        children = _children(client, parent)

    mlflow_store.log_params(client, parent, setting.params | setting.corpus)
    if parent.data.tags[DIGEST] != setting.tag:  # an older version wrote the whole digest
        mlflow_store.log(client, parent.info.run_id, tags={DIGEST: setting.tag})
    wanted = scores(members, children)
    is_rescored = _log_scores(client, parent, wanted)
    _rename(client, parent, setting, parents, _mean_score(wanted, members))
    _end(client, parent, children)

    if not (is_new or missing or is_rescored):
        return ""
    count = f"{len(children)} run{'s' if len(children) > 1 else ''}"
    return f"{'recorded' if is_new else 'brought up to date'} ({count})"


def scores(members: Sequence[Outputs], children: Sequence[Any]) -> dict[str, float]:
    """The means over the seeds of the scores that rank, under the names by which the runs have
    them, their standard deviations, which one seed does not have, and the number of seeds.

    The score of a seed is that of the project's run. A seed that the project no longer has, or that
    another clone trained, has that of its last child in MLflow. For the seeds of the project alone
    the numbers are those of reports/summary.json. Empty if no run of the project is evaluated."""
    result: dict[str, float] = {}
    seeds: set[str] = set()
    for name in run_scores.SPLITS:
        by_seed = _by_seed(name, members, children)
        if not by_seed:
            continue
        seeds |= set(by_seed)
        values = list(by_seed.values())
        result[name] = round(statistics.fmean(values), _DECIMALS)
        if len(values) > 1:
            deviation = round(statistics.stdev(values), _DECIMALS)
            result[f"{name}{run_scores.DEVIATION}"] = deviation
    return result | {run_scores.SEEDS: float(len(seeds))} if result else {}


def _mean_score(scores: Mapping[str, float], members: Sequence[Outputs]) -> str:
    """The mean of the score that ranks, e.g. `95.38`; "" without one."""
    score = scores.get(run_scores.SCORE)
    return "" if score is None else members[0].form.format(score)


def _by_seed(name: str, members: Sequence[Outputs], children: Sequence[Any]) -> dict[str, float]:
    """The score of each seed; empty if no member has it, or if others rank other members."""
    ranked = [member for member in members if name in member.scores]
    keys = {member.main for member in ranked}
    if len(keys) != 1:
        return {}
    [key] = keys

    # The name by which runs of older versions have it.
    older = describe.mlflow_name(run_scores.SPLITS[name], *key.split("."), "score")
    by_seed: dict[str, float] = {}
    for child in children:
        metrics = child.data.metrics
        value = metrics.get(name, metrics.get(older))
        if value is not None:
            by_seed[child.data.tags.get("seed", "")] = float(value)
    # Without the tag it is no run of seqline's, or of an older version's.
    by_seed.pop("", None)
    # The first member of a seed is the project's run; the others are experiments.
    return by_seed | {
        str(member.block.get("seed")): member.scores[name] for member in reversed(ranked)
    }


def _log_scores(client: Any, parent: Any, wanted: dict[str, float]) -> bool:
    """Log the scores as a new step, if they differ from those that the parent has; return whether
    they do.

    MLflow keeps every metric: one that the setting has no longer becomes NaN."""
    logged = parent.data.metrics
    if not wanted:
        return False
    gone = {name: math.nan for name in logged if name not in wanted}
    if all(_same(logged.get(name), value) for name, value in (wanted | gone).items()):
        return False

    steps = mlflow_store.logged_steps(client, parent).values()
    step = max((step for steps_of in steps for step in steps_of), default=-1) + 1
    now = time.time_ns() // 1_000_000
    points = [(name, value, now, step) for name, value in (wanted | gone).items()]
    mlflow_store.log(client, parent.info.run_id, metrics=points)
    return True


def _same(logged: float | None, value: float) -> bool:
    if logged is None:
        return False
    return logged == value or (math.isnan(logged) and math.isnan(value))


def _key(run: Any) -> tuple[str, str]:
    """The key by which `mlflow_store.find_run` finds the run."""
    tags = run.data.tags
    return tags.get(mlflow_store.RUN, ""), tags.get(mlflow_store.DIGEST, "")


def _create(client: Any, setting: Setting, runs: Sequence[Any], parents: Sequence[Any]) -> Any:
    """Create the setting's parent in the experiment of `runs`, which become its children.

    `parents` are those of other settings of its name."""
    note = (
        f"The setting {setting.name}. Its child runs are its seeds. The metrics are the mean and "
        "the standard deviation of their scores, and the number of seeds, as of the last `seqline "
        "sync`. The duration is the sum of their trainings' durations."
    )
    source = runs[0].data.tags
    tags = {
        **{key: source[key] for key in _SOURCE_TAGS if key in source},
        "mlflow.note.content": note,
        NAME: setting.name,
        DIGEST: setting.tag,
    }
    parent = client.create_run(
        runs[0].info.experiment_id,
        start_time=min(run.info.start_time for run in runs),
        run_name=_title(setting, _active(parents)),
        tags=tags,
    )
    mlflow_store.log_params(client, parent, setting.params | setting.corpus)
    return client.get_run(parent.info.run_id)


def _find(client: Any, setting: Setting, parents: Sequence[Any]) -> Any:
    """Return the setting's one parent among those of its name, or None. A deleted one comes back.

    Two machines that share a server may both have created one: the oldest keeps the children, the
    others are deleted in MLflow. Parents of an older version count that have a child of the
    setting."""
    same = _tagged(parents, setting.tag)
    active = _active(same) or _claim(client, setting, _active(_tagged(parents, setting.former_tag)))
    if active:
        parent, *duplicates = active
        for duplicate in duplicates:
            _adopt(client, parent, _children(client, duplicate))
            mlflow_store.delete_run(client, duplicate)
        return parent

    if same:
        client.restore_run(same[0].info.run_id)
        return client.get_run(same[0].info.run_id)
    return None


def _claim(client: Any, setting: Setting, former: Sequence[Any]) -> list[Any]:
    """Give the setting's tag to parents of an older version that have a child of it, and return
    them. Children on another corpus lose their parent, until their own setting is recorded."""
    claimed = []
    for parent in former:
        children = _children(client, parent)
        strangers = [child for child in children if not _is_on_corpus(child, setting)]
        if len(strangers) == len(children):
            continue
        for child in strangers:
            client.delete_tag(child.info.run_id, PARENT)
        mlflow_store.log(client, parent.info.run_id, tags={DIGEST: setting.tag})
        claimed.append(client.get_run(parent.info.run_id))
    return claimed


def _is_on_corpus(child: Any, setting: Setting) -> bool:
    """Return whether the run's corpus has the setting's; older runs do not tell."""
    params = child.data.params.items()
    corpus = {key: value for key, value in params if key.startswith("corpus_settings.")}
    return not corpus or without_source(corpus) == setting.corpus


def _tagged(parents: Sequence[Any], tag: str) -> list[Any]:
    """Those with the tag, or with the whole digest that it begins."""
    return [run for run in parents if run.data.tags.get(DIGEST, "")[:TAG_LENGTH] == tag]


def _search(client: Any, experiment_id: str, name: str) -> list[Any]:
    """The parents of all settings of this name, the deleted ones too, the oldest first."""
    return _search_all(client, experiment_id, f"tags.`{NAME}` = '{name}'", ViewType.ALL)


def _children(client: Any, parent: Any) -> list[Any]:
    """The parent's child runs that are not deleted, the oldest first."""
    condition = f"tags.`{PARENT}` = '{parent.info.run_id}'"
    return _search_all(client, parent.info.experiment_id, condition, ViewType.ACTIVE_ONLY)


def _search_all(client: Any, experiment_id: str, condition: str, view: int) -> list[Any]:
    search = partial(client.search_runs, [experiment_id], condition, view, _PAGE_SIZE)
    runs = mlflow_store.all_pages(search)
    return sorted(runs, key=_age)


def _age(run: Any) -> tuple[int, str]:
    """Sorts runs by age; those of one millisecond by their ids, hence the same everywhere."""
    return int(run.info.start_time), str(run.info.run_id)


def _active(runs: Sequence[Any]) -> list[Any]:
    return [run for run in runs if run.info.lifecycle_stage != "deleted"]


def _adopt(client: Any, parent: Any, runs: Sequence[Any]) -> None:
    """Make the runs children of the parent; one that has the bare name of its run gets the
    parent's label too."""
    title, name = run_names.without_score(parent.info.run_name), parent.data.tags[NAME]
    label = title.removeprefix(name) if run_names.is_generated(title, name) else ""
    for run in runs:
        tags = run.data.tags
        if tags.get(PARENT) != parent.info.run_id:
            mlflow_store.log(client, run.info.run_id, tags={PARENT: parent.info.run_id})
        if label and run_names.without_score(run.info.run_name) == tags.get(mlflow_store.RUN):
            client.update_run(run.info.run_id, name=f"{run.info.run_name}{label}")
            group = {describe.SETTING: title}
            mlflow_store.log(client, run.info.run_id, tags=group)


def _end(client: Any, parent: Any, children: Sequence[Any]) -> None:
    """End the parent as the last of its children ended, unless one is still being trained; its
    duration is the sum of theirs.

    Of a run that was trained again, the last training counts. A child that was killed together with
    its follower stays RUNNING in MLflow; it does not count either then."""
    latest = {child.data.tags.get(mlflow_store.RUN): child for child in children}
    if any(child.info.status == "RUNNING" for child in latest.values()):
        return
    ended = [child for child in latest.values() if child.info.end_time is not None]
    if not ended:
        return
    last = max(ended, key=lambda child: int(child.info.end_time))
    seconds = sum(child.info.end_time - child.info.start_time for child in ended)
    state = (last.info.status, parent.info.start_time + seconds)
    if (parent.info.status, parent.info.end_time) != state:
        client.set_terminated(parent.info.run_id, *state)


def _rename(client: Any, parent: Any, setting: Setting, parents: Sequence[Any], score: str) -> None:
    """Put the score into a parent's name, unless somebody has chosen the name on MLflow's pages.

    A parent that has the name of an older one, since both were created at once, gets another."""
    own = _age(parent)
    older = [run for run in _active(parents) if _age(run) < own]
    title = run_names.without_score(parent.info.run_name)
    if not run_names.is_generated(title, setting.name):
        return
    if title in _titles(older):
        title = _title(setting, older)
    mlflow_store.set_name(client, parent, run_names.with_score(title, score))


def _title(setting: Setting, older: Sequence[Any]) -> str:
    """Return the setting's name, and what differs from the committed setting. After a parent of the
    same name: what differs from that one, or the digest's first letters.

    E.g. `lstm hidden=512`."""
    taken = _titles(older)
    title = setting.title
    if title in taken:
        changed = run_names.differences(setting.params | setting.corpus, taken[title].data.params)
        title = f"{setting.name} {changed}".strip()
    return f"{setting.name} {setting.digest[:8]}" if title in taken else title


def _titles(parents: Sequence[Any]) -> dict[str, Any]:
    """The parents by their names without scores."""
    return {run_names.without_score(run.info.run_name): run for run in parents}
