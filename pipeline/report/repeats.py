"""Settings that were trained several times, with several seeds or on several folds: how far a score
moves between them."""

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
    "Runs that differ in nothing but their seed are one setting, trained several times. Beside "
    "the mean over its seeds "
    "stands their sample standard deviation. The brackets of the ranking tell how far a score "
    "could move with other "
    "sentences; this tells how far it moves with another seed, on the same sentences. A "
    "difference between two runs that "
    "is not large beside it may be luck."
)
_FOLDS = (
    "Runs that differ in nothing but which fold of the same text is held out are one setting, "
    "cross-validated: every fold "
    "is the test set once, and the mean over the folds is the setting's score. The deviation is "
    "that between the folds, "
    "whose training texts overlap: it says less of chance than as many independent samples would."
)


def several_seeds(group: Group) -> list[Block]:
    """A table with a row per setting that has several seeds: mean, deviation and range of its
    score."""
    found = settings(group)
    if not found:
        return []
    table = _table(group, "seeds", [(str(len(results)), results) for results in found])
    return [Heading(3, f"Several seeds ({group.corpus})"), table, Paragraph(_SEEDS)]


def settings(group: Group) -> list[list[Result]]:
    """The group's runs that are alike but for the seed, one for each seed, where there are several;
    the best mean first."""
    return _alike(group, group.results, "seed")


def several_folds(groups: Sequence[Group], file: Path) -> list[Block]:
    """A section for each text of the params file that is cross-validated, with the same table as
    for seeds."""
    blocks: list[Block] = []
    for folds, corpora in fold_corpora(file):
        own = [group for group in groups if group.corpus in corpora]
        for task in sorted({group.results[0].run.task for group in own}):
            same = [group for group in own if group.results[0].run.task == task]
            found = _alike(
                same[0], [result for group in same for result in group.results], "corpus"
            )
            if found:
                table = _table(
                    same[0], "folds", [(f"{len(results)} of {folds}", results) for results in found]
                )
                title = f"{same[0].task.title}, cross-validated ({corpora[0]} to {corpora[-1]})"
                blocks += [Heading(2, title), table, Paragraph(_FOLDS)]
    return blocks


def fold_corpora(file: Path) -> list[tuple[int, list[str]]]:
    """The corpora of the params file that are folds of one text, in their order, and how many folds
    it was cut into."""
    found: dict[str, list[str]] = {}
    folds: dict[str, int] = {}
    for name, block in config.section(file, "corpora").items():
        split = block.get("split")
        if isinstance(split, dict) and split.get("method") == "folds":
            # each fold counts the words of its own training text
            vocab = block["vocab"] | {"corpus": None}
            key = json.dumps(
                block | {"split": split | {"fold": None}, "vocab": vocab}, sort_keys=True
            )
            found.setdefault(key, []).append(name)
            folds[key] = split["folds"]
    return [(folds[key], names) for key, names in found.items() if len(names) > 1]


def _alike(group: Group, results: Sequence[Result], but: str) -> list[list[Result]]:
    """The results whose runs are alike but for the key `but`, one for each of its values; the best
    mean first."""
    found: dict[str, dict[Any, Result]] = {}
    for result in results:
        block = {key: value for key, value in dataclasses.asdict(result.run).items() if key != but}
        found.setdefault(json.dumps(block, sort_keys=True), {}).setdefault(
            getattr(result.run, but), result
        )
    several = [list(by_value.values()) for by_value in found.values() if len(by_value) > 1]
    sign = -1 if group.task.higher_is_better else 1
    return sorted(
        several,
        key=lambda results: sign * mean(_values(results, f"{SPLIT}.{group.task.main}.score")),
    )


def _table(group: Group, what: str, found: list[tuple[str, list[Result]]]) -> Table:
    """A row for each setting: (how many of `what` it was trained on, the results)."""
    scores = [(group.task.main_title, f"{SPLIT}.{group.task.main}.score", "{:.2f}")]
    scores += [(title, f"{SPLIT}.{key}", form) for title, key, form in group.task.columns[:1]]
    scores = [score for score in scores if all(_values(results, score[1]) for _, results in found)]
    rows = []
    for count, results in found:
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
    return Table(("runs", what, *titles), tuple(rows), (False, True, *[True] * len(titles)))


def _values(results: Sequence[Result], key: str) -> list[float]:
    """The metric of every run; none if one of them lacks it."""
    values = [result.metric(key) for result in results]
    return [] if None in values else values
