"""Matrices of shares as tables of the page: darker is larger, and numbers appear on hover."""

import html
from collections.abc import Sequence
from typing import Any

_STRONG = 73  # percent from which a cell needs the other colour of text, in both themes


def heat_table(
    caption: str,
    axes: tuple[str, str],
    rows: Sequence[str],
    columns: Sequence[str],
    shares: Any,
    numbers: bool = False,
) -> str:
    """A table with the percentages of `shares`, an array with a row for each of `rows`.

    `axes`: what the rows and the columns are. `numbers`: all are visible from the start."""
    head = "".join(f'<th scope="col"><span>{_visible(column)}</span></th>' for column in columns)
    body = "\n".join(
        f'<tr><th scope="row">{_visible(row)}</th>{"".join(_cell(float(share)) for share in line)}'
        "</tr>"
        for row, line in zip(rows, shares, strict=True)
    )
    corner = f"<td>{html.escape(axes[0])}&nbsp;↓ {html.escape(axes[1])}&nbsp;→</td>"
    kind = "heat numbers" if numbers else "heat"
    return (
        f'<table class="{kind}"><caption>{html.escape(caption)}</caption>\n'
        f"<thead><tr>{corner}{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    )


def _cell(share: float) -> str:
    percent = round(100 * min(share, 1.0))
    if percent == 0:
        return "<td></td>"
    strong = ' class="strong"' if percent >= _STRONG else ""
    return f'<td{strong} style="--w:{percent}"><span>{percent}</span></td>'


def _visible(word: str) -> str:
    """Escaped text of a word; nothing, or only spaces, has a sign."""
    return html.escape(word) if word.strip() else "␣"
