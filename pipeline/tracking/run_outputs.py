"""Outputs of a run in DVC: its files, figures, settings and hashes, gathered from its outputs and
`dvc.lock`. No mlflow."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import tables
from pipeline.core.errors import read_json, refuse
from pipeline.tracking import describe

_DIGEST = re.compile(r"[\w-]{1,128}", re.ASCII)
_EXPECTED = "JSON of a stage"
_VERSION = "1"  # of what is recorded: a new one brings every run up to date once
MODELS = Path("data/models")
_SAMPLES, _REPORTS = "data/predictions/{}/samples.parquet", Path("reports")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """One trained run. `files` are artifacts by their name, `scores` the final figures, `inputs`
    data by path and md5."""

    name: str
    digest: str
    block: dict[str, Any]
    best_step: int
    history: Path
    files: dict[str, Path]
    scores: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]
    inputs: dict[str, str]

    def state(self) -> str:
        """A digest of all of it: an MLflow run that carries it as its tag has nothing to gain."""
        total = hashlib.sha256(_VERSION.encode())
        total.update(
            json.dumps([self.scores, self.params, self.tags, self.inputs], sort_keys=True).encode()
        )
        for name, path in sorted({"history": self.history, **self.files}.items()):
            total.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()


def read_outputs(root: Path, stages: Mapping[str, Any], name: str, names: list[str]) -> Outputs:
    """Everything that DVC's outputs under `root` and its lock's `stages` say of the run `name`, one
    of `names`."""
    facts = _facts(root / MODELS / name / "config.json", name)
    block, judged = facts["run"], _judged(stages, name)
    leaves = dict(describe.flatten(_scores(root, name) if judged else {}))
    deps = describe.hashes(stages, f"train@{name}", "deps")
    made = {path for stage in stages for path in describe.hashes(stages, stage, "outs")}
    history = root / MODELS / name / "history.parquet"
    numbers = {
        describe.mlflow_name(*keys): float(value)
        for keys, value in leaves.items()
        if isinstance(value, int | float)
    }
    words = {
        describe.mlflow_name(*keys): value
        for keys, value in leaves.items()
        if len(keys) > 1 and isinstance(value, str)
    }
    return Outputs(
        name=name,
        digest=str(facts["digest"]),
        block=block,
        best_step=int(facts.get("best_step") or 0),
        history=history,
        files=dict(_files(root, name, names)) if judged else {},
        scores=_apart(numbers, history),
        params={
            **describe.settings(block),
            **describe.corpus_settings(stages, str(block.get("corpus"))),
            **describe.flatten_texts({key: facts[key] for key in ("parameters",) if key in facts}),
        },
        tags={
            **words,
            **describe.labels(name, block),
            **describe.flatten_texts({"search": _search(stages, name)}),
            **_hashes(stages, name),
        },
        inputs={path: md5 for path, md5 in deps.items() if path in made},
    )


def _facts(path: Path, name: str) -> dict[str, Any]:
    facts = read_json(path, _EXPECTED, f"Run `dvc repro -f train@{name}`.")
    for field, kind in (("run", dict), ("digest", str)):
        if not isinstance(facts.get(field), kind):
            raise refuse(
                str(path),
                f"no {field!r}",
                "what the train stage writes",
                f"Run `dvc repro -f train@{name}`.",
            )
    if not _DIGEST.fullmatch(facts["digest"]):
        raise refuse(
            str(path),
            f"the digest {facts['digest']!r}",
            "a hash",
            f"Run `dvc repro -f train@{name}`.",
        )
    return facts


def _scores(root: Path, name: str) -> dict[str, Any]:
    path = root / _REPORTS / "metrics" / f"{name}.json"
    return (
        read_json(path, _EXPECTED, f"Run `dvc repro -f evaluate@{name}`.") if path.exists() else {}
    )


def _judged(stages: Mapping[str, Any], name: str) -> bool:
    """Return whether the scores are those of this very model: a run that was killed after training
    leaves older ones."""
    outs, deps = (
        describe.hashes(stages, f"train@{name}", "outs"),
        describe.hashes(stages, f"evaluate@{name}", "deps"),
    )
    return any(deps.get(path) == md5 for path, md5 in outs.items())


def _apart(scores: dict[str, float], history: Path) -> dict[str, float]:
    """A final figure that would become one more point of a curve goes under `final/`."""
    curves = set(tables.read(history, tables.HISTORY)["name"].unique().to_pylist())
    return {f"final/{name}" if name in curves else name: value for name, value in scores.items()}


def _search(stages: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Settings of the search for answers: a tag, since it may change while the model stays."""
    known = stages.get(f"predict@{name}", {}).get("params", {}).get("params.yaml", {})
    return dict(known.get(f"runs.{name}.search") or {})


def _hashes(stages: Mapping[str, Any], name: str) -> dict[str, str]:
    deps = {
        f"dvc.deps/{path}": md5
        for path, md5 in describe.hashes(stages, f"train@{name}", "deps").items()
    }
    made = [
        describe.hashes(stages, f"{stage}@{name}", "outs")
        for stage in ("train", "predict", "evaluate")
    ]
    outs = {f"dvc.outs/{path}": md5 for part in made for path, md5 in part.items()}
    return {describe.mlflow_name(key): md5 for key, md5 in {**deps, **outs}.items()}


def _files(root: Path, name: str, names: list[str]) -> Iterator[tuple[str, Path]]:
    """The artifacts of the run `name`: its plots, samples and figures, and the comparison it stands
    in."""
    plots, figures = root / _REPORTS / "plots" / name, root / _REPORTS / "figures"
    yield from ((f"plots/{path.relative_to(plots)}", path) for path in _inside(plots))
    for path in _inside(figures):
        if run_of_figure(path.relative_to(figures), names) in (name, None):
            yield f"figures/{path.relative_to(figures)}", path
    single = {
        "samples.json": root / _SAMPLES.format(name),
        "comparison.md": root / _REPORTS / "comparison.md",
    }
    yield from ((label, path) for label, path in single.items() if path.exists())


def _inside(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]


def run_of_figure(figure: Path, names: list[str]) -> str | None:
    """The run that a figure is of: the one that its folder is named after; None for a figure of
    several runs."""
    return next((name for name in names if name in figure.parts[:-1]), None)
