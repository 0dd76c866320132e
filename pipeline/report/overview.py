"""The report's first table: for each task and corpus the best setting, its lead over the next and
whether it is more than chance, the best baseline, and the limit that is known."""

from collections.abc import Iterator, Sequence

from pipeline.report import cells, folds, setting_tests
from pipeline.report.cross_validation import CrossValidation
from pipeline.report.document import NONE, Block, Heading, Link, Paragraph, Table
from pipeline.report.results import LEVEL, Group

TITLE = "Overview"
_LIMITS = ("limit", "floor_perplexity")  # metrics that hold the best score that can be expected
_SPACE = "\N{NO-BREAK SPACE}"  # keeps a number and its unit on one line
_HEADER = (
    "task and corpus",
    "best setting",
    "score",
    "lead over the next",
    "more than chance?",
    "best baseline",
    "limit",
)


def overview(groups: Sequence[Group], cross_validations: Sequence[CrossValidation]) -> list[Block]:
    """The table with a row per section, but for folds of a cross-validated text."""
    rows = tuple(_rows(groups, cross_validations))
    if not rows:
        return []
    return [
        Heading(2, TITLE),
        Table(_HEADER, rows, (*[False] * (len(_HEADER) - 1), True)),
        Paragraph(
            f"**more than chance?** says whether the test of settings finds the lead at p < "
            f"{LEVEL}, over seeds and sentences, or over folds. `not shown` does not mean that the "
            "two are equal: more seeds may decide it. The baseline is the best setting that is "
            "fitted without gradients."
        ),
    ]


def section_title(group: Group) -> str:
    """The heading of a group's section."""
    return f"{group.task.title} on {group.corpus}"


def limit(group: Group | CrossValidation) -> float | None:
    """The best score that can be expected of any setting on the corpus, if it is known."""
    first = group.settings[0].first
    values = (first.metric(f"{group.split}.{key}") for key in _LIMITS)
    return next((value for value in values if value is not None), None)


def _rows(
    groups: Sequence[Group], cross_validations: Sequence[CrossValidation]
) -> Iterator[tuple[str, ...]]:
    for over_folds in cross_validations:
        if over_folds.settings:
            yield _row(over_folds, folds.title(over_folds), "folds")
    for group in groups:
        if not group.fold_of:
            yield _row(group, section_title(group), "seeds")


def _row(group: Group | CrossValidation, title: str, over: str) -> tuple[str, ...]:
    best, *others = group.settings
    lead = verdict = NONE
    if others:
        form = f"{{:.{group.task.difference_decimals}f}}"
        difference = form.format(abs(best.score.mean - others[0].score.mean))
        lead = f"{difference} {group.task.difference}, over `{others[0].name}`"
        verdict = _verdict(group, others[0].name)
    best_possible = limit(group) if over == "seeds" else None
    return (
        Link(title),
        f"`{best.name}`",
        f"{group.task.main_name} {_score(group, best.name)}",
        lead,
        verdict,
        _baseline(group),
        NONE if best_possible is None else group.task.form.format(best_possible),
    )


def _score(group: Group | CrossValidation, name: str) -> str:
    """The mean score of a setting, ± the deviation over its seeds or folds."""
    setting = next(setting for setting in group.settings if setting.name == name)
    values = setting.values(f"{group.split}.{group.task.main}.score")
    return cells.mean_of(values, group.task.form)


def _verdict(group: Group | CrossValidation, other: str) -> str:
    """Whether the best setting is significantly better than another one, with the p of the test."""
    best = group.settings[0].name
    for pair in group.pairs:
        if {pair.first, pair.second} == {best, other}:
            is_shown = other in group.beaten_by(best, LEVEL)
            p = setting_tests.p_value(pair.corrected)
            p = f"p {p}" if p.startswith("<") else f"p = {p}"
            return f"{'**yes**' if is_shown else 'not shown'}, {p.replace(' ', _SPACE)}"
    return "not tested"


def _baseline(group: Group | CrossValidation) -> str:
    """The best setting without a trained network, and whether the best setting beats it."""
    baseline = next((s.name for s in group.settings if s.is_deterministic), None)
    if baseline is None:
        return NONE
    if baseline == group.settings[0].name:
        return f"`{baseline}`, the best setting"
    verdict = _verdict(group, baseline)
    outcome = "beaten" if verdict.startswith("**yes") else verdict.partition(",")[0]
    if outcome == "not shown":
        outcome = "not shown to be beaten"
    return f"`{baseline}` {_score(group, baseline)}, {outcome}"
