"""The comparison as a document: for each task and corpus the ranking, the paired tests, the
settings, outputs and figures."""

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

LEVEL = 0.05  # of significance
_BLOCKS = ("model", "objective", "optim", "training", "search")  # of a run, shown as settings
_NONE = "–"  # in a cell without a value
_ATTENTION = (
    "Attention weights of the samples: input words across, output words downwards; darker is "
    "larger. The large map of a model with several heads is the mean over the heads of the last "
    "layer. The small maps show these heads one by one."
)
_BOOK_BLEU = (
    "The book's BLEU scores single sentences with k = 2, on lowercased words (Dive into Deep "
    "Learning, 10.7.6)."
)


def document(
    groups: Sequence[Group],
    evaluation: Evaluation,
    predictions: Path,
    figures: Mapping[str, list[Figure]],
    cross_validation: Sequence[Block],
) -> list[Block]:
    """All blocks of the report: how to read it, `cross_validation`, then a section per group.

    `figures` are those of each `Group.key`."""
    blocks: list[Block] = [
        Heading(1, "Comparison"),
        Paragraph(_how_to_read(evaluation)),
        *cross_validation,
    ]
    for group in groups:
        # The result first, then details, settings, samples and figures.
        blocks += [
            Heading(2, f"{group.task.title} on {group.corpus}"),
            Paragraph(_findings(group)),
            _ranking(group),
        ]
        blocks += [Paragraph(f"Note: {note}.") for note in group.notes]
        blocks.append(Paragraph(group.task.meaning))
        blocks += [
            *several_seeds(group),
            *_further_scores(group),
            *_label_scores(group),
            *_paired_tests(group),
        ]
        blocks += [Heading(3, f"Settings ({group.corpus})"), *_settings(group)]
        blocks += _samples(group, predictions)
        blocks += _figures(group, figures.get(group.key, []))
        blocks += _signatures(group)
    return blocks


def _how_to_read(evaluation: Evaluation) -> str:
    return (
        f"Runs are ranked by their score on the {SPLIT} split. "
        "**better than** lists the runs that a run beats significantly. "
        f"The test is a two-sided paired bootstrap at p < {LEVEL}, with at least 200 resamples per "
        "pair. Its p-values are corrected for the number of pairs (Holm 1979). "
        f"Brackets hold the {evaluation.confidence:.0%} interval over {evaluation.bootstrap} "
        f"bootstrap resamples of the {SPLIT} split. "
        "They show the variation between test sets, not between seeds. "
        "Settings that were trained with several seeds have a separate table. "
        "Runs with overlapping intervals may still differ significantly, because all runs are "
        "scored on the same resamples."
    )


def _findings(group: Group) -> str:
    """The outcome in a sentence or two."""
    best = group.results[0]
    beaten = group.beaten_by(best.name, LEVEL)
    others = [result.name for result in group.results[1:]]
    score = f"{group.task.main_name} {best.metric(f'{SPLIT}.{group.task.main}.score'):.2f}"

    if not others:
        return f"`{best.name}` is the only run on this corpus, with {score}."
    if len(beaten) == len(others):
        return f"`{best.name}` is best with {score}, significantly better than every other run."
    not_beaten = ", ".join(f"`{name}`" for name in others if name not in beaten)
    return (
        f"`{best.name}` has the best score, {score}. It is not significantly better than "
        f"{not_beaten}."
    )


def _ranking(group: Group) -> Table:
    task = group.task
    further_splits = _further_splits(group)
    columns = _present(group, task.columns)
    titles = [f"{task.main_title}, {split}" for split in further_splits]
    titles += [title for title, _, _ in columns]

    rows = []
    for rank, result in enumerate(group.results, 1):
        cells = [
            str(rank),
            f"`{result.name}`",
            result.run.family,
            f"{result.metric('parameters'):,}",
        ]
        cells += [
            _estimate(result.metric(f"{split}.{task.main}")) for split in (SPLIT, *further_splits)
        ]
        cells += [_number(result, key, form) for _, key, form in columns]
        rows.append((*cells, _beaten(group, rank)))

    header = ("", "run", "family", "parameters", task.main_title, *titles, "better than")
    numbers = (True, False, False, *[True] * (len(titles) + 2), False)

    # Highlight the best run and those that it does not beat.
    best = group.beaten_by(group.results[0].name, LEVEL)
    tied = next((i for i, result in enumerate(group.results) if result.name in best), len(rows))
    return Table(header, tuple(rows), numbers, first=tied if len(rows) > 1 else 0)


