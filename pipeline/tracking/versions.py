"""What a version is, how it is written into MLflow's tags and read from them, and which champions led to one. No mlflow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.tracking import describe
from pipeline.tracking.lineage import Made
from pipeline.tracking.scores import line

DIGEST, MADE = "seqline.digest", "seqline.made"


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A version of the registered model `name`: an evaluated run as it was when the version was made.

    `outs` are md5s by path and `places` paths by kind (raw, tokens, vocab, encoded, model, predictions, scores), `code` the
    md5s of what else it was trained by. `block` is the run's with `search`, `corpus_block` its corpus's; `score` in words
    the one that ranks, with its interval. `dirty` says that files differed from the `commit`.
    """

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

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class Reign:
    """A version that is or was champion, `since` when (UTC, "" if that is not known), and `why`."""

    version: Version
    since: str
    why: dict[str, str]


def name_of(task: str, corpus: str) -> str:
    """The registered model of a task on a corpus."""
    return f"{task}-{corpus}"


def tags(root: Path, made: Made) -> dict[str, str]:
    """Both ways of lineage: the hashes, each under its path, so that they can be searched for; and all of it to be read."""
    origin = describe.origin(root)
    hashes = {f"dvc.outs/{path}": md5 for path, md5 in made.outs.items()}
    hashes |= {f"dvc.deps/{path}": md5 for path, md5 in made.code.items()}
    parts = ("outs", "places", "code", "block", "corpus_block")
    return {
        DIGEST: made.digest(),
        MADE: json.dumps({part: getattr(made, part) for part in parts}, ensure_ascii=False),
        "run": made.run,
        "family": str(made.block["family"]),
        "task": made.task,
        "corpus": made.corpus,
        "score": line(root, made),
        "git.commit": origin.get("mlflow.source.git.commit", ""),
        "git.dirty": origin.get("seqline.dirty", ""),
        **{describe.name(key): md5 for key, md5 in hashes.items()},
    }


def read(found: Any) -> Version:
    """MLflow's version as ours."""
    tags = found.tags
    return Version(
        name=found.name,
        version=int(found.version),
        digest=tags[DIGEST],
        mlflow_run=found.run_id,
        commit=tags.get("git.commit", ""),
        dirty=tags.get("git.dirty") == "true",
        **{key: tags[key] for key in ("run", "task", "corpus", "score")},
        **json.loads(tags[MADE]),
    )


def led_to(moves: Sequence[Mapping[str, Any]], holder: int | None) -> list[Mapping[str, Any]]:
    """Of the recorded moves, in order of time, those that led to the present `holder` of the alias, whose own is last.

    Each tells the version that it moved the alias to and `from` which, so that one that never came, its process having been
    killed, shows: the next found the alias where it was. A version that somebody named by hand stands there without a time.
    """
    stood = [*(move["from"] for move in moves), holder]  # before the first move, between each two, and now
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


def _by_hand(version: int | None) -> Mapping[str, Any]:
    return {"version": version, "at": ""}
