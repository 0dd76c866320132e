"""Settings that were trained with several seeds: how far a score moves when nothing but the seed does."""

import dataclasses
import json
from statistics import mean, stdev

from pipeline.report.document import Block, Heading, Paragraph, Table
from pipeline.report.results import SPLIT, Group, Result

_MEANING = (
    "Runs that differ in nothing but their seed are one setting, trained several times. Beside the mean over its seeds "
    "stands their sample standard deviation. The brackets of the ranking tell how far a score could move with other "
    "sentences; this tells how far it moves with another seed, on the same sentences. A difference between two runs that "
    "is not large beside it may be luck."
)


def settings(group: Group) -> list[list[Result]]:
    """The group's runs that are alike but for the seed, one for each seed, where there are several; the best mean first."""
    found: dict[str, dict[int, Result]] = {}
    for result in group.results:
        block = {key: value for key, value in dataclasses.asdict(result.run).items() if key != "seed"}
        found.setdefault(json.dumps(block, sort_keys=True), {}).setdefault(result.run.seed, result)
    several = [list(by_seed.values()) for by_seed in found.values() if len(by_seed) > 1]
    sign = -1 if group.task.higher_is_better else 1
    return sorted(several, key=lambda results: sign * mean(_values(results, f"{SPLIT}.{group.task.main}.score")))


def several_seeds(group: Group) -> list[Block]:
    """A table with a row per setting: of the main score and of the one beside it the mean, deviation and range."""
    found = settings(group)
    if not found:
        return []
    scores = [(group.task.main_title, f"{SPLIT}.{group.task.main}.score", "{:.2f}")]
    scores += [(title, f"{SPLIT}.{key}", form) for title, key, form in group.task.columns[:1]]
    scores = [score for score in scores if all(_values(results, score[1]) for results in found)]
    rows = []
    for results in found:
        cells = [", ".join(f"`{result.name}`" for result in results), str(len(results))]
        for _, key, form in scores:
            values = _values(results, key)
            cells += [f"{form.format(mean(values))} ± {form.format(stdev(values))}"]
            cells += [f"{form.format(min(values))} to {form.format(max(values))}"]
        rows.append(tuple(cells))
    titles = [name for title, _, _ in scores for name in (f"{title}, mean ± deviation", "lowest to highest")]
    table = Table(("runs", "seeds", *titles), tuple(rows), (False, True, *[True] * len(titles)))
    return [Heading(3, f"Several seeds ({group.corpus})"), table, Paragraph(_MEANING)]


def _values(results: list[Result], key: str) -> list[float]:
    """The metric of every run; none if one of them lacks it."""
    values = [result.at(key) for result in results]
    return [] if None in values else values
