"""The result of each task on each corpus: the best setting, the next, the baseline, and whether the
differences are more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from pipeline.core.params import Run
from pipeline.report import cells
from pipeline.report.cross_validation import CrossValidation, FoldResults
from pipeline.report.results import LEVEL, Group, SettingResults
from pipeline.scoring.folds import FoldPair
from pipeline.scoring.seeds import SettingPair
from pipeline.scoring.tasks import Scoring


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A setting beside the best one. `score` is its mean with the deviation, as text.

    `lead` is the difference of the means, positive if the best one is better; None for the best
    one. `test` compares the two; None if no test does. `better`: the best one is significantly
    better.
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
    """The settings of one task on one corpus, or on one cross-validated text: the best, the next,
    and the best that is fitted without gradients."""

    ranking: Group | CrossValidation
    corpus: str
    best: Row
    next: Row | None
    baseline: Row | None

    @property
    def scoring(self) -> Scoring:
        """The score that ranked the settings."""
        return self.ranking.task

    @property
    def first_run(self) -> Run:
        """The first run of the best setting."""
        return self.ranking.settings[0].first.run

    @property
    def rows(self) -> list[Row]:
        """The rows to show. A next setting that is the baseline is given once, as that."""
        shown = {row.name: row for row in (self.best, self.next, self.baseline) if row is not None}
        return list(shown.values())

    def lead(self, row: Row) -> str:
        """The lead of the best setting over that of the row, with the decimals of the score."""
        rounded = round(row.lead or 0.0, self.scoring.decimals) + 0.0  # no -0.00
        return f"{rounded:.{self.scoring.decimals}f}"

    def json(self) -> dict[str, Any]:
        """Values for scripts."""
        values = "folds" if isinstance(self.ranking, CrossValidation) else "seeds"
        return {
            "task": self.first_run.task,
            "corpus": self.corpus,
            "split": self.ranking.split,
            "score": self.scoring.main_title,
            "higher_is_better": self.scoring.higher_is_better,
            "settings": len(self.ranking.settings),
            "rows": [
                {
                    "role": row.role,
                    "setting": row.name,
                    "mean": mean(row.values),
                    values: len(row.values),
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
            "unit": self.scoring.difference,
            "p": pair.p,
            "p_corrected": pair.corrected,
        }


def standings(
    groups: Sequence[Group], cross_validations: Sequence[CrossValidation]
) -> list[Standing]:
    """Return the standing of each task and corpus, in the order of the report."""
    # The folds of a text are in its cross-validation, unless no setting has two of them.
    validated = [validation for validation in cross_validations if validation.settings]
    covered = {group.key for validation in validated for group in validation.groups}
    return [
        *(_standing(validation, validation.text.name) for validation in validated),
        *(_standing(group, group.corpus) for group in groups if group.key not in covered),
    ]


def _standing(ranking: Group | CrossValidation, corpus: str) -> Standing:
    best, *others = ranking.settings
    baselines = [setting for setting in others if setting.is_deterministic]
    return Standing(
        ranking=ranking,
        corpus=corpus,
        best=_row(ranking, "best", best),
        next=_row(ranking, "next", others[0]) if others else None,
        baseline=_row(ranking, "baseline", baselines[0]) if baselines else None,
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
