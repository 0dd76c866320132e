"""The standing of each task and corpus of a project."""

from collections.abc import Collection
from pathlib import Path

from pipeline.dag.paths import RunPaths
from pipeline.report import results, standing
from pipeline.report.cross_validation import cross_validations
from pipeline.report.standing import Standing


def load_standings(root: Path, settings: Collection[str] | None = None) -> list[Standing]:
    """Return the standing of each task and corpus of `params.yaml`, in the order of the report, of
    these `settings` or of all; UserError if a run is not evaluated."""
    paths = RunPaths(root)
    metrics, scores = (paths.shared("report", option) for option in ("metrics", "scores"))
    groups = results.groups(root / "params.yaml", metrics, scores, settings)
    return standing.standings(groups, cross_validations(root / "params.yaml", groups))
