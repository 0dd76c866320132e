"""Statistics of the corpora, as the tokenize stage counts them, and warnings about their splits."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import read_json
from pipeline.report.document import NONE, Block, Heading, Paragraph, Table, Verbatim
from pipeline.report.results import Group

TITLE = "Corpora"
_ORDER = ("train", "valid", "test")  # further splits follow
_MANY_LABELS = 12  # labels whose rows are not listed one by one
_COLUMNS = {
    "rows": "rows",
    "tokens": "tokens",
    "source_tokens": "source tokens",
    "target_tokens": "target tokens",
    "characters": "characters",
    "target_characters": "target characters",
    "duplicates": "duplicates",
    "rows_also_in_train": "rows also in train",
    "sources_also_in_train": "sources also in train",
}


def section(groups: Sequence[Group], folder: Path) -> list[Block]:
    """A table of the splits of all corpora of the groups, after warnings about them; `folder` has
    the tokenize stage's `<corpus>.json`."""
    names = sorted({group.corpus for group in groups})
    todo = "Run `dvc repro`."
    splits_of = {
        name: read_json(folder / f"{name}.json", f"the counts of the corpus {name}", todo)["splits"]
        for name in names
    }
    keys = [
        key
        for key in _COLUMNS
        if any(key in counts for splits in splits_of.values() for counts in splits.values())
    ]
    with_labels = any(
        "labels" in split for splits in splits_of.values() for split in splits.values()
    )

    rows = []
    for name, splits in splits_of.items():
        for position, split in enumerate(_ordered(splits)):
            counts = splits[split]
            cells = [f"{counts[key]:,}" if key in counts else NONE for key in keys]
            rejected = f"{sum(counts.get('rejected', {}).values()):,}"
            labels = [_labels(counts.get("labels", {}))] if with_labels else []
            row = (f"`{name}`" if position == 0 else "", split, *cells, rejected, *labels)
            rows.append(row)
    header = ["corpus", "split", *(_COLUMNS[key] for key in keys), "rejected"]
    numbers = [False, False, *[True] * (len(keys) + 1)]
    if with_labels:
        header.append("rows by label")
        numbers.append(False)
    warnings = [
        Paragraph(f"`{name}`: {warning}", warning=True)
        for name, splits in splits_of.items()
        for warning in _warnings(splits)
    ]
    return [
        Heading(2, TITLE),
        *warnings,
        Table(tuple(header), tuple(rows), tuple(numbers)),
        Paragraph(
            "Duplicates are rows that an earlier row of the same split has as well. Rejected rows "
            "are in no split: `rejects.parquet` of the tokenize stage has them with the reasons."
        ),
    ]


def _ordered(splits: dict[str, Any]) -> list[str]:
    known = [name for name in _ORDER if name in splits]
    return known + sorted(splits.keys() - set(_ORDER))


def _labels(labels: dict[str, int]) -> str:
    if not labels:
        return NONE
    if len(labels) > _MANY_LABELS:
        least, most = min(labels.values()), max(labels.values())
        return f"{len(labels)} labels, {least:,} to {most:,} rows each"
    return Verbatim(", ".join(f"{label} {rows:,}" for label, rows in labels.items()))


def _warnings(splits: dict[str, Any]) -> Iterator[str]:
    """What a reader of scores on these splits should know."""
    for name in _ordered(splits):
        counts = splits[name]
        overlap = counts.get("rows_also_in_train", 0)
        if overlap:
            yield (
                f"{overlap:,} of {counts['rows']:,} {name} rows ({overlap / counts['rows']:.0%}) "
                "are in train as well. Their scores say less about new text."
            )
        if rejected := counts.get("rejected", {}):
            reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in rejected.items())
            share = sum(rejected.values()) / (counts["rows"] + sum(rejected.values()))
            yield f"{share:.1%} of the {name} rows were rejected ({reasons})."
