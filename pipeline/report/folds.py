"""Settings that were cross-validated: mean and spread of their scores over the folds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from pipeline.core import config
from pipeline.report.document import Block, Heading, Paragraph, Table
from pipeline.report.results import Group, SettingResults

_FOLDS = (
    "Runs that differ only in the fold that is held out are one setting, cross-validated. "
    "Every fold is the {} set once, and the mean over the folds is the setting's score. "
    "The deviation is that between folds. "
    "It says less about chance than that of independent samples, because the training texts of "
    "the folds overlap."
)


def several_folds(groups: Sequence[Group], file: Path) -> list[Block]:
    """A section with the table of folds for each text of the params file that is
    cross-validated."""
    blocks: list[Block] = []
    for folds, corpora in fold_corpora(file):
        fold_groups = [group for group in groups if group.corpus in corpora]

        # Each fold is a group by itself: collect the settings of a task over all folds.
        for task in sorted({group.settings[0].first.run.task for group in fold_groups}):
            same_task = [g for g in fold_groups if g.settings[0].first.run.task == task]
            first = same_task[0]
            folds_by_setting: dict[str, list[SettingResults]] = {}
            for group in same_task:
                for setting in group.settings:
                    folds_by_setting.setdefault(setting.name, []).append(setting)
            repeated = {name: ss for name, ss in folds_by_setting.items() if len(ss) > 1}
            if repeated:
                title = f"{first.task.title}, cross-validated ({corpora[0]} to {corpora[-1]})"
                blocks += [Heading(2, title), _table(first, repeated, folds)]
                blocks.append(Paragraph(_FOLDS.format(first.split_name)))
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


def _table(group: Group, repeated: Mapping[str, Sequence[SettingResults]], folds: int) -> Table:
    """A row for each setting, the best mean first: the mean over its folds of the mean over each
    fold's seeds."""
    main = f"{group.split}.{group.task.main}.score"
    scores = [(group.task.main_title, main, "{:.2f}")]
    scores += [(title, f"{group.split}.{key}", form) for title, key, form in group.task.columns[:1]]
    by_fold = {
        name: {
            key: [mean(s.values(key)) for s in settings if s.values(key)] for _, key, _ in scores
        }
        for name, settings in repeated.items()
    }
    scores = [
        (title, key, form)
        for title, key, form in scores
        if all(len(by_fold[name][key]) == len(settings) for name, settings in repeated.items())
    ]

    rows = []
    for name in sorted(
        repeated, key=lambda name: mean(by_fold[name][main]), reverse=group.task.higher_is_better
    ):
        cells = [f"`{name}`", f"{len(repeated[name])} of {folds}"]
        for _, key, form in scores:
            values = by_fold[name][key]
            cells += [f"{form.format(mean(values))} ± {form.format(stdev(values))}"]
            cells += [f"{form.format(min(values))} to {form.format(max(values))}"]
        rows.append(tuple(cells))

    titles = [
        name
        for title, _, _ in scores
        for name in (f"{title}, mean ± deviation", "lowest to highest")
    ]
    return Table(("setting", "folds", *titles), tuple(rows), (False, True, *[True] * len(titles)))
