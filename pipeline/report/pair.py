"""Two settings of params.yaml, compared by the report's test of settings."""

from pathlib import Path

from pipeline.core.errors import refuse
from pipeline.report import cells, folds, results, setting_tests
from pipeline.report.cross_validation import CrossValidation, cross_validations
from pipeline.report.document import Block, Heading, Paragraph, Table
from pipeline.report.results import LEVEL, Group, SettingResults


def compare(
    file: Path, metrics: Path, scores: Path, names: tuple[str, str], where: str
) -> list[Block]:
    """The scores of two settings, and the test of their difference over seeds and test sentences,
    or over folds for a cross-validated text; on every corpus and text that both have.

    Arguments as of `results.groups`. UserError, which calls the names `where`, for settings of
    different tasks or corpora, for one whose variation over seeds is unknown, and for fewer than
    two folds in common."""
    first, second = names
    if first == second:
        raise refuse(where, first, "two different settings")
    groups = results.groups(file, metrics, scores, names)
    groups_of = {name: [group for group in groups if _has(group, name)] for name in names}
    for name in names:
        if not groups_of[name]:
            raise refuse(
                where, f"{name}, whose task has no validation scores", "evaluation.test to be true"
            )

    # A fold is no corpus to compare settings on: its text is.
    over_folds = [
        cross_validation
        for cross_validation in cross_validations(file, groups)
        if all(any(_has(fold, name) for fold in cross_validation.groups) for name in names)
    ]
    shared = [group for group in groups_of[first] if _has(group, second) and not group.fold_of]
    if not over_folds and not shared:
        raise refuse(
            where,
            f"{second}, {_title(groups_of[second][0])}",
            f"a setting of the {_title(groups_of[first][0])}, as {first} is",
        )

    for cross_validation in over_folds:
        _check_folds(cross_validation, names, where)
    for group in shared:
        _check_seeds(group, where)
    blocks: list[Block] = []
    several = len(over_folds) + len(shared) > 1
    for cross_validation in over_folds:
        blocks += _over_folds(cross_validation, several)
    for group in shared:
        blocks += _over_seeds(group, several)
    return blocks


def _has(group: Group, name: str) -> bool:
    return any(setting.name == name for setting in group.settings)


def _title(group: Group) -> str:
    corpus = group.fold_of.name if group.fold_of else group.corpus
    return f"{group.task.title.lower()} on {corpus}"


def _check_seeds(group: Group, where: str) -> None:
    for setting in group.settings:
        if not setting.supports_claims:
            raise refuse(
                where,
                f"{setting.name}, which has one seed",
                "at least 2 seeds to compare settings",
                "Add a run with another seed under `runs:`, or name two runs instead.",
            )


def _check_folds(cross_validation: CrossValidation, names: tuple[str, str], where: str) -> None:
    common = sum(all(_has(fold, name) for name in names) for fold in cross_validation.groups)
    if common < 2:
        first, second = names
        raise refuse(
            where,
            f"{first} and {second}, which have {common or 'no'} fold of "
            f"{cross_validation.text.name} in common",
            "at least 2 folds to compare settings",
            "Add runs on other folds under `runs:`, or name two runs instead.",
        )


def _over_folds(cross_validation: CrossValidation, several: bool) -> list[Block]:
    better, worse = (setting.name for setting in cross_validation.settings)
    title = f"{better} and {worse}"
    return [
        Heading(1, f"{title} on {cross_validation.text.name}" if several else title),
        Paragraph(_finding(cross_validation, better, worse, "the folds")),
        folds.ranking(cross_validation),
        *folds.notes(cross_validation),
        *folds.scores_by_fold(cross_validation),
        *folds.tests(cross_validation),
        folds.explanation(cross_validation),
        _ALONE,
    ]


def _over_seeds(group: Group, several: bool) -> list[Block]:
    better, worse = group.settings
    rows = tuple(_row(group, setting) for setting in group.settings)
    header = ("setting", "seeds", group.task.main_title, f"interval, {group.task.difference}")
    title = f"{better.name} and {worse.name}"
    return [
        Heading(1, f"{title} on {group.corpus}" if several else title),
        Paragraph(_finding(group, better.name, worse.name, "seeds and test sentences")),
        Table(header, rows, (False, True, True, True)),
        *(Paragraph(f"Note: {note}.") for note in group.notes),
        *setting_tests.setting_tests(group),
        _ALONE,
    ]


_ALONE = Paragraph(
    "p is for this pair alone. The report of all settings corrects for the number of its pairs."
)


def _finding(group: Group | CrossValidation, better: str, worse: str, over: str) -> str:
    if not group.pairs:
        return f"`{better}` and `{worse}` cannot be compared."

    # The better mean is over all folds, the test over those that both have.
    for winner, loser in ((better, worse), (worse, better)):
        if loser in group.beaten_by(winner, LEVEL):
            return f"`{winner}` is significantly better than `{loser}`, over {over}."
    if group.pairs[0].difference == 0:
        return f"`{better}` and `{worse}` have the same score over {over}."
    return (
        f"`{better}` has the better mean, but the difference from `{worse}` is not significant "
        f"over {over}."
    )


def _row(group: Group, setting: SettingResults) -> tuple[str, ...]:
    return (
        f"`{setting.name}`",
        cells.seeds(setting),
        cells.mean_score(setting, f"{group.split}.{group.task.main}.score", group.task.form),
        cells.interval(setting, group.task.interval_decimals),
    )
