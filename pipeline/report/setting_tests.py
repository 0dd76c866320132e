"""Tables of the tests: of settings over seeds and sentences, and of single models."""

from pipeline.report.document import NONE, Block, Heading, Paragraph, Table
from pipeline.report.results import LEVEL, Group
from pipeline.scoring.seeds import SettingPair
from pipeline.scoring.significance import Pair


def detectable_difference(group: Group) -> list[Block]:
    """The table's minimum detectable difference."""
    if not group.pairs:
        return []
    form = "{:.2f}" if group.task.higher_is_better else "{:.4f}"
    values = sorted(pair.detectable for pair in group.pairs)
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
    plain = "{:.2f}" if group.task.higher_is_better else "{:.4f}"
    rows = [
        (
            *_difference(group, pair),
            plain.format(pair.detectable),
            _more_seeds(pair.more_seeds, group.split_name),
        )
        for pair in group.pairs
    ]
    header = (
        "pair of settings",
        *_difference_header(group),
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
    rows = [_difference(group, pair) for pair in group.model_pairs]
    header = (
        "pair of models",
        *_difference_header(group),
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


def _difference_header(group: Group) -> tuple[str, ...]:
    unit = group.task.difference
    return (f"difference in {unit}", "interval", "p", "p, corrected", "significant")


def _difference(group: Group, pair: SettingPair | Pair) -> tuple[str, ...]:
    """The pair's names, and the cells below `_difference_header`."""
    form = "{:+.2f}" if group.task.higher_is_better else "{:+.4f}"
    return (
        f"`{pair.first}` – `{pair.second}`",
        form.format(pair.difference),
        f"{form.format(pair.low)} to {form.format(pair.high)}",
        _p(pair.p),
        _p(pair.corrected),
        "yes" if pair.corrected < LEVEL else "no",
    )


def _more_seeds(count: int | None, split_name: str) -> str:
    if count is None:
        return f"a larger {split_name} set"
    return str(count) if count else NONE


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
