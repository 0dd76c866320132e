"""Tables of the tests: of settings over seeds and sentences, and of single models."""

import math

from pipeline.report.cross_validation import CrossValidation
from pipeline.report.document import NONE, Block, Heading, Paragraph, Table
from pipeline.report.results import LEVEL, Group
from pipeline.scoring.folds import FoldPair
from pipeline.scoring.seeds import SettingPair
from pipeline.scoring.significance import Pair


def better_than(group: Group | CrossValidation, rank: int) -> str:
    """Cell with the names of the settings that the setting of this rank beats."""
    names = group.beaten_by(group.settings[rank - 1].name, LEVEL)
    if len(names) > 1 and len(names) == len(group.settings) - rank:
        return "all below"
    return ", ".join(f"`{name}`" for name in names) or NONE


def unbeaten(group: Group | CrossValidation) -> int:
    """The number of settings at the top that the best one does not beat, itself included; 0 for a
    single setting."""
    names = [setting.name for setting in group.settings]
    if len(names) == 1:
        return 0
    beaten = group.beaten_by(names[0], LEVEL)
    return next((rank for rank, name in enumerate(names) if name in beaten), len(names))


def detectable_difference(group: Group | CrossValidation) -> list[Block]:
    """The table's minimum detectable difference."""
    form = f"{{:.{group.task.difference_decimals}f}}"
    values = sorted(pair.detectable for pair in group.pairs if math.isfinite(pair.detectable))
    if not values:
        return []
    least, most = form.format(values[0]), form.format(values[-1])
    span = least if least == most else f"{least} to {most}, depending on the pair,"
    return [
        Paragraph(
            f"Minimum detectable difference (power about 80 %): {span} in {group.task.difference}."
        )
    ]


def setting_tests(group: Group) -> list[Block]:
    """The test of every pair of settings, and how large a difference it can find."""
    if not group.pairs:
        return []
    plain = f"{{:.{group.task.difference_decimals}f}}"
    rows = [
        (
            *difference(group, pair),
            plain.format(pair.detectable),
            _more_seeds(pair.more_seeds, group.split_name),
        )
        for pair in group.pairs
    ]
    header = (
        "pair of settings",
        *difference_header(group),
        "detectable",
        "more seeds",
    )
    numbers = (False, True, True, True, True, False, True, True)
    return [
        Heading(3, f"Tests of settings ({group.corpus})"),
        Table(header, tuple(rows), numbers),
        Paragraph(
            "`detectable` is the smallest true difference that the test finds with a power of "
            "about 80 %. `more seeds` is how many more seeds of each setting would decide an open "
            "pair, if the observed difference were the true one."
        ),
    ]


def model_tests(group: Group) -> list[Block]:
    """The test of every pair of models, where some setting has one seed."""
    if not group.model_pairs:
        return []
    rows = [difference(group, pair) for pair in group.model_pairs]
    header = (
        "pair of models",
        *difference_header(group),
    )
    return [
        Heading(3, f"Tests of models ({group.corpus})"),
        Table(header, tuple(rows), (False, True, True, True, True, False)),
        Paragraph(
            f"These are paired bootstrap tests over {group.split_name} sentences. They compare "
            "two trained models: which of the two translates, predicts or classifies this text "
            "better. With another seed the outcome may be the opposite, so they say nothing about "
            "families or settings."
        ),
    ]


def difference_header(group: Group | CrossValidation) -> tuple[str, ...]:
    """Titles of the columns of a difference, after the pair's."""
    unit = group.task.difference
    return (f"difference in {unit}", "interval", "p", "p, corrected", "significant")


def difference(
    group: Group | CrossValidation, pair: SettingPair | FoldPair | Pair
) -> tuple[str, ...]:
    """The pair's names, and the cells below `difference_header`."""
    form = f"{{:+.{group.task.difference_decimals}f}}"
    return (
        f"`{pair.first}` – `{pair.second}`",
        form.format(pair.difference),
        interval(pair.low, pair.high, form),
        p_value(pair.p),
        p_value(pair.corrected),
        "yes" if pair.corrected < LEVEL else "no",
    )


def interval(low: float, high: float, form: str) -> str:
    """Cell with an interval; one without bounds is left out."""
    if not math.isfinite(high - low):
        return NONE
    return f"{form.format(low)} to {form.format(high)}"


def _more_seeds(count: int | None, split_name: str) -> str:
    if count is None:
        return f"a larger {split_name} set"
    return str(count) if count else NONE


def p_value(value: float) -> str:
    """Cell with a p-value."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
