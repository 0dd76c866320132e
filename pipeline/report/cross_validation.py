"""Cross-validated settings: their scores over the folds of a text, ranked and compared in pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean

import numpy as np

from pipeline.core import params
from pipeline.report.fold_texts import FoldText
from pipeline.report.results import (
    LEVEL,
    Group,
    Result,
    SettingResults,
    beaten,
    compared_with,
    split_name,
)
from pipeline.scoring.folds import (
    FoldPair,
    FoldScore,
    FoldScores,
    compare_folds,
    estimate_folds,
    overlap_ratio,
)
from pipeline.scoring.tasks import Scoring


@dataclass(frozen=True, slots=True)
class FoldResults:
    """A setting on several folds, in the order of the text's folds; `score` is in the unit of the
    task's tests."""

    folds: tuple[SettingResults, ...]
    score: FoldScore

    @property
    def name(self) -> str:
        return self.folds[0].name

    @property
    def first(self) -> Result:
        """The run whose hyperparameters are shown."""
        return self.folds[0].first

    @property
    def is_deterministic(self) -> bool:
        """As of `SettingResults`."""
        return all(fold.is_deterministic for fold in self.folds)

    def values(self, dotted: str) -> list[float]:
        """The metric of every fold, as the mean over its seeds; none if a run lacks it."""
        values = [fold.values(dotted) for fold in self.folds]
        return [mean(of_seeds) for of_seeds in values] if all(values) else []


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """The settings of one task on several folds of a text, the best mean first.

    `groups` are the folds. `pairs` has the test of every pair of settings with two folds in common.
    `single` are the settings with runs on one fold: they are in no test. `untested` says why pairs
    are left out, as of `Group`. `ratio` is that of test and training rows."""

    task: Scoring
    text: FoldText
    split: str
    confidence: float
    ratio: float
    groups: tuple[Group, ...]
    settings: tuple[FoldResults, ...]
    pairs: tuple[FoldPair, ...]
    single: tuple[SettingResults, ...]
    untested: str

    @property
    def split_name(self) -> str:
        """As of `Group`."""
        return split_name(self.split)

    @property
    def on_first_folds(self) -> list[SettingResults]:
        """All settings, each on the first fold that it has; those with one fold are last."""
        return [*(setting.folds[0] for setting in self.settings), *self.single]

    def compared_with(self, name: str) -> set[str]:
        """As of `Group`, over folds."""
        return compared_with(name, self.pairs)

    def beaten_by(self, name: str, level: float) -> list[str]:
        """As of `Group`, over folds."""
        ranked = [setting.name for setting in self.settings]
        return beaten(name, ranked, self.pairs, self.task.higher_is_better, level)


def cross_validations(file: Path, groups: Sequence[Group]) -> list[CrossValidation]:
    """Collect the groups that are folds of the params file's texts, by task; folds that are scored
    differently, such as by chrF in place of BLEU, are kept apart."""
    confidence = params.evaluation(file).confidence
    folds: dict[tuple[FoldText, str, str], list[Group]] = {}
    for group in groups:
        if group.fold_of is not None:
            task = group.settings[0].first.run.task
            folds.setdefault((group.fold_of, task, group.task.main), []).append(group)
    return [_collect(text, same, confidence) for (text, *_), same in folds.items()]


def _collect(text: FoldText, groups: list[Group], confidence: float) -> CrossValidation:
    groups.sort(key=lambda group: text.corpora.index(group.corpus))
    by_setting: dict[str, dict[str, SettingResults]] = {}
    for group in groups:
        for setting in group.settings:
            by_setting.setdefault(setting.name, {})[group.corpus] = setting
    several = {name: folds for name, folds in by_setting.items() if len(folds) > 1}

    # A fold's score is the mean over its seeds.
    ratio = overlap_ratio(text.folds)
    scores = {
        name: FoldScores(name, {fold: setting.score.mean for fold, setting in folds.items()})
        for name, folds in several.items()
    }
    settings = [
        FoldResults(
            tuple(folds.values()),
            estimate_folds(np.array(list(scores[name].score.values())), ratio, confidence),
        )
        for name, folds in several.items()
    ]
    sign = -1 if groups[0].task.higher_is_better else 1
    settings.sort(key=lambda setting: (sign * setting.score.mean, setting.name))

    pairs = [
        (scores[first.name], scores[second.name])
        for first, second in combinations(settings, 2)
        if _are_comparable(first.name, second.name, groups)
    ]
    notes = dict.fromkeys(group.untested for group in groups if group.untested)
    return CrossValidation(
        groups[0].task,
        text,
        groups[0].split,
        confidence,
        ratio,
        tuple(groups),
        tuple(settings),
        tuple(compare_folds(pairs, ratio, confidence, LEVEL)),
        tuple(
            setting
            for name, folds in by_setting.items()
            if name not in several
            for setting in folds.values()
        ),
        "; ".join(notes),
    )


def _are_comparable(first: str, second: str, groups: Sequence[Group]) -> bool:
    """Return whether no fold scores the two settings on different selections of its rows."""
    return not any(
        (first in names) != (second in names)
        for group in groups
        if {first, second} <= {setting.name for setting in group.settings}
        for names in group.comparable
    )
