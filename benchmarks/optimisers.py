"""Sensitivity of each optimiser to its learning rate, as a plot of the settings of the preset
`optimisers`.

    seqline use optimisers && dvc repro --keep-going; python -m benchmarks.optimisers [--out
    docs/images/optimisers.png]

Plots each setting's test perplexity, the mean over its seeds, by its learning rate, a line for each
optimiser. Prints the table of it, with the span of learning rates within 10 % of the optimiser's
best perplexity. A training whose loss is not finite ends with a message and has no metrics; a
setting with such a run counts as diverged here: train all of the runs first."""

import argparse
import json
import math
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from pipeline.core import config, params
from pipeline.core.errors import exit_with, refuse
from pipeline.report.style import QUIET, hues, save_figure

GOOD = 1.1  # times the optimiser's best perplexity
WORST = 300.0  # a perplexity above it is close to that of random words: diverged


def read_perplexities(root: Path) -> tuple[dict[str, list[tuple[float, float]]], float]:
    """Read (learning rate, test perplexity) of each optimiser, by rate, and the corpus's lowest
    possible perplexity.

    A perplexity is the mean over the runs of a setting, infinite if one has no metrics; UserError
    if no run has any.
    """
    by_setting: dict[tuple[str, float], list[float]] = defaultdict(list)
    floor = 0.0
    for name in config.section(root / "params.yaml", "runs"):
        optim = params.run(root / "params.yaml", name).optim
        metrics = root / f"reports/metrics/{name}.json"
        perplexity = math.inf
        if metrics.exists():
            test = json.loads(metrics.read_text(encoding="utf-8"))["test"]
            perplexity = test["perplexity"]["score"]
            floor = test["floor_perplexity"]
        by_setting[optim["name"], optim["learning_rate"]].append(perplexity)

    if not floor:
        raise refuse(
            "reports/metrics",
            "no scores",
            "those of params.yaml's runs",
            "Run `dvc repro --keep-going`.",
        )

    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (name, rate), perplexities in sorted(by_setting.items()):
        points[name].append((rate, statistics.fmean(perplexities)))
    return dict(points), floor


def draw(by_optimiser: dict[str, list[tuple[float, float]]], floor: float, out: Path) -> None:
    """Plot the perplexities, both axes logarithmic."""
    hue = hues(list(by_optimiser))
    with save_figure(out, 7.5, 3.9) as figure:
        axes = figure.subplots()
        figure.subplots_adjust(left=0.08, right=0.94, bottom=0.15, top=0.88)
        axes.set_title("Test perplexity by learning rate (triangles: diverged from there on)")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(4.5, WORST)
        for name, points in by_optimiser.items():
            # Draw up to the first diverged run, which is marked on the upper edge.
            count = next(
                (i + 1 for i, (_, value) in enumerate(points) if value > WORST), len(points)
            )
            capped = [(rate, min(value, WORST)) for rate, value in points[:count]]
            axes.plot(
                *zip(*capped, strict=True),
                "o-",
                color=hue[name],
                markersize=5,
                markeredgecolor="white",
            )
            diverged = [point for point in capped if point[1] == WORST]
            axes.plot(
                [rate for rate, _ in diverged],
                [WORST] * len(diverged),
                "^",
                color=hue[name],
                markersize=8,
                clip_on=False,
            )
            axes.annotate(
                name,
                capped[0],
                xytext=(7, 3),
                textcoords="offset points",
                color=hue[name],
                fontsize=9,
            )

        axes.axhline(floor, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            "lowest reachable",
            (axes.get_xlim()[0], floor),
            xytext=(4, 4),
            textcoords="offset points",
            color=QUIET,
        )
        _format_axes(axes, by_optimiser)
        axes.set_xlabel("learning rate")


def _format_axes(axes: Any, by_optimiser: dict[str, list[tuple[float, float]]]) -> None:
    axes.set_xticks(sorted({rate for points in by_optimiser.values() for rate, _ in points}))
    axes.set_yticks([5, 10, 20, 50, 100])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_locator(_null_locator())


def _null_locator() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def table(by_optimiser: dict[str, list[tuple[float, float]]]) -> str:
    """The perplexities as a Markdown table."""
    rates = sorted({rate for points in by_optimiser.values() for rate, _ in points})
    lines = [
        "| optimiser | "
        + " | ".join(f"{rate:g}" for rate in rates)
        + " | within 10 % of its best |"
    ]
    lines.append("|---|" + "---:|" * (len(rates) + 1))

    for name, points in by_optimiser.items():
        best = min(value for _, value in points)
        good = [rate for rate, value in points if value <= GOOD * best]
        if math.isinf(best):
            span = "–"
        else:
            span = f"{good[0]:g} to {good[-1]:g}" if len(good) > 1 else f"{good[0]:g}"
        perplexity = dict(points)
        cells = [_cell(perplexity.get(rate)) for rate in rates]
        lines.append(f"| {name} | {' | '.join(cells)} | {span} |")
    return "\n".join(lines)


def _cell(perplexity: float | None) -> str:
    if perplexity is None:
        return "–"
    return "diverged" if perplexity > WORST else f"{perplexity:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path("."))
    parser.add_argument("--out", type=Path, default=Path("docs/images/optimisers.png"))
    a = parser.parse_args()
    perplexities, floor = read_perplexities(a.root)
    draw(perplexities, floor, a.out)
    print(table(perplexities))


if __name__ == "__main__":
    exit_with(main)
