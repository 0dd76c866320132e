"""Results of retrainings that are still to be published, in `.seqline/flow/unpublished.json`.

A champion is added before its alias moves. So if the flow is killed there, or its push fails, the
next retraining publishes that champion. The file `unfinished` beside it exists from a retraining's
first stage until every stage is up to date.
"""

import json
from pathlib import Path

from pipeline.core import state_dir
from pipeline.core.atomic import atomic_file
from pipeline.tracking import describe


def begin(root: Path) -> bool:
    """Record that stages are about to run. Return whether an earlier retraining did not bring all
    stages up to date, so that some of its outputs may be unpublished."""
    marker = root / state_dir.UNFINISHED_PUBLISH
    was_interrupted = marker.exists()
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    return was_interrupted


def end(root: Path) -> None:
    """Record that every stage is up to date, and that the outputs to publish are added."""
    (root / state_dir.UNFINISHED_PUBLISH).unlink(missing_ok=True)


def add(root: Path, *champions: str) -> None:
    """Record that outputs are to be published, and these `<name>/<version>` if they become
    champion."""
    pending = read(root) or []
    pending += [champion for champion in champions if champion not in pending]
    with atomic_file(root / state_dir.PENDING_PUBLISH) as temporary:
        temporary.write_text(json.dumps(pending), encoding="utf-8")


def read(root: Path) -> list[str] | None:
    """List the champions to publish, which may be none; None if there is nothing to publish."""
    try:
        content = json.loads((root / state_dir.PENDING_PUBLISH).read_text(encoding="utf-8"))
        return [str(champion) for champion in content]
    except (OSError, ValueError):
        return None


def clear(root: Path) -> None:
    """Record that all of it is published."""
    (root / state_dir.PENDING_PUBLISH).unlink(missing_ok=True)


def champions(root: Path) -> tuple[list[str], list[str]]:
    """Split the champions to publish into those whose outputs dvc.lock still holds, and those that
    another model has replaced there.

    A version that was not promoted after all, or was rolled back, is in neither list.
    """
    from pipeline.tracking import registry  # imports mlflow, which takes a second

    pending = read(root)
    if not pending:
        return [], []

    hashes = {
        out["path"]: out["md5"]
        for stage in describe.read_lock(root).values()
        for out in stage.get("outs", [])
    }
    # The history of the alias decides: a flow may be killed between `add` and the promotion.
    promoted = [
        period.version
        for periods in registry.champions(root).values()
        for period in periods
        if str(period.version) in pending
    ]
    locked = [
        str(version)
        for version in promoted
        if all(
            hashes.get(version.places[kind]) == version.md5(kind) for kind in ("tokens", "model")
        )
    ]
    replaced = [str(version) for version in promoted if str(version) not in locked]
    return locked, replaced
