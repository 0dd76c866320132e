"""MLflow as a view of what DVC holds. This package alone imports mlflow, and never in the training
process.

- `live` (live_log.py): the training writes its metrics to a file (spools.py); a separate process
  (follower.py, sender.py) sends them to the store.
- `sync` (backfill.py): backfills MLflow from the spools that are left, from DVC's outputs and from
  those of DVC's experiments (experiments.py).
- parent_runs.py: a parent run for each setting; pages.py: what MLflow's pages show first.
- registry.py: versions of evaluated runs, and the champion among them.
- package.py, loader.py and served.py: the MLflow model of a version, which `pipeline.serving`
  serves over HTTP."""

from pathlib import Path

from pipeline.tracking.live_log import live

__all__ = ["live", "sync"]


def sync(root: Path) -> str:
    """Record every run of the project `root` that MLflow lacks or has in part.

    Idempotent. Returns a message with a line for each change."""
    from pipeline.tracking import backfill, registry

    # First the runs, then their versions: a version refers to its MLflow run.
    summary = backfill.sync(root)
    registered = [
        f"{version.run}: registered as {version}, {version.score}"
        for version in registry.register(root)
    ]
    return "\n".join([*registered, summary])
