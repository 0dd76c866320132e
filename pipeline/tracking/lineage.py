"""Lineage of a version by `dvc.lock`: the run's block, and the hashes of all that went in and came
out. No mlflow."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import config
from pipeline.core.errors import refuse
from pipeline.dag import cache
from pipeline.tracking import describe

_STAGES = {
    "raw": "download@{corpus}",
    "tokens": "tokenize@{corpus}",
    "vocab": "vocab@{corpus}",
    "encoded": "encode@{corpus}",
    "model": "train@{run}",
    "predictions": "predict@{run}",
    "scores": "evaluate@{run}",
}
_USED = {"train": ("vocab", "encoded"), "evaluate": ("tokens", "model", "predictions")}
_FOLDER = ".dir"


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluatedRun:
    """An evaluated run. `outs` are the md5s of its stages' outputs and its corpus's by path;
    `places` the path of each kind of folder (raw, tokens, vocab, encoded, model, predictions,
    scores); `code` the md5s of what it was trained by. `block` is the run's, `search` included;
    `corpus_block` the corpus's."""

    run: str
    block: dict[str, Any]
    corpus_block: dict[str, Any]
    outs: dict[str, str]
    places: dict[str, str]
    code: dict[str, str]

    def __post_init__(self) -> None:
        """Refuse an md5 or a path that dvc.lock cannot have from DVC: both become parts of
        paths."""
        check_outputs(f"dvc.lock, {self.run}", self.outs, self.places)

    @property
    def task(self) -> str:
        return str(self.block["task"])

    @property
    def corpus(self) -> str:
        return str(self.block["corpus"])

    def md5(self, kind: str) -> str:
        """The hash of one of `places`."""
        return self.outs[self.places[kind]]

    def digest(self) -> str:
        """Digest that tells versions apart: the model, its vocabulary and search, which make its
        answers, and the text it was judged on, of which `tokens` is all of it."""
        of = [
            self.task,
            self.corpus,
            *(self.md5(kind) for kind in ("model", "vocab", "tokens")),
            self.block.get("search"),
        ]
        return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()


def check_outputs(where: str, outs: Mapping[str, str], places: Mapping[str, str]) -> None:
    """Check outputs that were read from `where`: md5s of DVC's by paths inside of the project, with
    a place of each kind.

    UserError for the first that is not.
    """
    for path, md5 in outs.items():
        cache.check_inside(path, where)
        cache.check_md5(md5, f"{where}: {path}")
    for kind in _STAGES:
        if places.get(kind) not in outs:
            raise refuse(
                where, f"no output for {kind}", "one of the outputs for each kind of folder"
            )


def evaluated_runs(root: Path) -> list[EvaluatedRun]:
    """Every run of `params.yaml` whose scores are of its present model, vocabulary, text and
    answers, by the lock."""
    stages, corpora = describe.read_lock(root), config.read(root / "params.yaml").get("corpora", {})
    found = (_made(stages, corpora, name) for name in config.section(root / "params.yaml", "runs"))
    return [made for made in found if made is not None]


def _made(stages: Mapping[str, Any], corpora: Mapping[str, Any], run: str) -> EvaluatedRun | None:
    block = _block(stages, run)
    if not {"task", "corpus"} <= set(block) or block["corpus"] not in corpora:
        return None
    names = {kind: stage.format(run=run, corpus=block["corpus"]) for kind, stage in _STAGES.items()}
    places = {kind: path for kind, stage in names.items() for path in _folders(stages, stage)}
    outs = {
        path: md5
        for stage in names.values()
        for path, md5 in describe.hashes(stages, stage, "outs").items()
    }
    if set(places) != set(_STAGES) or not all(_used(stages, run, outs, places)):
        return None
    deps = describe.hashes(stages, f"train@{run}", "deps")
    code = {path: md5 for path, md5 in deps.items() if path not in outs}
    corpus_block = dict(corpora[block["corpus"]])
    return EvaluatedRun(
        run=run, block=block, corpus_block=corpus_block, outs=outs, places=places, code=code
    )


def _folders(stages: Mapping[str, Any], stage: str) -> list[str]:
    """The folders that a stage writes: one each; what else it writes are metrics and plots."""
    return [
        path
        for path, md5 in describe.hashes(stages, stage, "outs").items()
        if md5.endswith(_FOLDER)
    ]


def _used(
    stages: Mapping[str, Any], run: str, outs: Mapping[str, str], places: Mapping[str, str]
) -> Iterator[bool]:
    """Of everything that training and judging used, whether it is the present one: a killed run
    leaves older scores."""
    for stage, kinds in _USED.items():
        deps = describe.hashes(stages, f"{stage}@{run}", "deps")
        yield from (deps.get(places[kind]) == outs[places[kind]] for kind in kinds)


def _block(stages: Mapping[str, Any], run: str) -> dict[str, Any]:
    """The run's block as it was trained and asked: `search` is the predict stage's, all else the
    train stage's."""

    def params(stage: str) -> dict[str, Any]:
        known = stages.get(f"{stage}@{run}", {}).get("params", {}).get("params.yaml", {})
        return {key.removeprefix(f"runs.{run}."): value for key, value in known.items()}

    trained = params("train")
    return {**trained, "search": params("predict").get("search")} if trained else {}


def resolve_hash(root: Path, what: str) -> tuple[str, str]:
    """The path (or "") and the md5 that `what` names: an md5 itself, or a path that `dvc.lock`
    knows or that lies in one.

    UserError if the lock knows no such path.
    """
    if (
        set(what.removesuffix(_FOLDER)) <= set("0123456789abcdef")
        and len(what.removesuffix(_FOLDER)) == 32
    ):
        return "", what
    stages = describe.read_lock(root)
    known = {
        path: md5
        for stage in stages
        for kind in ("deps", "outs")
        for path, md5 in describe.hashes(stages, stage, kind).items()
    }
    path = (Path.cwd() / what).resolve()
    for place in (path, *path.parents):
        if (
            place.is_relative_to(root.resolve())
            and (name := place.relative_to(root.resolve()).as_posix()) in known
        ):
            return name, known[name]
    raise refuse(what, "nothing that dvc.lock knows", "a file or folder of the DAG, or an md5")
