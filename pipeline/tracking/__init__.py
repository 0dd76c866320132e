"""MLflow is a view of what DVC holds. This package alone imports mlflow, and never in the training process.

- `live` (spool.py): the training's figures go to a file; a process of its own (follow.py) carries them to the store.
- `sync` (record.py): brings MLflow level with DVC's outputs, whatever the live view missed.
- `ui` (serve.py): MLflow's pages on the project's own store.
"""

from pathlib import Path

from pipeline.tracking.spool import live

__all__ = ["live", "sync", "ui"]


def sync(root: Path) -> str:
    """Record every run of the project `root` that MLflow lacks or has in part; what was done, in words. Idempotent."""
    from pipeline.tracking import record  # imports mlflow: seconds that training must not pay

    return record.sync(root)


def ui(root: Path, port: int) -> None:
    """Serve MLflow's pages for the project `root` on loopback until interrupted."""
    from pipeline.tracking import serve

    serve.ui(root, port)