def _beaten(group: Group, rank: int) -> str:
    """Names of the runs that the run of this rank beats."""
    names = group.beaten_by(group.results[rank - 1].name, LEVEL)
    if len(names) > 1 and len(names) == len(group.results) - rank:
        return "all below"
    return ", ".join(f"`{name}`" for name in names) or _NONE


def _further_scores(group: Group) -> list[Block]:
    columns = _present(group, group.task.further)
    if not columns:
        return []
    rows = [
        (f"`{r.name}`", *(_number(r, key, form) for _, key, form in columns)) for r in group.results
    ]
    header = ("run", *(title for title, _, _ in columns))
    table = Table(header, tuple(rows), (False, *[True] * len(columns)))
    return [Heading(3, f"Further scores ({group.corpus})"), table]


def _label_scores(group: Group) -> list[Block]:
    """Precision, recall and F1 of every label, where there are labels."""
    rows = [
        (
            f"`{r.name}`",
            Verbatim(label),
            f"{scores['rows']:,}",
            *(f"{scores[key]:.2f}" for key in ("precision", "recall", "f1")),
        )
        for r in group.results
        for label, scores in (r.metric(f"{SPLIT}.labels") or {}).items()
    ]
    if not rows:
        return []
    header = ("run", "label", "rows", "precision, %", "recall, %", "F1, %")
    table = Table(header, tuple(rows), (False, False, True, True, True, True))
    return [Heading(3, f"Scores by label ({group.corpus})"), table]


def _present(group: Group, columns: Sequence[Column]) -> list[Column]:
    """Columns in which some run has a value; their keys start at the top of the metrics."""
    full = [(title, f"{SPLIT}.{key}", form) for title, key, form in columns]
    return [
        (title, key, form)
        for title, key, form in full
        if any(result.metric(key) is not None for result in group.results)
    ]


def _further_splits(group: Group) -> list[str]:
    """Splits other than test and valid that have the main score."""
    splits = {
        name: value
        for result in group.results
        for name, value in result.metrics.items()
        if isinstance(value, dict)
    }
    return sorted(
        name
        for name, value in splits.items()
        if name not in (SPLIT, "valid") and group.task.main in value
    )


def _paired_tests(group: Group) -> list[Block]:
    if not group.pairs:
        return []
    # Losses, which are better when lower, are in nats or bits: show more decimals.
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
    return [Heading(3, f"Paired tests ({group.corpus})"), Table(header, tuple(rows), numbers)]


def _settings(group: Group) -> list[Block]:
    """A table of the settings in which the runs differ, and a line of those that all share."""
    # The model, the training and the search of each run, under dotted keys.
    flat = {
        result.name: _flat({name: getattr(result.run, name) for name in _BLOCKS})
        for result in group.results
    }
    first, *others = flat.values()
    shared = {
        key: value
        for key, value in first.items()
        if all(key in settings and settings[key] == value for settings in others)
    }

    rows = []
    for result in group.results:
        differing = {key: value for key, value in flat[result.name].items() if key not in shared}
        rows.append(
            (
                f"`{result.name}`",
                result.run.family,
                str(result.run.seed),
                Verbatim(_listed(differing) or _NONE),
            )
        )
    header = ("run", "family", "seed", "settings that differ")
    table = Table(header, tuple(rows), (False, False, True, False))
    if not others or not shared:
        return [table]
    return [table, Paragraph(f"Settings that all runs share: `{_listed(shared)}`.")]


