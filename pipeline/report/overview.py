"""The report's first table: for each task and corpus the best setting, its lead over the next and
whether it is more than chance, the best baseline, and the limit that is known."""

from collections.abc import Sequence

from pipeline.report import folds, setting_tests
from pipeline.report.cross_validation import CrossValidation
from pipeline.report.document import NONE, Block, Heading, Link, Paragraph, Table
from pipeline.report.results import LEVEL, Group
from pipeline.report.standing import Row, Standing, standings

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
    """The table with a row per standing."""
    rows = tuple(_row(standing) for standing in standings(groups, cross_validations))
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


def _row(standing: Standing) -> tuple[str, ...]:
    ranking, scoring = standing.ranking, standing.scoring
    lead = verdict = NONE
    if standing.next is not None:
        lead = f"{standing.lead(standing.next)}, over `{standing.next.name}`"
        verdict = _verdict(standing.next)
    if isinstance(ranking, CrossValidation):
        title, best_possible = folds.title(ranking), None
    else:
        title, best_possible = section_title(ranking), limit(ranking)
    return (
        Link(title),
        f"`{standing.best.name}`",
        f"{scoring.main_name} {standing.best.score}",
        lead,
        verdict,
        _baseline(standing),
        NONE if best_possible is None else scoring.form.format(best_possible),
    )


def _verdict(row: Row) -> str:
    """`yes` if the best setting is significantly better than this one, with the p of the test."""
    if row.p is None:
        return "not tested"
    p = setting_tests.p_value(row.p)
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    return f"{'**yes**' if row.better else 'not shown'}, {p.replace(' ', _SPACE)}"


def _baseline(standing: Standing) -> str:
    """The best setting without a trained network, and the outcome of its test against the best
    setting."""
    if standing.best.is_baseline:
        return f"`{standing.best.name}`, the best setting"
    row = standing.baseline
    if row is None:
        return NONE
    untested = "not tested" if row.test is None else "not shown to be beaten"
    return f"`{row.name}` {row.score}, {'beaten' if row.better else untested}"
