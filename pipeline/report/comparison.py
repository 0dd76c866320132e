"""The comparison as a document: for each task and corpus the ranking, the tests, the settings,
answers and figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.params import Evaluation
from pipeline.report.document import Block, Figure, Heading, Paragraph, Table, Verbatim
from pipeline.report.repeats import several_seeds
from pipeline.report.results import SPLIT, Group, Result
from pipeline.scoring import mt_metrics
from pipeline.scoring.d2l_bleu import book_bleu
from pipeline.scoring.tasks import Column

LEVEL = 0.05
_BLOCKS = ("model", "objective", "optim", "training", "search")
_NONE = "–"
_ATTENTION = (
    "Attention: what each word of the answer (downwards) took from each word of the prompt "
    "(across); darker is more. Of "
    "several heads, the mean over those of the last layer, and beside it each of them."
)


def document(
    groups: Sequence[Group],
    evaluation: Evaluation,
    predictions: Path,
    figures: Mapping[str, list[Figure]],
    crossed: Sequence[Block],
) -> list[Block]:
    """Every group's blocks after a word on how to read them and what was `crossed`; `figures` under
    each group's key."""
    blocks: list[Block] = [Heading(1, "Comparison"), Paragraph(_how_to_read(evaluation)), *crossed]
    for group in groups:
        blocks += [
            Heading(2, f"{group.task.title} on {group.corpus}"),
            Paragraph(_findings(group)),
            _ranking(group),
        ]
        blocks += [Paragraph(f"Note: {note}.") for note in group.notes]
        blocks.append(Paragraph(group.task.meaning))
        blocks += [*several_seeds(group), *_further(group), *_classes(group), *_tests(group)]
        blocks += [Heading(3, f"Settings ({group.corpus})"), *_settings(group)]
        blocks += _samples(group, predictions)
        shown = figures.get(group.key, [])
        blocks += [Heading(3, f"Figures ({group.corpus})")] if shown else []
        blocks += [figure for figure in shown if not figure.small]
        maps = [figure for figure in shown if figure.small]
        blocks += [Paragraph(_ATTENTION), *maps] if maps else []
        blocks += _signatures(group)
    return blocks


def _how_to_read(evaluation: Evaluation) -> str:
    return (
        f"Runs are ranked by their score on the {SPLIT} split. Brackets hold the "
        f"{evaluation.confidence:.0%} interval over "
        f"{evaluation.bootstrap} bootstrap resamples of that split: how far the score could "
        "move with other sentences of "
        "the same kind. It says nothing about other seeds: where a setting was trained with "
        "several, a further table does. "
        "Overlapping intervals do not mean that two runs are alike: every run is scored on the "
        "same resamples, and "
        "**better than** lists the runs that it beats in a two-sided paired "
        f"bootstrap test at p < {LEVEL}, corrected for the number of pairs (Holm 1979), on at "
        "least 200 resamples per pair."
    )


def _findings(group: Group) -> str:
    """The outcome in a sentence or two."""
    best, beaten = group.results[0], group.beaten_by(group.results[0].name, LEVEL)
    others = [result.name for result in group.results[1:]]
    score = f"{group.task.main_name} {best.metric(f'{SPLIT}.{group.task.main}.score'):.2f}"
    if not others:
        return (
            f"`{best.name}` reaches {score}; there is no other run on this corpus to compare "
            "it with."
        )
    if len(beaten) == len(others):
        return f"`{best.name}` is best with {score}, significantly better than every other run."
    equals = ", ".join(f"`{name}`" for name in others if name not in beaten)
    return (
        f"`{best.name}` has the best score, {score}, but is not significantly better than {equals}."
    )


