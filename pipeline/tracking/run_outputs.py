"""Outputs of a run in DVC: its files, scores, settings and hashes, from its outputs and `dvc.lock`.

No mlflow here."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import tables
from pipeline.core.digest import add_file, file_digest
from pipeline.core.errors import read_json, refuse
from pipeline.dag.paths import RunPaths
from pipeline.scoring import metrics_file
from pipeline.scoring.tasks import Scoring
from pipeline.tracking import describe, run_names, run_scores

_DIGEST = re.compile(r"[\w-]{1,128}", re.ASCII)
_EXPECTED = "JSON of a stage"
VERSION = "3"  # of the recorded content: a new one backfills every run once


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """Outputs of a trained run.

    `corpus`: MLflow's params for the settings of its corpus. `label` says what differs from the
    committed settings. `files`: artifacts by name. `scores`:
    final scores by MLflow's name; `main` is the dotted key, below a split, of the one that ranks
    runs, "" if unknown, and `form` is its number format. `inputs`: md5s by path.
    `provenance`: facts for whoever wants to know where the run is from; `origin`: those of
    `describe.origin`, for an experiment's outputs."""

    name: str
    digest: str
    block: dict[str, Any]
    corpus: dict[str, str]
    label: str
    best_step: int
    history: Path
    files: dict[str, Path]
    scores: dict[str, float]
    main: str
    form: str
    params: dict[str, str]
    tags: dict[str, str]
    inputs: dict[str, str]
    provenance: dict[str, Any]
    origin: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """The run's name and digest."""
        return self.name, self.digest

    @property
    def score(self) -> str:
        """The test score that ranks, e.g. `95.90`; "" for a run that is not evaluated."""
        score = self.scores.get(run_scores.SCORE)
        return "" if score is None else self.form.format(score)

    def state(self) -> str:
        """Digest of all outputs: an MLflow run with it as its tag is up to date."""
        digest = hashlib.sha256(VERSION.encode())
        facts = [self.scores, self.params, self.tags, self.inputs, self.provenance]
        digest.update(json.dumps(facts, sort_keys=True).encode())
        for name, path in sorted({"history": self.history, **self.files}.items()):
            add_file(digest, name, path)
        return digest.hexdigest()


def read_outputs(
    paths: RunPaths,
    stages: Mapping[str, Any],
    name: str,
    names: list[str],
    committed: Mapping[str, Any],
) -> Outputs:
    """Read the outputs of the run `name`.

    `stages` are those of `dvc.lock`, `names` those of all runs, and `committed` is the params.yaml
    that the label compares with."""
    model = paths.option("train", name, "out")
    facts = _facts(model / "config.json", name)
    block = facts["run"]
    history = model / "history.parquet"

    content = _metrics(paths, stages, name, model)
    scoring = _scoring(stages, name, block)
    content = content or {}
    main = run_scores.main_key(content, scoring)
    # A final score must not become one more point of a curve.
    curves = set(tables.read(history, tables.HISTORY)["name"].unique().to_pylist())
    metrics = run_scores.metrics_of(content, main)
    scores = {key: value for key, value in metrics.items() if key not in curves}

    # Inputs are data: those deps of training that a stage wrote. The others are code.
    deps = describe.hashes(stages, f"train@{name}", "deps")
    all_outs = {path for stage in stages for path in describe.hashes(stages, stage, "outs")}
    corpus = describe.corpus_block(stages, str(block.get("corpus")))
    return Outputs(
        name=name,
        digest=str(facts["digest"]),
        block=block,
        corpus=describe.corpus_settings(corpus),
        label=run_names.label(name, block, corpus, committed),
        best_step=int(facts.get("best_step") or 0),
        history=history,
        files={} if content is None else dict(_files(paths, name, names)),
        scores=scores,
        main=main,
        form="{:.2f}" if scoring is None else scoring.form,
        params={
            **describe.settings(block),
            **describe.corpus_settings(corpus),
            **describe.flatten_texts({key: facts[key] for key in ("parameters",) if key in facts}),
        },
        tags={
            **describe.labels(block),
            **({"score": run_scores.score_line(content, scoring)} if content else {}),
        },
        inputs={path: md5 for path, md5 in deps.items() if path in all_outs},
        provenance=_provenance(stages, name, content, deps),
    )


