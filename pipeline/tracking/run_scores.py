"""Scores of a run as MLflow's metrics: few, and the one that ranks runs first. No mlflow here.

All other figures are in the artifact `scores.json`."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core import config
from pipeline.scoring import tasks
from pipeline.scoring.tasks import Scoring
from pipeline.tracking import describe

SCORE, VALID_SCORE = "score", "valid_score"
DEVIATION = "_deviation"  # suffix of the deviation over seeds
# The split of each score that ranks. They have two names: a validation score is no test score.
SPLITS = {SCORE: "test", VALID_SCORE: "valid"}
SEEDS = "seeds"
COLUMNS = (SCORE, f"{SCORE}{DEVIATION}", SEEDS, VALID_SCORE, f"{VALID_SCORE}{DEVIATION}")
NONE = "not scored"
# names of the substitute scores, which rank where references are too short for the task's own
_SUBSTITUTES = {
    "chrf": "chrF",
    "chrf_lowercase": "lowercased chrF",
}


def scoring_of(task: str, corpus_block: Mapping[str, Any]) -> Scoring | None:
    """The scoring of a task on a corpus; None for a task that has none."""
    if task not in config.module_names("pipeline.scoring.tasks"):
        return None
    module = config.named_module("pipeline.scoring.tasks", task, "task")
    text = corpus_block.get("text")  # None for a corpus without text
    scoring: Scoring = module.scoring(bool((text or {}).get("lowercase")))
    return scoring


def has_validation(task: str) -> bool:
    """Return whether runs of the task have a validation score; true for an unknown task."""
    if task not in config.module_names("pipeline.scoring.tasks"):
        return True
    return tasks.promotion(task).validation is not None


def main_key(metrics: Mapping[str, Any], scoring: Scoring | None) -> str:
    """Return the dotted key, below a split, of the score that ranks; "" if there is none."""
    return str(metrics.get("ranked_by") or (scoring.main if scoring else ""))


def main_title(key: str, scoring: Scoring) -> str:
    """Title of the score that ranks: of the task's own, or of its substitute."""
    return _SUBSTITUTES.get(key, scoring.main_title)


def metrics_of(metrics: Mapping[str, Any], main: str) -> dict[str, float]:
    """Return MLflow's metrics of a run by name, from the scores of the evaluate stage.

    These are the scores with an interval, as `test/bleu`, and the one that ranks as `score` (on
    test data) and `valid_score`."""
    result = dict(_estimates(metrics))
    for name, split in SPLITS.items():
        value = score_of(metrics, split, main)
        if value is not None:
            result[name] = value
    return result


def score_of(metrics: Mapping[str, Any], split: str, key: str) -> float | None:
    """The score of the dotted `key` on the split; None without one, or without a key."""
    return _value(_node(metrics, split, key)) if key else None


def _estimates(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for split, scores in metrics.items():
        if not isinstance(scores, Mapping):
            continue
        for name, node in scores.items():
            value = _value(node) if isinstance(node, Mapping) else None
            if value is not None:
                yield describe.mlflow_name(split, name), value


def _node(metrics: Mapping[str, Any], split: str, key: str) -> Any:
    node: Any = metrics
    for part in (split, *key.split(".")):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _value(node: Any) -> float | None:
    value = node.get("score") if isinstance(node, Mapping) else node
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def texts_of(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Texts among the scores by MLflow's name, such as the signatures of BLEU."""
    return {
        describe.mlflow_name(*keys): value
        for keys, value in describe.flatten(metrics)
        if len(keys) > 1 and isinstance(value, str)
    }


def score_line(metrics: Mapping[str, Any], scoring: Scoring | None) -> str:
    """E.g. `BLEU 96.61 [95.93, 97.25]`: the test score that ranks, with its interval."""
    key = main_key(metrics, scoring)
    score = _node(metrics, SPLITS[SCORE], key)
    if scoring is None or not isinstance(score, Mapping) or "score" not in score:
        return NONE

    text = f"{_SUBSTITUTES.get(key, scoring.main_name)} {scoring.form.format(score['score'])}"
    if not {"low", "high"} <= set(score):
        return text
    low, high = (scoring.form.format(score[bound]) for bound in ("low", "high"))
    return f"{text} [{low}, {high}]"