def _ranking(group: Group) -> Table:
    task, more = group.task, _further_splits(group)
    columns = _present(group, task.columns)
    titles = [f"{task.main_title}, {split}" for split in more] + [title for title, _, _ in columns]
    rows = []
    for rank, result in enumerate(group.results, 1):
        cells = [
            str(rank),
            f"`{result.name}`",
            result.run.family,
            f"{result.metric('parameters'):,}",
        ]
        cells += [_estimate(result.metric(f"{split}.{task.main}")) for split in (SPLIT, *more)]
        cells += [_number(result, key, form) for _, key, form in columns]
        rows.append((*cells, _beaten(group, rank)))
    header = ("", "run", "family", "parameters", task.main_title, *titles, "better than")
    numbers = (True, False, False, *[True] * (len(titles) + 2), False)
    best = group.beaten_by(group.results[0].name, LEVEL)
    tied = next((i for i, result in enumerate(group.results) if result.name in best), len(rows))
    return Table(header, tuple(rows), numbers, first=tied if len(rows) > 1 else 0)


def _beaten(group: Group, rank: int) -> str:
    found = group.beaten_by(group.results[rank - 1].name, LEVEL)
    if len(found) > 1 and len(found) == len(group.results) - rank:
        return "all below"
    return ", ".join(f"`{name}`" for name in found) or _NONE


def _further(group: Group) -> list[Block]:
    columns = _present(group, group.task.further)
    rows = [
        (f"`{r.name}`", *(_number(r, key, form) for _, key, form in columns)) for r in group.results
    ]
    header = ("run", *(title for title, _, _ in columns))
    table = Table(header, tuple(rows), (False, *[True] * len(columns)))
    return [Heading(3, f"Further scores ({group.corpus})"), table] if columns else []


def _classes(group: Group) -> list[Block]:
    """Precision, recall and F1 of every label, where there are labels."""
    rows = [
        (
            f"`{r.name}`",
            Verbatim(label),
            f"{found['rows']:,}",
            *(f"{found[key]:.2f}" for key in ("precision", "recall", "f1")),
        )
        for r in group.results
        for label, found in (r.metric(f"{SPLIT}.labels") or {}).items()
    ]
    header = ("run", "label", "rows", "precision, %", "recall, %", "F1, %")
    table = Table(header, tuple(rows), (False, False, True, True, True, True))
    return [Heading(3, f"Label by label ({group.corpus})"), table] if rows else []


def _present(group: Group, columns: Sequence[Column]) -> list[Column]:
    """Those columns that some run has a value in; keys from the top of the metrics."""
    found = [(title, f"{SPLIT}.{key}", form) for title, key, form in columns]
    return [
        column
        for column in found
        if any(result.metric(column[1]) is not None for result in group.results)
    ]


def _further_splits(group: Group) -> list[str]:
    """The splits beside test and valid that have the main score."""
    found = {
        name: value
        for result in group.results
        for name, value in result.metrics.items()
        if isinstance(value, dict)
    }
    return sorted(
        name
        for name, value in found.items()
        if name not in (SPLIT, "valid") and group.task.main in value
    )


def _tests(group: Group) -> list[Block]:
    if not group.pairs:
        return []
    form = "{:+.2f}" if group.task.higher_is_better else "{:+.4f}"
    rows = [
        (
            f"`{pair.first}` – `{pair.second}`",
            form.format(pair.difference),
            f"{form.format(pair.low)} to {form.format(pair.high)}",
            _p(pair.p),
            _p(pair.corrected),
            "yes" if pair.corrected < LEVEL else "no",
        )
        for pair in group.pairs
    ]
    header = (
        "pair",
        f"difference in {group.task.difference}",
        "interval",
        "p",
        "p, corrected",
        "significant",
    )
    numbers = (False, True, True, True, True, False)
    return [
        Heading(3, f"Is the difference real? ({group.corpus})"),
        Table(header, tuple(rows), numbers),
    ]


def _settings(group: Group) -> list[Block]:
    """Settings that all runs share, and those in which each run differs."""
    flat = {
        result.name: _flat({name: getattr(result.run, name) for name in _BLOCKS})
        for result in group.results
    }
    first, *rest = flat.values()
    shared = {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in rest)
    }
    rows = []
    for result in group.results:
        own = {key: value for key, value in flat[result.name].items() if key not in shared}
        rows.append(
            (
                f"`{result.name}`",
                result.run.family,
                str(result.run.seed),
                Verbatim(_listed(own) or _NONE),
            )
        )
    table = Table(
        ("run", "family", "seed", "what sets it apart"), tuple(rows), (False, False, True, False)
    )
    return [table, Paragraph(f"All share: `{_listed(shared)}`.")] if rest and shared else [table]


