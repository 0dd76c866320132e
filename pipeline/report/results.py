"""Data of the report: the runs of `params.yaml` with their scores, by task and corpus, ranked and
compared."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import config, params, tables
from pipeline.core.errors import read_json, refuse
from pipeline.scoring.significance import Bootstrap, Pair, pairs
from pipeline.scoring.tasks import Scoring, load_scoring, text_config
from pipeline.text.tokens import Text

SPLIT = "test"  # what ranks
# among the metrics
_NO_NUMBERS = {"run", "family", "task", "corpus", "ranked_by", "notes", "signature"}
_ESTIMATE = {"score", "low", "high"}


@dataclass(frozen=True, slots=True)
class Result:
    """A run as `params.yaml` has it, and its `reports/metrics/<run>.json`."""

    name: str
    run: params.Run
    metrics: dict[str, Any]

    def metric(self, dotted: str) -> Any:
        """The metric under the dotted key, None where this run has none."""
        here: Any = self.metrics
        for key in dotted.split("."):
            here = here.get(key) if isinstance(here, dict) else None
        return here


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one task on one corpus, the best first, and every pair's test; `text` is how the
    corpus is read."""

    task: Scoring
    corpus: str
    text: Text
    results: tuple[Result, ...]
    pairs: tuple[Pair, ...]

    @property
    def key(self) -> str:
        return f"{self.results[0].run.task}_{self.corpus}"

    @property
    def notes(self) -> list[str]:
        """Warnings about the scores by the evaluate stage, each once."""
        return list(
            dict.fromkeys(
                note for result in self.results for note in result.metrics.get("notes", [])
            )
        )

    def beaten_by(self, name: str, level: float) -> list[str]:
        """The runs that `name` is significantly better than, at the corrected level, in order of
        rank."""
        sign = 1 if self.task.higher_is_better else -1
        sure = [pair for pair in self.pairs if pair.corrected < level]
        beaten = {pair.second for pair in sure if pair.first == name and sign * pair.difference > 0}
        beaten |= {
            pair.first for pair in sure if pair.second == name and sign * pair.difference < 0
        }
        return [result.name for result in self.results if result.name in beaten]


def groups(file: Path, metrics: Path, scores: Path) -> list[Group]:
    """The runs named in the params file, by task and corpus; UserError if one has not been
    evaluated."""
    evaluation = params.evaluation(file)
    found: dict[tuple[str, str], list[Result]] = {}
    for name in config.section(file, "runs"):
        run = params.run(file, name)
        found.setdefault((run.task, run.corpus), []).append(
            Result(name, run, _metrics(metrics / f"{name}.json", run))
        )
    ordered = [results for _, results in sorted(found.items())]
    return [_group(file, runs, scores, evaluation) for runs in ordered]


def _group(file: Path, results: list[Result], scores: Path, evaluation: params.Evaluation) -> Group:
    task, corpus = load_scoring(file, results[0].name, results[0].run), results[0].run.corpus
    table = {
        r.name: tables.read(scores / r.name / f"{SPLIT}.parquet", task.schema) for r in results
    }
    for run, rows in table.items():
        if not rows["row"].equals(table[results[0].name]["row"]):
            path, want = scores / run / f"{SPLIT}.parquet", len(table[results[0].name])
            raise refuse(
                str(path),
                f"{len(rows)} rows",
                f"the {want} rows of {results[0].name}",
                "Run `dvc repro`.",
            )
    task, _ = task.select_scoring(
        table[results[0].name]
    )  # by the references, which are the same for all
    units = {run: task.units(rows) for run, rows in table.items()}
    sign = -1 if task.higher_is_better else 1
    point = {
        run: sign * float(task.score(matrix.sum(0, keepdims=True))[0])
        for run, matrix in units.items()
    }
    ranked = sorted(results, key=lambda result: (point[result.name], result.name))
    compared = pairs(
        {r.name: units[r.name] for r in ranked}, task.score, Bootstrap.of(evaluation, corpus, SPLIT)
    )
    return Group(task, corpus, text_config(file, corpus), tuple(ranked), tuple(compared))


def _metrics(path: Path, run: params.Run) -> dict[str, Any]:
    metrics = read_json(path, f"the scores of the run {path.stem}", "Run `dvc repro`.")
    if (metrics.get("task"), metrics.get("corpus")) != (run.task, run.corpus):
        raise refuse(
            str(path),
            "another task's or corpus's scores",
            f"{run.task} on {run.corpus}",
            "Run `dvc repro`.",
        )
    if (key := _damaged({"parameters": None} | metrics)) is not None:
        raise refuse(
            f"{path}: {key}", "no number", "what evaluate writes", "Remove it. Run `dvc repro`."
        )
    if not isinstance(metrics.get(SPLIT), dict):
        raise refuse(
            str(path),
            f"no scores of the split {SPLIT}",
            "what evaluate writes",
            "Remove it. Run `dvc repro`.",
        )
    return metrics


def _damaged(metrics: dict[str, Any]) -> str | None:
    """Dotted key of the first metric that is not as evaluate writes it: a number, or a score with
    both its bounds."""
    for key, value in metrics.items():
        if isinstance(value, dict):
            absent = _ESTIMATE - value.keys() if _ESTIMATE & value.keys() else set()
            inner = min(absent) if absent else _damaged(value)
            if inner is not None:
                return f"{key}.{inner}"
        elif key not in _NO_NUMBERS and type(value) not in (int, float):
            return key
    return None
