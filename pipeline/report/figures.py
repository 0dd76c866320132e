"""The charts and maps of a section of the page, each kind in a part that is folded away."""

import html
from pathlib import Path

import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.report import attention, confusion, curve_charts, curves, vectors
from pipeline.report.document import Details, PageOnly, Paragraph
from pipeline.report.page import chart, scrollable, side_by_side
from pipeline.report.results import Group, Result

_CONFUSION = (
    "Percent of the rows with a true label (rows) that get a predicted label (columns), over all "
    "seeds."
)
_ATTENTION = (
    "<p>Weights that an output word (rows) gives to the input words (columns), in percent: the "
    "mean over the heads of the last layer. Point at a row to see its numbers.</p>"
    '<p><label><input type="checkbox" class="all-numbers"> show all numbers</label></p>'
)


def details(group: Group, plots: Path, scores: Path, predictions: Path) -> list[Details]:
    """The parts that apply to the group."""
    parts = {
        "Learning curves": curve_charts.learning_curve_charts(group, plots),
        curves.length_title(group): curve_charts.by_length_charts(group, plots),
        "Word vectors": [
            figure
            for setting in group.settings
            for figure in _vectors(setting.first, scores, predictions)
        ],
    }
    shown = [
        Details(title, (side_by_side(content),)) for title, content in parts.items() if content
    ]
    matrices = [scrollable(table, "Confusion matrix") for table in confusion.tables(group)]
    if matrices:
        content = (Paragraph(_CONFUSION), side_by_side(matrices, packed=True))
        shown.append(Details("Confusion matrices", content))
    maps = _attention(group, predictions)
    if maps:
        shown.append(Details("Attention", (PageOnly(_ATTENTION + maps),)))
    return shown


def _attention(group: Group, predictions: Path) -> str:
    """The maps of all settings that have some, sample by sample."""
    weights = {
        setting.name: tables.read(path, tables.ATTENTION)
        for setting in group.settings
        if (path := predictions / setting.first.name / "attention.parquet").exists()
    }
    rows = sorted({row for table in weights.values() for row in table["row"].to_pylist()})
    parts = []
    for row in rows:
        shown = {name: t for name, t in weights.items() if row in t["row"].to_pylist()}
        means = [_map(attention.mean_map(table, row, name)) for name, table in shown.items()]
        parts += [f"<h4>Sample {row + 1}</h4>", side_by_side(means, packed=True).html]
        for name, table in shown.items():
            if heads := [_map(head) for head in attention.head_maps(table, row, name)]:
                summary = f"<summary>{len(heads)} heads of {html.escape(name)}</summary>"
                content = side_by_side(heads, packed=True).html
                parts.append(f'<details class="small">{summary}{content}</details>')
    return "\n".join(parts)


def _map(table: str) -> str:
    return scrollable(table, "Attention weights")


def _vectors(result: Result, scores: Path, predictions: Path) -> list[str]:
    path = predictions / result.name / "vectors.parquet"
    if not path.exists():
        return []
    classes = word_classes(scores / result.name / "test.parquet")
    text = "The plane in which its vectors differ most; words are coloured by class."
    svg = vectors.drawing(
        tables.read(path, tables.VECTORS),
        classes,
        f"vectors-{result.name}",
        f"Words of {result.name} in the plane in which their vectors differ most",
    )
    return [chart(svg, f"**{result.name}.** {text}")]


def word_classes(scores: Path) -> dict[str, str]:
    """The class of each word, from the benchmark `classes` of word vectors."""
    table = tables.read(scores, tables.SCORES_VECTORS).filter(pc.field("benchmark") == "classes")
    return dict(zip(table["item"].to_pylist(), table["section"].to_pylist(), strict=True))
