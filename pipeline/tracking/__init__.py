"""MLflow as a view of what DVC holds. This package alone imports mlflow, and never in the training
process.

- `live` (live_log.py): the training writes its metrics to a file; a separate process (follower.py)
  sends them to the store.
- `sync` (backfill.py): backfills MLflow from DVC's outputs with whatever the live log missed.
- registry.py: versions of evaluated runs, and the champion among them. package.py and served.py:
  the MLflow model of a version. server.py, protocol.py and request_body.py: its HTTP server.
- `ui` and `model` (serve.py): MLflow's pages on the project's own store, and a version that is
  served over HTTP."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.tracking.live_log import live

__all__ = ["live", "model", "sync", "ui"]


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


def model(root: Path, version: str, port: int, hosts: Sequence[str]) -> None:
    """Serve a version (`NAME`, which is its champion, `NAME@ALIAS` or `NAME/VERSION`) on loopback
    until interrupted.

    The Host of a request must be this machine, or one of `hosts`.
    """
    from pipeline.tracking import serve

    serve.model(root, version, port, hosts)


def ui(root: Path, port: int) -> None:
    """Serve MLflow's pages for the project `root` on loopback until interrupted."""
    from pipeline.tracking import serve

    serve.ui(root, port)
