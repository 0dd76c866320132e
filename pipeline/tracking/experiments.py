"""Outputs of DVC's experiments, from git and DVC's cache: also of those that ran in copies which
DVC deleted (`dvc exp run --queue` and `--temp`). No mlflow here."""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.core import config, git
from pipeline.core.atomic import write_file
from pipeline.core.errors import refuse
from pipeline.dag import cache
from pipeline.dag.paths import RunPaths
from pipeline.tracking import describe, run_lock, run_names, spools
from pipeline.tracking.run_outputs import Outputs, read_outputs

_REF = re.compile(r"([0-9a-f]{40}) refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/(.+)")
_FILES = ("params.yaml", "dvc.yaml", "dvc.lock")
_STAGES = ("train", "evaluate")
# what is read of the folders of an output, which have the weights too
_READ = ("config.json", "history.parquet", "samples.parquet")


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment that DVC keeps: its name, its commit, and the commit that it started from."""

    name: str
    commit: str
    baseline: str

    @property
    def origin(self) -> dict[str, Any]:
        """Facts as of `describe.origin`."""
        return {
            "commit": self.baseline,
            describe.EXPERIMENT: self.name,
            "baseline": self.baseline,
        }


def find(root: Path) -> list[Experiment]:
    """The experiments that DVC keeps in the project's repository; none outside of git."""
    listed = git.text_output(root, "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps")
    matches = (_REF.fullmatch(line) for line in listed.splitlines())
    return [Experiment(match[4], match[1], match[2] + match[3]) for match in matches if match]


class RecordedExperiments:
    """The MLflow runs of the experiments that were recorded, in the project's private folder."""

    def __init__(self, root: Path) -> None:
        self._path = run_lock.locks(root) / "experiments.json"
        self._content: dict[str, list[str]] = {}
        with suppress(OSError, ValueError, RecursionError):
            content = json.loads(self._path.read_text(encoding="utf-8"))
            self._content = content if isinstance(content, dict) else {}

    def run_ids(self, version: str, experiment: Experiment) -> list[str] | None:
        """The ids of its MLflow runs, if this version of the content recorded it."""
        ids = self._content.get(self._key(version, experiment))
        return [str(run_id) for run_id in ids] if isinstance(ids, list) else None

    def add(self, version: str, experiment: Experiment, ids: list[str]) -> None:
        """Store the ids of its MLflow runs."""
        self._content[self._key(version, experiment)] = ids
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_file(self._path, json.dumps(self._content).encode(), sync=False)

    def _key(self, version: str, experiment: Experiment) -> str:
        return f"{version}:{experiment.commit}{spools.store_id()}"


@contextmanager
def outputs(
    root: Path, experiment: Experiment, stages: Mapping[str, Any]
) -> Iterator[list[Outputs]]:
    """Yield the outputs of the runs that the experiment changed, whose files exist in the block
    alone.

    `stages` are those of the project's dvc.lock. UserError if DVC's cache lacks one of the
    outputs."""
    with tempfile.TemporaryDirectory() as folder:
        view = Path(folder)
        for name in _FILES:
            content = git.output(root, "show", f"{experiment.commit}:./{name}")
            if content is None:
                raise refuse(f"experiment {experiment.name}", f"no {name}", "one in its commit")
            (view / name).write_bytes(content)

        locked = describe.read_lock(view)
        before = git.text_output(root, "show", f"{experiment.baseline}:./dvc.lock")
        baseline = describe.parse_lock(before)
        names = list(config.section(view / "params.yaml", "runs"))
        changed = [
            name
            for name in names
            if f"train@{name}" in locked
            and not any(_has_same_outputs(locked, lock, name) for lock in (stages, baseline))
        ]
        paths = RunPaths(view)
        committed = run_names.committed_params(root, experiment.baseline)
        for name in changed:
            _copy(root, view, paths, locked, name)
        yield [
            replace(read_outputs(paths, locked, name, names, committed), origin=experiment.origin)
            for name in changed
        ]


def _has_same_outputs(first: Mapping[str, Any], second: Mapping[str, Any], name: str) -> bool:
    """Return whether two locks have the same model of the run, with the same scores."""
    return all(
        describe.hashes(first, f"{stage}@{name}", "outs")
        == describe.hashes(second, f"{stage}@{name}", "outs")
        for stage in _STAGES
    )


def _copy(root: Path, view: Path, paths: RunPaths, stages: Mapping[str, Any], name: str) -> None:
    """Copy what MLflow shows of the run to the view."""
    wanted = [
        paths.option(stage, name, option)
        for stage, option in (
            ("train", "out"),
            ("predict", "out"),
            ("evaluate", "metrics"),
            ("evaluate", "plots"),
        )
    ]
    for stage in ("train", "predict", "evaluate"):
        for path, md5 in describe.hashes(stages, f"{stage}@{name}", "outs").items():
            place = view / cache.check_inside(path, "dvc.lock")
            if any(place.is_relative_to(folder) for folder in wanted):
                cache.copy_cached(root, md5, place, _READ)
