"""The score that a version is ranked by, in words: as the comparison has it, with its interval."""

import json
from pathlib import Path
from typing import Any

from pipeline.core import config
from pipeline.scoring.tasks import Scoring
from pipeline.tracking.lineage import EvaluatedRun

_SPLIT = "test"  # what ranks
_NONE = "not scored"
_INSTEAD = {  # names of what ranks where references are too short for the task's own score
    "chrf": "chrF",
    "chrf_lowercase": "lowercased chrF",
}


def score_line(root: Path, made: EvaluatedRun) -> str:
    """E.g. `BLEU 96.61 [95.93, 97.25]`; out of the metrics that the evaluate stage left."""
    metrics = next((path for path in made.outs if path.endswith(f"/{made.run}.json")), None)
    if metrics is None or not (root / metrics).exists():
        return _NONE
    task = config.named_module("pipeline.scoring.tasks", made.task, f"runs.{made.run}.task")
    scoring: Scoring = task.scoring(bool(made.corpus_block["text"]["lowercase"]))
    found: Any = json.loads((root / metrics).read_text(encoding="utf-8"))
    main = found.get("ranked_by", scoring.main) if isinstance(found, dict) else scoring.main
    for key in (_SPLIT, *main.split(".")):
        found = found.get(key) if isinstance(found, dict) else None
    return (
        f"{_INSTEAD.get(main, scoring.main_name)} {_number(found)}"
        if isinstance(found, dict)
        else _NONE
    )


def _number(found: dict[str, Any]) -> str:
    interval = (
        f" [{found['low']:.2f}, {found['high']:.2f}]" if {"low", "high"} <= set(found) else ""
    )
    return f"{found['score']:.2f}{interval}"
