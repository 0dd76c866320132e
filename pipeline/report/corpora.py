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
# Titles of the columns, with their counts in the order in which a cell joins them.
_COLUMNS = {
    "rows": ("rows",),
    "tokens": ("tokens", "source_tokens", "target_tokens"),
    "characters": ("characters", "target_characters"),
    "duplicates": ("duplicates",),
    "also in train": ("rows_also_in_train",),
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
    with_labels = any("labels" in counts for of in splits_of.values() for counts in of.values())
    rows = []
    for name, splits in splits_of.items():
        for position, split in enumerate(_ordered(splits)):
            counts = splits[split]
            cells = [_cell(counts, keys) for keys in _COLUMNS.values()]
            rejected = f"{sum(counts.get('rejected', {}).values()):,}"
            labels = [_labels(counts.get("labels", {}))] if with_labels else []
            row = (f"`{name}`" if position == 0 else "", split, *cells, rejected, *labels)
            rows.append(row)

    labels = ["rows by label"] if with_labels else []
    header = ("corpus", "split", *_COLUMNS, "rejected", *labels)
    numbers = (False, False, *[True] * (len(_COLUMNS) + 1), *[False] * len(labels))
    warnings = [
        Paragraph(f"`{name}`: {warning}", warning=True)
        for name, splits in splits_of.items()
        for warning in _warnings(splits)
    ]
    return [
        Heading(2, TITLE),
        *warnings,
        Table(header, tuple(rows), numbers),
        Paragraph(
            "Tokens of pairs are those of the source and of the target, and their characters those "
            "of the target. Duplicates repeat an earlier row of the same split. Rejected rows are "
            "in no split: `rejects.parquet` of the tokenize stage has them with the reasons."
        ),
    ]


def _cell(counts: dict[str, Any], keys: tuple[str, ...]) -> str:
    """The counts that a split has; those of source and target are joined by an arrow."""
    return " → ".join(f"{counts[key]:,}" for key in keys if key in counts) or NONE


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
