"""MLflow is a view of what DVC holds. This package alone imports mlflow, and never in the training
process.

- `live` (live_log.py): the training's figures go to a file; a process of its own (follower.py)
  carries them to the store.
- `sync` (backfill.py): brings MLflow level with DVC's outputs, whatever the live view missed.
- registry.py: versions of evaluated runs, and which is champion; package.py and served.py: what
  serves one,
  server.py, protocol.py and request_body.py: over HTTP.
- `ui` and `model` (serve.py): MLflow's pages on the project's own store, and a version that answers
  over HTTP."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.tracking.live_log import live

__all__ = ["live", "model", "sync", "ui"]


def sync(root: Path) -> str:
    """Record every run of the project `root` that MLflow lacks or has in part; what was done, in
    words. Idempotent."""
    from pipeline.tracking import backfill, registry

    said = backfill.sync(root)
    return "\n".join(
        [
            *(
                f"{made.run}: registered as {made}, {made.score}"
                for made in registry.register(root)
            ),
            said,
        ]
    )


def model(root: Path, version: str, port: int, hosts: Sequence[str]) -> None:
    """Serve a version (`NAME`, which is its champion, `NAME@ALIAS` or `NAME/VERSION`) on loopback
    until interrupted.

    Requests must name this machine as their Host, or one of `hosts`.
    """
    from pipeline.tracking import serve

    serve.model(root, version, port, hosts)


def ui(root: Path, port: int) -> None:
    """Serve MLflow's pages for the project `root` on loopback until interrupted."""
    from pipeline.tracking import serve

    serve.ui(root, port)
