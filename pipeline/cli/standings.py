"""The standing of each task and corpus of a project."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from pipeline.core import config
from pipeline.core.errors import UserError, refuse
from pipeline.dag.paths import RunPaths
from pipeline.report import results, standing
from pipeline.report.cross_validation import cross_validations
from pipeline.report.standing import Standing

_SHOWN = 3


def load_standings(root: Path, settings: Collection[str] | None = None) -> list[Standing]:
    """Return the standing of each task and corpus of `params.yaml`, in the order of the report, of
    these `settings` or of all; UserError if a run is not evaluated."""
    paths = RunPaths(root)
    _refuse_unscored(root, paths, settings)
    metrics, scores = (paths.shared("report", option) for option in ("metrics", "scores"))
    groups = results.groups(root / "params.yaml", metrics, scores, settings)
    return standing.standings(groups, cross_validations(root / "params.yaml", groups))


def can_load(root: Path) -> bool:
    """Return whether the project has runs, each of them evaluated, and a report."""
    with suppress(UserError):  # of a DAG without these stages or runs
        paths = RunPaths(root)
        runs = _runs(root, None)
        page = paths.shared("report", "page")
        return bool(runs) and page.exists() and not _unscored(paths, runs)
    return False


def _runs(root: Path, settings: Collection[str] | None) -> list[str]:
    return [
        name
        for name, block in config.blocks(root / "params.yaml", "runs").items()
        if settings is None or block["setting"] in settings
    ]


def _unscored(paths: RunPaths, runs: Collection[str]) -> list[str]:
    return [name for name in runs if not paths.option("evaluate", name, "metrics").exists()]


def _refuse_unscored(root: Path, paths: RunPaths, settings: Collection[str] | None) -> None:
    runs = _runs(root, settings)
    if missing := _unscored(paths, runs):
        more = ", ..." if len(missing) > _SHOWN else ""
        names = ", ".join(missing[:_SHOWN])
        raise refuse(
            "runs",
            f"no scores of {len(missing)} of {len(runs)} ({names}{more})",
            "scores of each",
            "`seqline run` computes them; `seqline runs` shows those that are there.",
        )