def _samples(group: Group, predictions: Path) -> list[Block]:
    """Output of each run for each sample sentence, with the book's BLEU if it has a reference."""
    outputs = {
        r.name: tables.read(predictions / r.name / "samples.parquet", tables.SAMPLES)
        for r in group.results
    }
    count = max(len(table) for table in outputs.values())

    rows: list[tuple[str, ...]] = []
    for number in range(count):
        for position, (name, table) in enumerate(outputs.items()):
            for sample in table.filter(pc.field("row") == number).to_pylist():
                reference = sample["reference"]
                # The prompt is written once, in the row of the best run.
                prompt = ("", "")
                if position == 0:
                    prompt = (Verbatim(sample["prompt"]), Verbatim(reference or _NONE))
                score = _NONE
                if group.task.book_bleu and reference is not None:
                    score = f"{_book_bleu(group, sample['text'], reference):.3f}"
                rows.append((*prompt, f"`{name}`", Verbatim(sample["text"]), score))
    if not rows:
        return []

    heading = Heading(3, f"Sample sentences ({group.corpus})")
    header = ("prompt", "reference", "run", "output", "book's BLEU")
    if any(row[-1] != _NONE for row in rows):
        table = Table(header, tuple(rows), (False, False, False, False, True))
        return [heading, table, Paragraph(_BOOK_BLEU)]

    # Leave out empty columns.
    has_references = any(row[1] not in ("", _NONE) for row in rows)
    filled = (0, 1, 2, 3) if has_references else (0, 2, 3)
    table = Table(
        tuple(header[i] for i in filled),
        tuple(tuple(row[i] for i in filled) for row in rows),
        (False,) * len(filled),
    )
    return [heading, table]


def _book_bleu(group: Group, output: str, reference: str) -> float:
    """The book's BLEU of an output, both texts normalized by the corpus's block `text`."""
    [pair] = mt_metrics.normalized_pairs(pa.array([output]), pa.array([reference]), group.text)
    return book_bleu(*pair)


def _figures(group: Group, figures: Sequence[Figure]) -> list[Block]:
    """Large figures, then the attention maps, which are small."""
    if not figures:
        return []
    blocks: list[Block] = [Heading(3, f"Figures ({group.corpus})")]
    blocks += [figure for figure in figures if not figure.small]
    maps = [figure for figure in figures if figure.small]
    return [*blocks, Paragraph(_ATTENTION), *maps] if maps else blocks


def _signatures(group: Group) -> list[Block]:
    """sacreBLEU's signatures, which are the same for every run."""
    scores = group.results[0].metric(SPLIT) or {}
    rows = tuple(
        (name, f"`{value['signature']}`")
        for name, value in scores.items()
        if isinstance(value, dict) and value.get("signature")
    )
    if not rows:
        return []
    return [
        Heading(3, f"Signatures ({group.corpus})"),
        Table(("score", "sacreBLEU's signature"), rows, (False, False)),
    ]


def _estimate(estimate: Any) -> str:
    """A score with its interval."""
    if not isinstance(estimate, dict):
        return _NONE
    return f"{estimate['score']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def _number(result: Result, key: str, form: str) -> str:
    """The metric `key`, with its interval if the metrics have one: `x.low` and `x.high` for
    `x.score`, else `<key>_low` and `<key>_high`."""
    name = key.removesuffix(".score")
    separator = "_" if name == key else "."
    value = result.metric(key)
    low, high = (result.metric(f"{name}{separator}{bound}") for bound in ("low", "high"))
    if value is None:
        return _NONE
    text = form.format(value)
    if low is None or high is None:
        return text
    return f"{text} [{form.format(low)}, {form.format(high)}]"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _flat(block: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in block.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _listed(flat: Mapping[str, Any]) -> str:
    """Settings by block, in a line: `model: layers 2, hidden 64; optim: name adam`."""
    grouped: dict[str, list[str]] = {}
    for key, value in flat.items():
        block, _, name = key.partition(".")
        grouped.setdefault(block, []).append(f"{name} {_yaml(value)}")
    return "; ".join(f"{block}: {', '.join(items)}" for block, items in grouped.items())


def _yaml(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool | list) else str(value)
