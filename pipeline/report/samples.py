"""Outputs of the settings for the sample inputs: a table in Markdown, and side by side on the
page."""

import difflib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.report.document import (
    NONE,
    Block,
    Heading,
    MarkdownOnly,
    PageOnly,
    Paragraph,
    Table,
    Verbatim,
)
from pipeline.report.results import Group
from pipeline.scoring import mt_metrics
from pipeline.scoring.d2l_bleu import d2l_bleu

_BOOK_BLEU = (
    "The book's BLEU scores single sentences with k = 2, on lowercased words (Dive into Deep "
    "Learning, 10.7.6)."
)
_WIDEST, _NARROWEST = 30, 8  # characters that a column of outputs has at least


@dataclass(frozen=True, slots=True)
class _Output:
    """The output of a setting's first run for a sample; `bleu` is None without a reference."""

    setting: str
    run: str
    prompt: str
    reference: str | None
    text: str
    bleu: float | None


def samples(group: Group, predictions: Path) -> list[Block]:
    """Output of each setting's first run for each sample, with the book's BLEU if it has a
    reference."""
    by_sample = _outputs(group, predictions)
    if not any(by_sample):
        return []

    has_references = any(output.reference for outputs in by_sample for output in outputs)
    has_bleu = any(output.bleu is not None for outputs in by_sample for output in outputs)
    blocks: list[Block] = [
        Heading(3, f"Sample sentences ({group.corpus})"),
        MarkdownOnly((_table(by_sample, has_references, has_bleu),)),
        PageOnly("\n".join(_side_by_side(outputs, group.task.d2l_bleu) for outputs in by_sample)),
    ]
    if has_bleu:
        blocks.append(Paragraph(_BOOK_BLEU))
    return blocks


def _outputs(group: Group, predictions: Path) -> list[list[_Output]]:
    """Outputs by sample, in order of rank."""
    tables_by_setting = {
        s.name: tables.read(predictions / s.first.name / "samples.parquet", tables.SAMPLES)
        for s in group.settings
    }
    runs = {setting.name: setting.first.name for setting in group.settings}
    count = max(len(table) for table in tables_by_setting.values())
    return [
        [
            _output(group, name, runs[name], sample)
            for name, table in tables_by_setting.items()
            for sample in table.filter(pc.field("row") == number).to_pylist()
        ]
        for number in range(count)
    ]


def _output(group: Group, setting: str, run: str, sample: Mapping[str, str]) -> _Output:
    reference, bleu = sample["reference"], None
    if group.text is not None and group.task.d2l_bleu and reference is not None:
        # Both texts are normalized by the corpus's block `text`.
        [pair] = mt_metrics.normalized_pairs(
            pa.array([sample["text"]]), pa.array([reference]), group.text
        )
        bleu = d2l_bleu(*pair)
    return _Output(setting, run, sample["prompt"], reference, sample["text"], bleu)


def _table(by_sample: Sequence[Sequence[_Output]], has_references: bool, has_bleu: bool) -> Table:
    rows = []
    for outputs in by_sample:
        for position, output in enumerate(outputs):
            # The prompt is written once, in the row of the best run.
            prompt = ("", "")
            if position == 0:
                prompt = (Verbatim(output.prompt), Verbatim(output.reference or NONE))
            score = NONE if output.bleu is None else f"{output.bleu:.3f}"
            rows.append((*prompt, f"`{output.run}`", Verbatim(output.text), score))

    # Leave out empty columns.
    header = ("prompt", "reference", "run", "output", "book's BLEU")
    shown = [0, *([1] if has_references else []), 2, 3, *([4] if has_bleu else [])]
    return Table(
        tuple(header[i] for i in shown),
        tuple(tuple(row[i] for i in shown) for row in rows),
        tuple(i == 4 for i in shown),
    )


def _side_by_side(outputs: Sequence[_Output], are_sentences: bool) -> str:
    """A sample of the page: the input, the reference, and the outputs next to each other. Parts of
    an output that the reference lacks are marked."""
    if not outputs:
        return ""
    first = outputs[0]
    width = max(len(text) for output in outputs for text in (output.text, output.setting))
    parts = [f"<h4>{html.escape(first.prompt) or NONE}</h4>"]
    if first.reference:
        parts.append(f'<p class="reference">reference: {html.escape(first.reference)}</p>')
    width = min(max(width, _NARROWEST), _WIDEST)
    parts.append(f'<dl class="answers" style="--least:{width}ch">')
    for output in outputs:
        score = "" if output.bleu is None else f" <small>{output.bleu:.3f}</small>"
        text = _marked(output.text, output.reference, are_sentences)
        parts.append(f"<div><dt>{html.escape(output.setting)}{score}</dt><dd>{text}</dd></div>")
    parts.append("</dl>")
    return "\n".join(parts)


def _marked(text: str, reference: str | None, are_sentences: bool) -> str:
    """Escaped text, in which words that the reference lacks at their place are marked."""
    if not text:
        return "<i>empty</i>"
    if not reference:
        return html.escape(text)
    if not are_sentences:
        return html.escape(text) if text == reference else f"<mark>{html.escape(text)}</mark>"

    words = list(re.finditer(r"\w+|[^\w\s]", text))
    wanted = re.findall(r"\w+|[^\w\s]", reference.lower())
    matcher = difflib.SequenceMatcher(None, [w[0].lower() for w in words], wanted, autojunk=False)
    marked, end = [], 0
    for tag, start, stop, _, _ in matcher.get_opcodes():
        if tag in ("equal", "insert"):
            continue
        first, last = words[start].start(), words[stop - 1].end()
        marked += [html.escape(text[end:first]), f"<mark>{html.escape(text[first:last])}</mark>"]
        end = last
    return "".join([*marked, html.escape(text[end:])])
