"""Trained runs of a project: by the name of a run, or as registered versions."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import params
from pipeline.core.errors import refuse
from pipeline.dag import cache, paths
from pipeline.inference import load_run
from pipeline.predictions import TrainedRun
from pipeline.runs import names
from pipeline.tracking.versions import Version


@dataclass(frozen=True, slots=True)
class NamedRun:
    """A trained run: its name, its task, its corpus, and its files."""

    name: str
    task: str
    corpus: str
    files: TrainedRun


def trained_names(root: Path, runs: Iterable[str]) -> list[str]:
    """Those of the runs that are trained."""
    run_paths = paths.RunPaths(root)
    return [run for run in runs if run_paths.option("train", run, "out").exists()]


def by_name(root: Path, name: str, where: str, device: str | None = None) -> NamedRun:
    """The run `name` as it is trained now, for `device` or that of params.yaml; UserError if it is
    not trained, or not on the corpus of params.yaml.

    `where`: what gave the name, in messages."""
    block = names.blocks(root)[name]
    model, vocab = (
        paths.option_path(root, "predict", name, block, option) for option in ("model", "vocab")
    )
    if not model.exists():
        raise refuse(
            f"{where} {name}",
            f"no {model.relative_to(root)}",
            "a trained run",
            "Run `dvc repro`, or `dvc pull`.",
        )

    # params.yaml may have changed since the training.
    run = params.run(root / "params.yaml", name)
    trained_corpus = load_run(model, run.search).corpus
    if trained_corpus != run.corpus:
        raise refuse(
            f"{where} {name}",
            f"a model of {trained_corpus}",
            f"one of {run.corpus}, as params.yaml says",
            "Run `dvc repro`.",
        )
    return NamedRun(name, run.task, run.corpus, _files(root, model, vocab, run.search, device))


def of_version(root: Path, version: Version, device: str | None = None) -> NamedRun:
    """The run of a registered version with its own weights, whatever was trained since."""
    model, vocab = (cache.served_folder(root, version.md5(kind)) for kind in ("model", "vocab"))
    files = _files(root, model, vocab, version.block.get("search"), device)
    return NamedRun(version.run, version.task, str(version.block["corpus"]), files)


def _files(
    root: Path, model: Path, vocab: Path, search: dict[str, Any] | None, device: str | None
) -> TrainedRun:
    return TrainedRun(model, vocab, search, device or params.compute(root / "params.yaml").device)