def _samples(group: Group, predictions: Path) -> list[Block]:
    """Output of each run for each sample sentence, with the book's BLEU where there is a
    reference."""
    answers = {
        r.name: tables.read(predictions / r.name / "samples.parquet", tables.SAMPLES)
        for r in group.results
    }
    rows: list[tuple[str, ...]] = []
    count = max(len(table) for table in answers.values())
    for number in range(count):
        for position, (name, table) in enumerate(answers.items()):
            for sample in table.filter(pc.field("row") == number).to_pylist():
                wanted = sample["reference"]
                judged = group.task.book_bleu and wanted is not None
                score = f"{_book_bleu(group, sample['text'], wanted):.3f}" if judged else _NONE
                prompt = (
                    (Verbatim(sample["prompt"]), Verbatim(wanted or _NONE))
                    if position == 0
                    else ("", "")
                )
                rows.append((*prompt, f"`{name}`", Verbatim(sample["text"]), score))
    if not rows:
        return []
    header = ("prompt", "reference", "run", "answer", "book's BLEU")
    note = (
        "The book's BLEU is that of single sentences with k = 2, on lowercased words (Dive "
        "into Deep Learning, 10.7.6)."
    )
    table = Table(header, tuple(rows), (False, False, False, False, True))
    scored = any(row[-1] != _NONE for row in rows)
    if not scored:
        kept = (0, 1, 2, 3) if any(row[1] not in ("", _NONE) for row in rows) else (0, 2, 3)
        table = Table(
            tuple(header[i] for i in kept),
            tuple(tuple(row[i] for i in kept) for row in rows),
            (False,) * len(kept),
        )
    return [
        Heading(3, f"Sample sentences ({group.corpus})"),
        table,
        *([Paragraph(note)] if scored else []),
    ]


def _book_bleu(group: Group, answer: str, reference: str) -> float:
    """The book's BLEU of an answer, both sides read as the corpus reads its text."""
    [pair] = mt_metrics.normalized_pairs(pa.array([answer]), pa.array([reference]), group.text)
    return book_bleu(*pair)


def _signatures(group: Group) -> list[Block]:
    """sacreBLEU's signatures, which are the same for every run."""
    scores = group.results[0].metric(SPLIT) or {}
    found = {
        name: value.get("signature") for name, value in scores.items() if isinstance(value, dict)
    }
    found = {name: signature for name, signature in found.items() if signature}
    if not found:
        return []
    rows = tuple((name, f"`{signature}`") for name, signature in found.items())
    return [
        Heading(3, f"Signatures ({group.corpus})"),
        Table(("score", "sacreBLEU's signature"), rows, (False, False)),
    ]


def _estimate(found: Any) -> str:
    return (
        f"{found['score']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
        if isinstance(found, dict)
        else _NONE
    )


def _number(result: Result, key: str, form: str) -> str:
    """The metric, with its interval where it has one beside it."""
    value, low, high = (result.metric(key + end) for end in ("", "_low", "_high"))
    if value is None:
        return _NONE
    return form.format(value) + (
        f" [{form.format(low)}, {form.format(high)}]"
        if low is not None and high is not None
        else ""
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _flat(block: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in block.items():
        found |= (
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": value}
        )
    return found


def _listed(flat: Mapping[str, Any]) -> str:
    """Settings by block, in a line: `model: layers 2, hidden 64; optim: name adam`."""
    grouped: dict[str, list[str]] = {}
    for key, value in flat.items():
        block, _, name = key.partition(".")
        grouped.setdefault(block, []).append(f"{name} {_yaml(value)}")
    return "; ".join(f"{block}: {', '.join(items)}" for block, items in grouped.items())


def _yaml(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool | list) else str(value)
