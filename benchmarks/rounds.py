"""How benchmarks compare ways of doing one thing: in turns, each time over the first way's in the
same round."""

import statistics
from collections.abc import Callable, Mapping


def time_alternating(
    ways: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """The seconds that each way says it took, round by round; a round before them warms up and is
    not counted."""
    taken = [{name: way() for name, way in ways.items()} for _ in range(rounds + 1)][1:]
    return {name: [one[name] for one in taken] for name in ways}


def ratio_summary(own: list[float], first: list[float]) -> str:
    """The median of the rounds' ratios, and their ends."""
    ratios = [mine / theirs for mine, theirs in zip(own, first, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def median_ms(seconds: list[float]) -> float:
    """Their median, in ms."""
    return 1000 * statistics.median(seconds)
