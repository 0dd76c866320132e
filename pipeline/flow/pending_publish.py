"""Results of a retraining that are not published yet, kept in `.seqline/flow/unpublished.json`
until they are.

A champion is written down before the alias moves, so that one whose flow was killed in that moment,
or whose push failed, is published by the next. `unfinished` beside it is there from a retraining's
first stage until every stage is up to date."""

import json
from pathlib import Path

from pipeline.core import state_dir
from pipeline.core.atomic import atomic_file
from pipeline.tracking import describe


def begin(root: Path) -> bool:
    """Stages are about to run; whether those of an earlier retraining did not all come to their
    end, and so may have made what nobody has published."""
    there = (root / state_dir.UNFINISHED_PUBLISH).exists()
    (root / state_dir.UNFINISHED_PUBLISH).parent.mkdir(parents=True, exist_ok=True)
    (root / state_dir.UNFINISHED_PUBLISH).touch()
    return there


def end(root: Path) -> None:
    """Every stage is up to date, and what was made is written down."""
    (root / state_dir.UNFINISHED_PUBLISH).unlink(missing_ok=True)


def add(root: Path, *champions: str) -> None:
    """Something is to be published: outputs at any rate, and these champions, `<name>/<version>`,
    if they become it."""
    there = read(root) or []
    with atomic_file(root / state_dir.PENDING_PUBLISH) as beside:
        beside.write_text(
            json.dumps([*there, *(one for one in champions if one not in there)]), encoding="utf-8"
        )


def read(root: Path) -> list[str] | None:
    """The champions to be published, which may be none; None if there is nothing to publish."""
    try:
        return [
            str(one)
            for one in json.loads((root / state_dir.PENDING_PUBLISH).read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError):
        return None


def clear(root: Path) -> None:
    """All of it is published."""
    (root / state_dir.PENDING_PUBLISH).unlink(missing_ok=True)


def champions(root: Path) -> tuple[list[str], list[str]]:
    """Of the champions to be published, those that dvc.lock still holds, and those in whose place
    it holds another model.

    A version whose promotion never came, or was rolled back, is neither.
    """
    from pipeline.tracking import registry  # imports mlflow: a second

    if not (wanted := read(root)):
        return [], []
    outs = {
        out["path"]: out["md5"]
        for stage in describe.lock(root).values()
        for out in stage.get("outs", [])
    }
    came = [
        reign.version
        for reigns in registry.champions(root).values()
        for reign in reigns
        if str(reign.version) in wanted
    ]
    held = [
        str(one)
        for one in came
        if all(outs.get(one.places[kind]) == one.md5(kind) for kind in ("tokens", "model"))
    ]
    return held, [str(one) for one in came if str(one) not in held]
