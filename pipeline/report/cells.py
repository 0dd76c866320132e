"""Cells of the report's tables: scores of settings and runs, with their spread."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from pipeline.report.document import NONE
from pipeline.report.results import Result, SettingResults


def interval(setting: SettingResults, decimals: int) -> str:
    """The interval over seeds and sentences; a setting with one seed has none."""
    low, high = setting.score.low, setting.score.high
    if low is None or high is None:
        return NONE
    return f"{low:.{decimals}f} to {high:.{decimals}f}"


def seeds(setting: SettingResults) -> str:
    """The number of seeds; a deterministic setting needs none."""
    if setting.is_deterministic:
        return "none"
    return str(len(setting.results)) if len(setting.results) > 1 else "one seed"


def estimate(score: Any, form: str) -> str:
    """A score with its interval."""
    if not isinstance(score, dict):
        return NONE
    value, low, high = (form.format(score[key]) for key in ("score", "low", "high"))
    return f"{value} [{low}, {high}]"


def mean_score(setting: SettingResults, key: str, form: str) -> str:
    """The mean of a metric over the setting's seeds, ± its standard deviation; for one seed, the
    interval over sentences if there is one."""
    values = setting.values(key)
    if len(values) == 1:
        return _number(setting.first, key, form)
    return mean_of(values, form) if values else NONE


def _number(result: Result, key: str, form: str) -> str:
    """The metric `key`, with its interval if the metrics have one: `x.low` and `x.high` for
    `x.score`, else `<key>_low` and `<key>_high`."""
    name = key.removesuffix(".score")
    separator = "_" if name == key else "."
    value = result.metric(key)
    low, high = (result.metric(f"{name}{separator}{bound}") for bound in ("low", "high"))
    if value is None:
        return NONE
    text = form.format(value)
    if low is None or high is None:
        return text
    return f"{text} [{form.format(low)}, {form.format(high)}]"


def mean_of(values: Sequence[float], form: str) -> str:
    """The mean of the values, ± their standard deviation if they differ."""
    text = form.format(mean(values))
    if len(set(values)) == 1:
        return text
    # The deviation has the decimals of the mean, and neither its sign nor its unit.
    return f"{text} ± {form.replace('+', '').format(stdev(values))}"
