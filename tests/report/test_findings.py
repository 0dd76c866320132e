"""The report's sentences on settings that the best one does not beat."""

from statistics import mean
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.report import findings
from pipeline.report.standing import Standing


def setting(name: str, *scores: float) -> Any:
    """A setting with a score for each seed."""
    return SimpleNamespace(
        name=name,
        supports_claims=True,
        results=scores,
        score=SimpleNamespace(mean=mean(scores)),
        values=lambda key: list(scores),
    )


def group(beaten: set[str], *settings: Any) -> Any:
    """A group whose best setting beats these, and was compared with every other."""
    return SimpleNamespace(
        split="test",
        task=SimpleNamespace(main="bleu", main_name="BLEU", form="{:.2f}"),
        settings=settings,
        beaten_by=lambda name, level: [s.name for s in settings if s.name in beaten],
        compared_with=lambda name: {s.name for s in settings if s.name != name},
    )


@pytest.mark.parametrize(
    ("lead", "text"), [(0.567, "0.57"), (0.0, "0.00"), (-0.0, "0.00"), (-0.004, "0.00")]
)
def test_a_lead_has_the_decimals_of_the_score_and_no_negative_zero(lead: float, text: str) -> None:
    ranking: Any = SimpleNamespace(task=SimpleNamespace(decimals=2))
    row: Any = SimpleNamespace(lead=lead)
    standing = Standing(ranking=ranking, corpus="pairs", best=row, next=row, baseline=None)
    assert standing.lead(row) == text


BEST, STEADY, VARIED = (
    setting("best", 95.0, 95.2),
    setting("steady", 92.0, 92.2),
    setting("varied", 80.0, 90.0),
)


def test_a_beaten_setting_above_one_that_varies_and_is_not_beaten_is_explained() -> None:
    text = findings.outcome(group({"steady"}, BEST, STEADY, VARIED))
    assert text == (
        "`best` has the best score, BLEU 95.10 ± 0.14. "
        "It is not significantly better than `varied`. "
        "`steady` ranks above `varied` and is beaten all the same: its scores vary less over the "
        "seeds."
    )


@pytest.mark.parametrize(
    ("beaten", "settings"),
    [
        ({"varied"}, (BEST, STEADY, VARIED)),  # the beaten setting is the lower one
        (set(), (BEST, STEADY, VARIED)),
        ({"varied"}, (BEST, VARIED, setting("low", 70.0, 70.1))),  # the lower one varies less
        ({"steady"}, (BEST, STEADY, setting("low", 70.0))),  # of one seed no spread is known
    ],
)
def test_nothing_is_explained_where_the_spread_is_no_reason(
    beaten: set[str], settings: tuple[Any, ...]
) -> None:
    assert "all the same" not in findings.outcome(group(beaten, *settings))
