"""Comparison of several ways of doing one thing: alternating rounds, and ratios within a round."""

import statistics
from collections.abc import Callable, Mapping


def time_alternating(
    functions: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """Return the seconds that each function reports, round by round.

    Rounds alternate between the functions, so that a busy machine affects all of them. A round
    before them warms up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            elapsed = function()
            if number > 0:
                seconds[name].append(elapsed)
    return seconds


def ratio_summary(seconds: list[float], baseline: list[float]) -> str:
    """The median of the rounds' ratios, with the smallest and the largest."""
    ratios = [value / reference for value, reference in zip(seconds, baseline, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def median_ms(seconds: list[float]) -> float:
    """The median, in ms."""
    return 1000 * statistics.median(seconds)
