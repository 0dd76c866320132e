"""Settings that were trained several times, with several seeds or on several folds: mean and spread
of their scores."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from pipeline.core import config
from pipeline.report.document import Block, Heading, Paragraph, Table
from pipeline.report.results import SPLIT, Group, Result

_SEEDS = (
    "Runs that differ only in their seed are one setting, trained several times. "
    "The table gives the mean over the seeds and the sample standard deviation. "
    "The deviation shows how much the score varies with the seed, on the same test sentences. "
    "The brackets of the ranking show how much it varies with other test sentences. "
    "A difference between two runs that is not large against the deviation may be chance."
)
_FOLDS = (
    "Runs that differ only in the fold that is held out are one setting, cross-validated. "
    "Every fold is the test set once, and the mean over the folds is the setting's score. "
    "The deviation is that between folds. "
    "It says less about chance than that of independent samples, because the training texts of "
    "the folds overlap."
)


def several_seeds(group: Group) -> list[Block]:
    """A table with a row per setting that has several seeds: mean, deviation and range of its
    scores."""
    repeated = settings(group)
    if not repeated:
        return []
    table = _table(group, "seeds", [(str(len(results)), results) for results in repeated])
    return [Heading(3, f"Several seeds ({group.corpus})"), table, Paragraph(_SEEDS)]


def settings(group: Group) -> list[list[Result]]:
    """Runs that differ only in their seed, grouped by setting; the best mean first."""
    return _repeated(group, group.results, "seed")


def several_folds(groups: Sequence[Group], file: Path) -> list[Block]:
    """A section with the table of folds for each text of the params file that is
    cross-validated."""
    blocks: list[Block] = []
    for folds, corpora in fold_corpora(file):
        fold_groups = [group for group in groups if group.corpus in corpora]

        # Each fold is a group by itself: collect the runs of a task over all folds.
        for task in sorted({group.results[0].run.task for group in fold_groups}):
            same_task = [group for group in fold_groups if group.results[0].run.task == task]
            first = same_task[0]
            results = [result for group in same_task for result in group.results]
            repeated = _repeated(first, results, "corpus")
            if repeated:
                counts = [(f"{len(results)} of {folds}", results) for results in repeated]
                title = f"{first.task.title}, cross-validated ({corpora[0]} to {corpora[-1]})"
                blocks += [
                    Heading(2, title),
                    _table(first, "folds", counts),
                    Paragraph(_FOLDS),
                ]
    return blocks


def fold_corpora(file: Path) -> list[tuple[int, list[str]]]:
    """Corpora of the params file that are folds of one text: the number of folds, and the names in
    their order."""
    names_by_text: dict[str, list[str]] = {}
    folds: dict[str, int] = {}
    for name, block in config.section(file, "corpora").items():
        split = block.get("split")
        if isinstance(split, dict) and split.get("method") == "folds":
            # Folds of one text are equal but for the fold and the corpus of the vocabulary, which
            # is counted on each fold's own training text.
            vocab = block["vocab"] | {"corpus": None}
            key = json.dumps(
                block | {"split": split | {"fold": None}, "vocab": vocab}, sort_keys=True
            )
            names_by_text.setdefault(key, []).append(name)
            folds[key] = split["folds"]
    return [(folds[key], names) for key, names in names_by_text.items() if len(names) > 1]


def _repeated(group: Group, results: Sequence[Result], varied: str) -> list[list[Result]]:
    """Results whose runs differ only in the key `varied`, the first for each of its values; the
    best mean first."""
    by_setting: dict[str, dict[Any, Result]] = {}
    for result in results:
        block = dataclasses.asdict(result.run)
        del block[varied]
        by_value = by_setting.setdefault(json.dumps(block, sort_keys=True), {})
        by_value.setdefault(getattr(result.run, varied), result)

    repeated = [list(by_value.values()) for by_value in by_setting.values() if len(by_value) > 1]
    main = f"{SPLIT}.{group.task.main}.score"
    return sorted(
        repeated,
        key=lambda results: mean(_values(results, main)),
        reverse=group.task.higher_is_better,
    )


def _table(group: Group, repetitions: str, counted: list[tuple[str, list[Result]]]) -> Table:
    """A row for each setting, given as its number of `repetitions` (seeds or folds) and its
    results."""
    scores = [(group.task.main_title, f"{SPLIT}.{group.task.main}.score", "{:.2f}")]
    scores += [(title, f"{SPLIT}.{key}", form) for title, key, form in group.task.columns[:1]]
    scores = [
        (title, key, form)
        for title, key, form in scores
        if all(_values(results, key) for _, results in counted)
    ]

    rows = []
    for count, results in counted:
        cells = [", ".join(f"`{result.name}`" for result in results), count]
        for _, key, form in scores:
            values = _values(results, key)
            cells += [f"{form.format(mean(values))} ± {form.format(stdev(values))}"]
            cells += [f"{form.format(min(values))} to {form.format(max(values))}"]
        rows.append(tuple(cells))

    titles = [
        name
        for title, _, _ in scores
        for name in (f"{title}, mean ± deviation", "lowest to highest")
    ]
    return Table(("runs", repetitions, *titles), tuple(rows), (False, True, *[True] * len(titles)))


def _values(results: Sequence[Result], key: str) -> list[float]:
    """The metric of every run; none if a run lacks it."""
    values = [result.metric(key) for result in results]
    return [] if None in values else values
