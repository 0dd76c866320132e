"""Lineage of an evaluated run by `dvc.lock`: its block, and the hashes of its inputs and outputs.

No mlflow here."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import config
from pipeline.core.errors import refuse
from pipeline.dag import cache
from pipeline.tracking import describe

# by kind of folder: the stage that writes it
_STAGES = {
    "raw": "download@{corpus}",
    "tokens": "tokenize@{corpus}",
    "vocab": "vocab@{corpus}",
    "encoded": "encode@{corpus}",
    "model": "train@{run}",
    "predictions": "predict@{run}",
    "scores": "evaluate@{run}",
}
# by stage: the kinds of folders that it must have read in their present state
_REQUIRED_INPUTS = {"train": ("vocab", "encoded"), "evaluate": ("tokens", "model", "predictions")}
_FOLDER = ".dir"  # suffix of DVC's md5 of a folder


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluatedRun:
    """An evaluated run, with the hashes of its inputs and outputs.

    `outs` are md5s by path: the outputs of its stages and of its corpus's stages. `places` has the
    path of each kind of folder (raw, tokens, vocab, encoded, model, predictions, scores). `code`
    are the md5s of the other inputs of its training. `block` is the run's, with `search`;
    `corpus_block` is the corpus's. The names of the fields are keys of a version's tag."""

    run: str
    block: dict[str, Any]
    corpus_block: dict[str, Any]
    outs: dict[str, str]
    places: dict[str, str]
    code: dict[str, str]

    def __post_init__(self) -> None:
        """Refuse an md5 or a path that DVC would not write: both become parts of paths."""
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
        """Digest of a version: what determines its predictions, and the text of its evaluation.

        These are the model, vocabulary and search, and the tokens."""
        facts = [
            self.task,
            self.corpus,
            *(self.md5(kind) for kind in ("model", "vocab", "tokens")),
            self.block.get("search"),
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def check_outputs(where: str, outs: Mapping[str, str], places: Mapping[str, str]) -> None:
    """Check outputs that were read from `where`; UserError for the first invalid one.

    Valid are md5s as DVC writes them, at paths inside of the project, with a path for each kind.
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
    """Every run of `params.yaml` whose scores are up to date by `dvc.lock`.

    Up to date are scores of the present model, vocabulary, text and predictions."""
    stages = describe.read_lock(root)
    corpora = config.read(root / "params.yaml").get("corpora", {})
    names = config.section(root / "params.yaml", "runs")
    runs = (_evaluated_run(stages, corpora, name) for name in names)
    return [run for run in runs if run is not None]


def _evaluated_run(
    stages: Mapping[str, Any], corpora: Mapping[str, Any], run: str
) -> EvaluatedRun | None:
    block = _block(stages, run)
    if not {"task", "corpus"} <= set(block) or block["corpus"] not in corpora:
        return None

    # The kinds of folders by the stages that write them for this run.
    names = {kind: stage.format(run=run, corpus=block["corpus"]) for kind, stage in _STAGES.items()}
    places = {}
    outs = {}
    for kind, stage in names.items():
        for path, md5 in describe.hashes(stages, stage, "outs").items():
            outs[path] = md5
            # Each stage writes one folder; its other outputs are metrics and plots.
            if md5.endswith(_FOLDER):
                places[kind] = path
    if set(places) != set(_STAGES):
        return None

    # Train and evaluate must have read the present outputs: a killed run leaves older scores.
    for stage, kinds in _REQUIRED_INPUTS.items():
        inputs = describe.hashes(stages, f"{stage}@{run}", "deps")
        if any(inputs.get(places[kind]) != outs[places[kind]] for kind in kinds):
            return None

    # What training read besides outputs of stages is code.
    deps = describe.hashes(stages, f"train@{run}", "deps")
    return EvaluatedRun(
        run=run,
        block=block,
        corpus_block=dict(corpora[block["corpus"]]),
        outs=outs,
        places=places,
        code={path: md5 for path, md5 in deps.items() if path not in outs},
    )


def _block(stages: Mapping[str, Any], run: str) -> dict[str, Any]:
    """The run's block as it was executed: `search` is the predict stage's, all else the train
    stage's."""

    def keys(stage: str) -> dict[str, Any]:
        locked = describe.locked_params(stages, f"{stage}@{run}")
        setting = locked.get(f"runs.{run}.setting")
        return {
            key.removeprefix(f"runs.{run}.").removeprefix(f"settings.{setting}."): value
            for key, value in locked.items()
        }

    trained = keys("train")
    return {**trained, "search": keys("predict").get("search")} if trained else {}


def resolve_hash(root: Path, what: str) -> tuple[str, str]:
    """Return the path (or "") and the md5 that `what` names.

    `what` is an md5, or a path in `dvc.lock` or inside of one. UserError for any other path."""
    digest = what.removesuffix(_FOLDER)
    if len(digest) == 32 and set(digest) <= set("0123456789abcdef"):
        return "", what

    stages = describe.read_lock(root)
    hashes = {
        path: md5
        for stage in stages
        for kind in ("deps", "outs")
        for path, md5 in describe.hashes(stages, stage, kind).items()
    }
    # DVC hashes whole outputs: take the nearest parent that is one.
    path = (Path.cwd() / what).resolve()
    for parent in (path, *path.parents):
        if not parent.is_relative_to(root.resolve()):
            break
        name = parent.relative_to(root.resolve()).as_posix()
        if name in hashes:
            return name, hashes[name]
    raise refuse(what, "no path in dvc.lock", "a file or folder of the DAG, or an md5")
