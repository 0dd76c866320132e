"""`seqline promote`, `seqline rollback` and `seqline champions`: the registry by hand, in words and
tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.core import params
from pipeline.core.errors import printable, refuse
from pipeline.runs import names
from pipeline.tracking import lineage
from pipeline.tracking.versions import ChampionPeriod, Version

_HEADER = ("model", "version", "run", "score", "since (UTC)", "commit", "why")
_UNKNOWN = "set manually"


def promote(root: Path, what: str, number: int | None, why: str | None) -> str:
    """Make the present outputs of the run `what`, or version `number` of the registered model
    `what`, champion."""
    from pipeline.tracking import registry  # imports mlflow: a second

    version = _present(root, what) if number is None else registry.version(root, what, number)
    before = registry.champion(root, version.name)
    if before is not None and before.version == version.version:
        return f"{_describe(version)} is champion already"
    registry.promote(
        root, version, {"by": "hand"} if why is None else {"by": "hand", "why": why}, over=before
    )
    return f"{_describe(version)} is champion" + (
        f" in place of {_describe(before)}" if before is not None else ""
    )


def _present(root: Path, run: str) -> Version:
    from pipeline.tracking import registry  # imports mlflow: a second

    name = names.first_run(root, run)
    if name is None:
        raise refuse(
            "promote",
            run,
            f"a run, one of {', '.join(names.blocks(root))}, or a registered model and a version",
            "See `seqline champions`.",
        )
    params.require_test(root / "params.yaml")
    return registry.version_of_run(root, name)


def rollback(root: Path, name: str) -> str:
    """Make the champion before the present one of the registered model champion again."""
    from pipeline.tracking import registry  # imports mlflow: a second

    return f"{_describe(registry.rollback(root, name))} is champion again"


def table(root: Path, history: bool) -> str:
    """Every registered model's champion; with `history` those before it too."""
    from pipeline.tracking import registry  # imports mlflow: a second

    rows = [
        row
        for name, periods in registry.champions(root).items()
        for row in _rows(name, periods, history)
    ]
    return (
        aligned([_HEADER, *rows])
        if rows
        else "no version is registered yet: `dvc repro`, then `seqline sync`"
    )


def records(root: Path, history: bool) -> list[dict[str, Any]]:
    """The content of `table` for scripts: a record for each champion, the present one first, and
    one without a version for a model that has had none."""
    from pipeline.tracking import registry  # imports mlflow: a second

    rows: list[dict[str, Any]] = []
    for name, periods in registry.champions(root).items():
        shown = periods if history else periods[:1]
        rows += [_record(name, period, period is periods[0]) for period in shown]
        if not periods:
            rows.append({"model": name, "version": None})
    return rows


def _record(name: str, period: ChampionPeriod, is_champion: bool) -> dict[str, Any]:
    version = period.version
    return {
        "model": name,
        "version": version.version,
        "is_champion": is_champion,
        "run": version.run,
        "score": version.score,
        "since": period.since,
        "commit": version.commit,
        "commit_has_edits": version.dirty,
        "why": dict(period.why),
    }


def versions_of(root: Path, what: str) -> str:
    """The versions that the file or folder `what`, or what has this md5, went into or came out
    with."""
    from pipeline.tracking import registry  # imports mlflow: a second

    path, md5 = lineage.resolve_hash(root, what)
    versions = registry.versions_with(root, path, md5)
    if not versions:
        return f"{path or md5}: in no version" + (f" as it is now ({md5})" if path else "")
    return aligned(
        [
            ("version", "run", "score", "commit"),
            *((str(v), v.run, v.score, _commit(v)) for v in versions),
        ]
    )


def _rows(name: str, periods: Sequence[ChampionPeriod], history: bool) -> list[tuple[str, ...]]:
    if not periods:
        return [(name, "–", "none yet", "", "", "", "")]
    shown = periods if history else periods[:1]
    return [_row(name if not place else "", period) for place, period in enumerate(shown)]


def _row(name: str, period: ChampionPeriod) -> tuple[str, ...]:
    version = period.version
    why = ", ".join(f"{key}: {text}" for key, text in period.why.items())
    since = period.since or _UNKNOWN
    return name, str(version.version), version.run, version.score, since, _commit(version), why


def _describe(version: Version) -> str:
    return f"{version} ({version.run}, {version.score})"


def _commit(version: Version) -> str:
    return version.commit[:10] + (" with edits" if version.dirty else "")


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell."""
    # Others may have written into the registry: no control characters on the terminal.
    rows = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
