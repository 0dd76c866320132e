"""Versions: how one is written into MLflow's tags and read from them, and its line of champions. No
mlflow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import params
from pipeline.core.errors import UserError, refuse
from pipeline.tracking import describe
from pipeline.tracking.lineage import EvaluatedRun, check_outputs
from pipeline.tracking.scores import score_line

DIGEST, LINEAGE = "seqline.digest", "seqline.made"
_DELETE = "Delete the version there, if nobody can say who made it."
PARTS = ("outs", "places", "code", "block", "corpus_block")


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A version of the registered model `name`: an evaluated run as it was when the version was
    made.

    `outs` are md5s by path and `places` paths by kind (raw, tokens, vocab, encoded, model,
    predictions, scores), `code` the md5s of what else it was trained by. `block` is the run's with
    `search`, `corpus_block` its corpus's; `score` in words the one that ranks, with its interval.
    `dirty` says that files differed from the `commit`."""

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
        """Return whether an input or output of it has this hash: under this path, or under any path
        if that is ""."""
        known = {**self.outs, **self.code}
        return known.get(path) == md5 if path else md5 in known.values()

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class ChampionPeriod:
    """A version that is or was champion, `since` when (UTC, "" if that is not known), and `why`."""

    version: Version
    since: str
    why: dict[str, str]


def model_name(task: str, corpus: str) -> str:
    """The registered model of a task on a corpus."""
    return f"{task}-{corpus}"


def version_tags(root: Path, made: EvaluatedRun) -> dict[str, str]:
    """Tags that show a version to people, in that order; the last has all of it, to be read back.

    Lineage goes both ways: each folder's hash is under its path, so that MLflow's own search finds
    the versions of a hash."""
    origin = describe.origin(root)
    edited = {"git.dirty": "true"} if origin.get("seqline.dirty") == "true" else {}
    return {
        "score": score_line(root, made),
        "run": made.run,
        "family": str(made.block["family"]),
        "git.commit": origin.get("mlflow.source.git.commit", ""),
        **edited,
        **{
            describe.mlflow_name(f"dvc.outs/{path}"): made.outs[path]
            for path in made.places.values()
        },
        DIGEST: made.digest(),
        LINEAGE: json.dumps({part: getattr(made, part) for part in PARTS}, ensure_ascii=False),
    }


def read_version(registered: Any) -> Version:
    """Read a version from MLflow's; UserError if its tags are not what `version_tags` writes.

    The registry may be shared: what others can write there becomes part of paths, of params.yaml
    and of command lines."""
    where = f"{registered.name}/{registered.version} in MLflow's registry"
    try:
        return _read(registered)
    except UserError as error:
        raise UserError(f"{where}: {error} {_DELETE}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        problem = f"tags that cannot be read ({type(error).__name__})"
        raise refuse(where, problem, "a version of seqline's", _DELETE) from None


def _read(registered: Any) -> Version:
    tags = registered.tags
    parts = json.loads(tags[LINEAGE])
    version = Version(
        name=registered.name,
        version=int(registered.version),
        task=parts["block"]["task"],
        corpus=parts["block"]["corpus"],
        run=tags["run"],
        digest=tags[DIGEST],
        commit=tags["git.commit"],
        dirty="git.dirty" in tags,
        score=tags["score"],
        mlflow_run=registered.run_id,
        **{part: dict(parts[part]) for part in PARTS},
    )
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
    """Of the recorded moves, in order of time, those that led to the present `holder` of the alias,
    whose own is last.

    Each tells the version that it moved the alias to and `from` which, so that one that never came,
    its process having been killed, shows: the next found the alias where it was. A version that
    somebody named by hand stands there without a time."""
    stood = _stood(moves, holder)
    line: list[Mapping[str, Any]] = [_by_hand(stood[0])]
    for move, after in zip(moves, stood[1:], strict=True):
        if after == move["from"]:
            continue
        if move.get("back") and any(each["version"] == move["version"] for each in line):
            while line[-1]["version"] != move["version"]:
                line.pop()
        else:
            line.append(move)
        if after != move["version"]:
            line.append(_by_hand(after))
    return [each for each in line if each["version"] is not None] if holder is not None else []


def rolled_back(moves: Sequence[Mapping[str, Any]], holder: int | None) -> set[int]:
    """Versions that a rollback removed and that never became champion again.

    The arguments are those of `champion_moves`."""
    found: set[int] = set()
    for move, after in zip(moves, _stood(moves, holder)[1:], strict=True):
        if move.get("back") and after == move["version"]:
            found.add(move["from"])
        found.discard(after or 0)
    return found


def _stood(moves: Sequence[Mapping[str, Any]], holder: int | None) -> list[int | None]:
    """Positions of the alias before the first move, between each two, and now."""
    return [*(move["from"] for move in moves), holder]


def _by_hand(version: int | None) -> Mapping[str, Any]:
    return {"version": version, "at": ""}
