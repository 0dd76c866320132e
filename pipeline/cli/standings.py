"""The result of each task on each corpus in a few lines: the best setting, the next, the baseline,
and whether the differences are more than chance."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from pipeline.dag.paths import RunPaths
from pipeline.report import cells, results
from pipeline.report.cross_validation import CrossValidation, FoldResults, cross_validations
from pipeline.report.results import LEVEL, Group, SettingResults
from pipeline.scoring.folds import FoldPair
from pipeline.scoring.seeds import SettingPair


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A setting beside the best one. `score` is its mean with the deviation, as text.

    `lead` is how much better the best setting is, in the unit of the score; None for the best one.
    `test` compares the two; None if no test does. `better`: the best one is significantly better.
    """

    role: str
    name: str
    score: str
    values: tuple[float, ...]
    is_baseline: bool
    lead: float | None
    test: SettingPair | FoldPair | None
    better: bool

    @property
    def p(self) -> float | None:
        """The p of the test, corrected for the number of pairs of the report's table."""
        return None if self.test is None else self.test.corrected


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """The settings of one task on one corpus, or on one cross-validated text: `rows` are the best,
    the next and the best baseline. A next setting that is a baseline is given once, as that."""

    task: str
    title: str
    corpus: str
    split: str
    score: str
    higher_is_better: bool
    decimals: int
    difference: str  # the unit of the tests
    values_are: str  # seeds or folds
    settings: int
    rows: tuple[Row, ...]
    best_run: str

    def json(self) -> dict[str, Any]:
        """Values for scripts."""
        return {
            "task": self.task,
            "corpus": self.corpus,
            "split": self.split,
            "score": self.score,
            "higher_is_better": self.higher_is_better,
            "settings": self.settings,
            "rows": [
                {
                    "role": row.role,
                    "setting": row.name,
                    "mean": mean(row.values),
                    self.values_are: len(row.values),
                    "values": list(row.values),
                    "is_baseline": row.is_baseline,
                    "lead_of_best": row.lead,
                    "best_is_better": None if row.test is None else row.better,
                    "test": self._test(row.test),
                }
                for row in self.rows
            ],
        }

    def _test(self, pair: SettingPair | FoldPair | None) -> dict[str, Any] | None:
        """The test of `first` - `second`, whose difference may be in another unit than the
        score."""
        if pair is None:
            return None
        return {
            "first": pair.first,
            "second": pair.second,
            "difference": pair.difference,
            "low": pair.low,
            "high": pair.high,
            "unit": self.difference,
            "p": pair.p,
            "p_corrected": pair.corrected,
        }


def standings(root: Path, settings: Collection[str] | None = None) -> list[Standing]:
    """Return the standing of each task and corpus of `params.yaml`, in the order of the report, of
    these `settings` or of all; UserError if a run is not evaluated."""
    paths = RunPaths(root)
    metrics, scores = (paths.shared("report", option) for option in ("metrics", "scores"))
    groups = results.groups(root / "params.yaml", metrics, scores, settings)
    over_folds = cross_validations(root / "params.yaml", groups)
    # The folds of a text are in its cross-validation, unless no setting has two of them.
    validated = [item for item in over_folds if item.settings]
    covered = {group.key for item in validated for group in item.groups}
    return [
        *(_standing(item, item.text.name, item.groups[0], "folds") for item in validated),
        *(_standing(g, g.corpus, g, "seeds") for g in groups if g.key not in covered),
    ]


def _standing(
    ranking: Group | CrossValidation, corpus: str, group: Group, values_are: str
) -> Standing:
    settings: Sequence[SettingResults | FoldResults] = ranking.settings
    best = settings[0]
    baseline = next((setting for setting in settings[1:] if setting.is_deterministic), None)
    shown = {best.name: ("best", best)}
    if len(settings) > 1:
        shown[settings[1].name] = ("next", settings[1])
    if baseline is not None:
        shown[baseline.name] = ("baseline", baseline)  # in place of the next, if it is that one
    return Standing(
        task=group.settings[0].first.run.task,
        title=ranking.task.title,
        corpus=corpus,
        split=ranking.split,
        score=ranking.task.main_title,
        higher_is_better=ranking.task.higher_is_better,
        decimals=ranking.task.decimals,
        difference=ranking.task.difference,
        values_are=values_are,
        settings=len(settings),
        rows=tuple(_row(ranking, role, setting) for role, setting in shown.values()),
        best_run=best.first.name,
    )


def _row(ranking: Group | CrossValidation, role: str, setting: SettingResults | FoldResults) -> Row:
    key = f"{ranking.split}.{ranking.task.main}.score"
    values = setting.values(key)
    best = ranking.settings[0]
    lead = test = None
    if setting is not best:
        sign = 1 if ranking.task.higher_is_better else -1
        lead = sign * (mean(best.values(key)) - mean(values))
        both = {best.name, setting.name}
        tests = (pair for pair in ranking.pairs if {pair.first, pair.second} == both)
        test = next(tests, None)
    return Row(
        role=role,
        name=setting.name,
        score=cells.mean_of(values, ranking.task.form),
        values=tuple(values),
        is_baseline=setting.is_deterministic,
        lead=lead,
        test=test,
        better=setting.name in ranking.beaten_by(best.name, LEVEL),
    )
