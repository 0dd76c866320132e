"""The ranking score of a version as text, with its interval, as in the comparison."""

from pathlib import Path
from typing import Any

from pipeline.core import config
from pipeline.scoring import metrics_file
from pipeline.scoring.tasks import Scoring
from pipeline.tracking.lineage import EvaluatedRun

_SPLIT = "test"  # the split of the ranking
_NONE = "not scored"
# names of the substitute scores, which rank where references are too short for the task's own
_SUBSTITUTES = {
    "chrf": "chrF",
    "chrf_lowercase": "lowercased chrF",
}


def score_line(root: Path, run: EvaluatedRun) -> str:
    """E.g. `BLEU 96.61 [95.93, 97.25]`, from the metrics of the evaluate stage."""
    path = next((path for path in run.outs if path.endswith(f"/{run.run}.json")), None)
    if path is None or not (root / path).exists():
        return _NONE
    metrics = metrics_file.read(root / path)

    task = config.named_module("pipeline.scoring.tasks", run.task, f"runs.{run.run}.task")
    scoring: Scoring = task.scoring(bool(run.corpus_block["text"]["lowercase"]))
    key = metrics.get("ranked_by", scoring.main)
    score: Any = metrics
    for part in (_SPLIT, *key.split(".")):
        score = score.get(part) if isinstance(score, dict) else None
    if not isinstance(score, dict):
        return _NONE
    return f"{_SUBSTITUTES.get(key, scoring.main_name)} {_format(score)}"


def _format(score: dict[str, Any]) -> str:
    has_interval = {"low", "high"} <= set(score)
    interval = f" [{score['low']:.2f}, {score['high']:.2f}]" if has_interval else ""
    return f"{score['score']:.2f}{interval}"
