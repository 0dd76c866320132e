"""Versions as MLflow's tags, and the history of champions. No mlflow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import params, renamed_keys
from pipeline.core.errors import UserError, refuse
from pipeline.scoring import metrics_file
from pipeline.tracking import describe, run_scores
from pipeline.tracking.lineage import EvaluatedRun, check_outputs

CHAMPION, CHALLENGER = "champion", "challenger"  # aliases
DIGEST, LINEAGE, DECISION = "seqline.digest", "seqline.lineage", "seqline.decision"
RENAMED_TAGS = {"seqline.made": LINEAGE, "seqline.judged": DECISION}
"""New names of tags, by the old ones that older versions of the project wrote."""

_DELETE = "Delete the version there, if nobody knows who created it."
# fields of an evaluated run that the tag `LINEAGE` holds
PARTS = ("outs", "places", "code", "block", "corpus_block")


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A version of the registered model `name`: an evaluated run at the time of registration.

    `outs`, `places`, `code`, `block` and `corpus_block` are those of `lineage.EvaluatedRun`.
    `score` is the ranking score with its interval, as text. `dirty`: files differed from the
    `commit`."""

    name: str
    version: int
    task: str
    corpus: str
    run: str
    digest: str
    outs: dict[str, str]
    places: dict[str, str]
    code: dict[str, str]
    block: dict[str, Any]
    corpus_block: dict[str, Any]
    commit: str
    dirty: bool
    score: str
    mlflow_run: str

    def md5(self, kind: str) -> str:
        """The hash of one of `places`."""
        return self.outs[self.places[kind]]

    def holds(self, path: str, md5: str) -> bool:
        """Return whether the input or output `path` has this hash; "" stands for any path."""
        hashes = {**self.outs, **self.code}
        return hashes.get(path) == md5 if path else md5 in hashes.values()

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class ChampionPeriod:
    """A version that is or was champion, `since` when (UTC; "" if unknown), and `why`."""

    version: Version
    since: str
    why: dict[str, str]


def model_name(task: str, corpus: str) -> str:
    """The registered model of a task on a corpus."""
    return f"{task}-{corpus}"


def score_line(root: Path, run: EvaluatedRun) -> str:
    """E.g. `BLEU 96.61 [95.93, 97.25]`, from the metrics of the evaluate stage."""
    path = next((path for path in run.outs if path.endswith(f"/{run.run}.json")), None)
    if path is None or not (root / path).exists():
        return run_scores.NONE
    metrics = metrics_file.read(root / path)
    return run_scores.score_line(metrics, run_scores.scoring_of(run.task, run.corpus_block))


def version_tags(root: Path, run: EvaluatedRun) -> dict[str, str]:
    """Return a version's tags, in the order in which MLflow's pages show them.

    The last one holds the whole version, for `read_version`. Each folder's hash is under its path,
    so that MLflow's search finds the versions of a hash."""
    origin = describe.origin(root)
    dirty = {"git.dirty": "true"} if origin.get("dirty") else {}
    hashes = {
        describe.mlflow_name(f"dvc.outs/{path}"): run.outs[path] for path in run.places.values()
    }

    return {
        "score": score_line(root, run),
        "run": run.run,
        "family": str(run.block["family"]),
        "git.commit": origin.get("commit", ""),
        **dirty,
        **hashes,
        DIGEST: run.digest(),
        LINEAGE: json.dumps({part: getattr(run, part) for part in PARTS}, ensure_ascii=False),
    }


def read_tags(entry: Any) -> dict[str, str]:
    """Return the tags of a version or a registered model by their present names.

    A tag that has both names keeps the value under the new one."""
    tags = dict(entry.tags)
    old = {new: tags.pop(name) for name, new in RENAMED_TAGS.items() if name in tags}
    return {**old, **tags}


def read_version(entry: Any) -> Version:
    """Read a version from MLflow's `entry`; UserError if its tags are not those of `version_tags`.

    The registry may be shared: what others write there becomes part of paths, of params.yaml and of
    command lines."""
    where = f"{entry.name}/{entry.version} in MLflow's registry"
    try:
        return _read(entry)
    except UserError as error:
        raise UserError(f"{where}: {error} {_DELETE}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise refuse(
            where,
            f"tags that cannot be read ({type(error).__name__})",
            "a version of seqline's",
            _DELETE,
        ) from None


def _read(entry: Any) -> Version:
    tags = read_tags(entry)
    parts = json.loads(tags[LINEAGE])
    parts["block"] = renamed_keys.upgrade("runs", parts["block"])
    parts["corpus_block"] = renamed_keys.upgrade("corpora", parts["corpus_block"])
    version = Version(
        name=entry.name,
        version=int(entry.version),
        task=parts["block"]["task"],
        corpus=parts["block"]["corpus"],
        run=tags["run"],
        digest=tags[DIGEST],
        commit=tags["git.commit"],
        dirty="git.dirty" in tags,
        score=tags["score"],
        mlflow_run=entry.run_id,
        **{part: dict(parts[part]) for part in PARTS},
    )

    # Check what becomes part of paths and command lines.
    check_outputs("tags", version.outs, version.places)
    params.check_name("runs", version.run)
    params.check_name("corpora", version.corpus)
    if version.name != model_name(version.task, version.corpus):
        raise refuse(
            "tags",
            f"{version.task} on {version.corpus}",
            "the task and corpus of the registered model",
        )
    return version


def champion_moves(
    moves: Sequence[Mapping[str, Any]], holder: int | None
) -> list[Mapping[str, Any]]:
    """Return those of the recorded moves that led to the present `holder` of the alias, its own
    last.

    `moves` are in order of time. Each has the `version` that it moved the alias to, and `from`
    which. A killed process leaves a record without its move, which shows in the next record: there
    the alias is still where it was. A version that somebody set by hand has no time."""
    positions = _alias_positions(moves, holder)
    history: list[Mapping[str, Any]] = [_manual_move(positions[0])]
    for move, position in zip(moves, positions[1:], strict=True):
        # The recorded move did not happen.
        if position == move["from"]:
            continue

        # A rollback removes the champions after its version, as on a stack.
        if move.get("back") and any(entry["version"] == move["version"] for entry in history):
            while history[-1]["version"] != move["version"]:
                history.pop()
        else:
            history.append(move)
        # Somebody moved the alias by hand before the next record.
        if position != move["version"]:
            history.append(_manual_move(position))

    if holder is None:
        return []
    return [entry for entry in history if entry["version"] is not None]


def rolled_back(moves: Sequence[Mapping[str, Any]], holder: int | None) -> set[int]:
    """Versions that a rollback removed and that never became champion again.

    The arguments are those of `champion_moves`."""
    versions: set[int] = set()
    for move, position in zip(moves, _alias_positions(moves, holder)[1:], strict=True):
        if move.get("back") and position == move["version"]:
            versions.add(move["from"])
        versions.discard(position or 0)
    return versions


def _alias_positions(moves: Sequence[Mapping[str, Any]], holder: int | None) -> list[int | None]:
    """Positions of the alias before the first move, between each two, and now."""
    return [*(move["from"] for move in moves), holder]


def _manual_move(version: int | None) -> Mapping[str, Any]:
    return {"version": version, "at": ""}
