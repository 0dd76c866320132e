"""Two settings of params.yaml, compared by the report's test of settings."""

from pathlib import Path

from pipeline.core.errors import refuse
from pipeline.report import comparison, results, setting_tests
from pipeline.report.document import Block, Heading, Paragraph, Table
from pipeline.report.results import LEVEL, Group, SettingResults


def compare(
    file: Path, metrics: Path, scores: Path, names: tuple[str, str], where: str
) -> list[Block]:
    """The scores of two settings, and the test of their difference over seeds and test sentences.

    Arguments as of `results.groups`. UserError, which calls the names `where`, for settings of
    different tasks or corpora, and for one whose variation over seeds is unknown."""
    first, second = names
    if first == second:
        raise refuse(where, first, "two different settings")
    groups = results.groups(file, metrics, scores, names)
    of_setting = {setting.name: group for group in groups for setting in group.settings}
    for name in names:
        if name not in of_setting:
            raise refuse(
                where, f"{name}, whose task has no validation scores", "evaluation.test to be true"
            )
    group = of_setting[first]
    if of_setting[second] is not group:
        raise refuse(
            where,
            f"{second}, {_title(of_setting[second])}",
            f"a setting of the {_title(group)}, as {first} is",
        )
    for setting in group.settings:
        if not setting.supports_claims:
            raise refuse(
                where,
                f"{setting.name}, which has one seed",
                "at least 2 seeds to compare settings",
                "Add a run with another seed under `runs:`, or name two runs instead.",
            )
    return _blocks(group)


def _title(group: Group) -> str:
    return f"{group.task.title.lower()} on {group.corpus}"


def _blocks(group: Group) -> list[Block]:
    better, worse = group.settings
    rows = tuple(_row(group, setting) for setting in group.settings)
    header = ("setting", "seeds", group.task.main_title, f"interval, {group.task.difference}")
    return [
        Heading(1, f"{better.name} and {worse.name}"),
        Paragraph(_finding(group, better, worse)),
        Table(header, rows, (False, True, True, True)),
        *(Paragraph(f"Note: {note}.") for note in group.notes),
        *setting_tests.setting_tests(group),
        Paragraph(
            "p is for this pair alone. The report of all settings corrects for the number of its "
            "pairs."
        ),
    ]


def _finding(group: Group, better: SettingResults, worse: SettingResults) -> str:
    if not group.pairs:
        return f"`{better.name}` and `{worse.name}` cannot be compared."
    if worse.name in group.beaten_by(better.name, LEVEL):
        return (
            f"`{better.name}` is significantly better than `{worse.name}`, over seeds and test "
            "sentences."
        )
    return (
        f"`{better.name}` has the better mean, but the difference from `{worse.name}` is not "
        "significant over seeds and test sentences."
    )


def _row(group: Group, setting: SettingResults) -> tuple[str, ...]:
    return (
        f"`{setting.name}`",
        comparison.seeds_cell(setting),
        comparison.mean_cell(setting, f"{group.split}.{group.task.main}.score", "{:.2f}"),
        comparison.interval_cell(setting, 2 if group.task.higher_is_better else 3),
    )