def _metrics(
    paths: RunPaths, stages: Mapping[str, Any], name: str, model: Path
) -> dict[str, Any] | None:
    """The metrics of the run; None unless they are those of the model in this folder.

    A run that was killed after training leaves the scores of an older one. If DVC had not hashed
    the new model yet, dvc.lock has the older one too, but the metrics name its weights."""
    model_hashes = describe.hashes(stages, f"train@{name}", "outs")
    read_hashes = describe.hashes(stages, f"evaluate@{name}", "deps")
    if not any(read_hashes.get(path) == md5 for path, md5 in model_hashes.items()):
        return None
    path, weights = paths.option("evaluate", name, "metrics"), model / "model.safetensors"
    content = metrics_file.read(path) if path.exists() else {}
    if "weights" in content and weights.exists():
        return content if content["weights"] == file_digest(weights, "sha256") else None
    return content


def _scoring(stages: Mapping[str, Any], name: str, block: Mapping[str, Any]) -> Scoring | None:
    """The scoring of the run's task, on its corpus as it was evaluated."""
    evaluated = describe.locked_params(stages, f"evaluate@{name}")
    corpus = evaluated.get(f"corpora.{block.get('corpus')}")
    return run_scores.scoring_of(str(block.get("task")), corpus or {})


def _provenance(
    stages: Mapping[str, Any], name: str, metrics: Mapping[str, Any], deps: Mapping[str, str]
) -> dict[str, Any]:
    predicted = describe.locked_params(stages, f"predict@{name}")
    outs: dict[str, str] = {}
    for stage in ("train", "predict", "evaluate"):
        outs |= describe.hashes(stages, f"{stage}@{name}", "outs")
    return {
        "stage": f"train@{name}",
        # The predict stage's: it may change while the model stays.
        "search": predicted.get(f"settings.{predicted.get(f'runs.{name}.setting')}.search"),
        "signatures": run_scores.texts_of(metrics),
        "deps": dict(deps),
        "outs": outs,
    }


def _facts(path: Path, name: str) -> dict[str, Any]:
    """Read the config.json of the train stage; UserError if it is not one."""
    todo = f"Run `dvc repro -f train@{name}`."
    facts = read_json(path, _EXPECTED, todo)
    for field, kind in (("run", dict), ("digest", str)):
        if not isinstance(facts.get(field), kind):
            raise refuse(str(path), f"no {field!r}", "what the train stage writes", todo)
    # The digest becomes part of a file name and of a search in MLflow.
    if not _DIGEST.fullmatch(facts["digest"]):
        raise refuse(str(path), f"the digest {facts['digest']!r}", "a hash", todo)
    return facts


def _files(paths: RunPaths, name: str, names: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield the artifacts of the run `name`: its scores, plots, samples and figures.

    Those of all runs together change with each run, and are in the report."""
    plots = paths.option("evaluate", name, "plots")
    for path in _visible_files(plots):
        yield f"plots/{path.relative_to(plots)}", path

    figures = paths.shared("report", "figures")
    for path in _visible_files(figures):
        if run_of_figure(path.relative_to(figures), names) == name:
            yield f"figures/{path.relative_to(figures)}", path

    single_files = {
        "scores.json": paths.option("evaluate", name, "metrics"),
        "samples.json": paths.option("predict", name, "out") / "samples.parquet",
    }
    for label, path in single_files.items():
        if path.exists():
            yield label, path


def _visible_files(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]


def run_of_figure(figure: Path, names: list[str]) -> str | None:
    """Return the run after which the figure's folder is named; None for a figure of several
    runs."""
    return next((name for name in names if name in figure.parts[:-1]), None)
