"""A document as one HTML page, which needs no other file and no script."""

import html
import itertools
import re
from collections.abc import Sequence

from pipeline.report.document import (
    Block,
    Details,
    Figure,
    Heading,
    Link,
    MarkdownOnly,
    PageOnly,
    Paragraph,
    Table,
    Verbatim,
)
from pipeline.report.page_style import STYLE


def render(blocks: Sequence[Block], title: str) -> str:
    """Render the blocks as one self-contained page, with figures and style inside.

    Blocks before the first heading of level 2 are the introduction; the menu follows the title."""
    anchors = _anchors(blocks)
    links = {block.text: anchors[i] for i, block in enumerate(blocks) if isinstance(block, Heading)}
    parts = [_html(block, anchors.get(i, ""), links) for i, block in enumerate(blocks)]
    sections = [
        (i, block)
        for i, block in enumerate(blocks)
        if isinstance(block, Heading) and block.level == 2
    ]
    starts = [i for i, _ in sections]
    introduction = "\n".join(parts[: starts[0] if starts else len(parts)])
    body = "\n".join(
        f"<section>\n{_joined(parts[start:end])}\n</section>"
        for start, end in itertools.pairwise([*starts, len(parts)])
    )
    menu = "\n".join(f'<a href="#{anchors[i]}">{_inline(b.text)}</a>' for i, b in sections)

    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{introduction}\n"
        f'<nav aria-label="Sections">\n{menu}\n</nav>\n{body}\n</main>\n</body>\n</html>\n'
    )


def _joined(parts: Sequence[str]) -> str:
    return "\n".join(filter(None, parts))


def _html(block: Block, anchor: str, links: dict[str, str]) -> str:
    if isinstance(block, Heading):
        return f'<h{block.level} id="{anchor}">{_inline(block.text)}</h{block.level}>'
    if isinstance(block, Paragraph):
        attribute = ' class="warning"' if block.warning else ""
        return f"<p{attribute}>{_inline(block.text)}</p>"
    if isinstance(block, Figure | MarkdownOnly):
        return ""
    if isinstance(block, PageOnly):
        return block.html
    if isinstance(block, Details):
        content = _joined([_html(inner, "", links) for inner in block.blocks])
        summary = f"<summary><h3>{_inline(block.title)}</h3></summary>"
        return f"<details>{summary}\n{content}\n</details>" if content else ""
    return _table(block, links)


def _table(table: Table, links: dict[str, str]) -> str:
    head = _row(table.header, table.numbers, "th", "", links)
    rows = [
        _row(row, table.numbers, "td", ' class="best"' if i < table.first else "", links)
        for i, row in enumerate(table.rows)
    ]
    return scrollable(
        f"<table>\n<thead>{head}</thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>\n</table>",
        "Table of " + ", ".join(filter(None, table.header[:3])),
    )


def scrollable(content: str, label: str) -> str:
    """A part that may be wider than the screen, which the keyboard can scroll as well."""
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{html.escape(label)}">'
        f"{content}</div>"
    )


def chart(svg: str, caption: str) -> str:
    """A drawing with its caption, which may use `code` and **bold**."""
    return f"<figure>{svg}<figcaption>{_inline(caption)}</figcaption></figure>"


def side_by_side(parts: Sequence[str], packed: bool = False) -> PageOnly:
    """Parts of a page, next to each other where the screen is wide enough: in columns, or `packed`
    as closely as their widths allow."""
    return PageOnly(f'<div class="{"packed" if packed else "parts"}">\n{_joined(parts)}\n</div>')


def _row(
    cells: tuple[str, ...],
    numbers: tuple[bool, ...],
    tag: str,
    attribute: str,
    links: dict[str, str],
) -> str:
    tags = tag if tag == "td" else 'th scope="col"'
    cell_attributes = [' class="number"' if number else "" for number in numbers]
    content = "".join(
        f"<{tags}{cell_attribute}>{_unbroken(_inline(cell, links))}</{tag}>"
        for cell, cell_attribute in zip(cells, cell_attributes, strict=True)
    )
    return f"<tr{attribute}>{content}</tr>"


def _unbroken(text: str) -> str:
    """The text with no line break within a mean and its deviation, or within an interval."""
    return re.sub(r" (±|to) (?=[-+\d])|(?<=\d), (?=[-+\d.%]+\])", _hard_spaces, text)


def _hard_spaces(match: re.Match[str]) -> str:
    return match[0].replace(" ", "&nbsp;")


def _inline(text: str, links: dict[str, str] | None = None) -> str:
    """HTML of a text with `code` and **bold**; escape first, so that tags come only from these."""
    escaped = html.escape(text)
    if isinstance(text, Verbatim):
        return escaped
    if isinstance(text, Link):
        return f'<a href="#{(links or {})[text]}">{escaped}</a>'
    with_code = re.sub(r"`([^`]*)`", _code, escaped)
    return re.sub(r"\*\*([^*]*)\*\*", r"<strong>\1</strong>", with_code)


def _code(match: re.Match[str]) -> str:
    """A name, which a narrow screen may break after an underscore."""
    return f"<code>{match[1].replace('_', '_<wbr>')}</code>"


def _anchors(blocks: Sequence[Block]) -> dict[int, str]:
    """Return a different id for each heading, by its index: that of its text, with a number if an
    earlier heading has it."""
    anchors: dict[int, str] = {}
    for i, block in enumerate(blocks):
        if isinstance(block, Heading):
            text = re.sub(r"[^a-z0-9]+", "-", block.text.lower()).strip("-") or "section"
            numbered = (f"{text}-{number}" for number in itertools.count(2))
            names = itertools.chain([text], numbered)
            anchors[i] = next(name for name in names if name not in anchors.values())
    return anchors
