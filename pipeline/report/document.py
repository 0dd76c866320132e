"""A document as a list of blocks, which is rendered as Markdown and as one HTML page."""

import base64
import html
import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path

NONE = "–"  # in a cell without a value


class Verbatim(str):
    """Text from the data, whose markup is escaped. Other text may use `code` and **bold**."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Heading:
    """A title; level 1 is the highest."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text, which may contain `code` and **bold**."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `numbers`: the columns that are aligned right. `first`: number of rows at the top
    that are highlighted as the best."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[bool, ...]
    first: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A PNG file with its description; a `small` figure has a caption."""

    file: Path
    text: str
    small: bool = False


_SCALE = 96 / 160  # CSS pixels per inch over the figures' dots per inch

Block = Heading | Paragraph | Table | Figure


def markdown(blocks: list[Block], folder: Path) -> str:
    """Render the blocks as Markdown for a file in `folder`; links to figures are relative to it."""
    return "\n\n".join(_markdown(block, folder) for block in blocks) + "\n"


def _markdown(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_marked(block.text)}"
    if isinstance(block, Paragraph):
        return _marked(block.text)
    if isinstance(block, Figure):
        return f"![{_marked(block.text)}]({Path(os.path.relpath(block.file, folder)).as_posix()})"

    rule = ["---:" if number else "---" for number in block.numbers]
    header, *rows = [[_cell(cell) for cell in row] for row in (block.header, *block.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def _cell(text: str) -> str:
    return _marked(text) if isinstance(text, Verbatim) else text.replace("|", "\\|")


def _marked(text: str) -> str:
    """Escape the Markdown in text from the data; underscores inside a word have no meaning."""
    if isinstance(text, Verbatim):
        text = re.sub(r"[\\`*|<>&\[\]~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(text.split()))
    return text


def page(blocks: list[Block], title: str) -> str:
    """Render the blocks as one self-contained HTML page, with figures and style inside."""
    anchors = _anchors(blocks)
    parts = [_html(block, anchors.get(i, "")) for i, block in enumerate(blocks)]

    # The menu links to the sections and stands before the first one.
    sections = [
        (i, block)
        for i, block in enumerate(blocks)
        if isinstance(block, Heading) and block.level == 2
    ]
    menu = " ".join(f'<a href="#{anchors[i]}">{_inline(b.text)}</a>' for i, b in sections)
    first = sections[0][0] if sections else len(parts)
    body = "\n".join([*parts[:first], f"<nav>{menu}</nav>", *parts[first:]])

    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta '
        f'charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, '
        f'initial-scale=1">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _html(block: Block, anchor: str) -> str:
    if isinstance(block, Heading):
        return f'<h{block.level} id="{anchor}">{_inline(block.text)}</h{block.level}>'
    if isinstance(block, Paragraph):
        return f"<p>{_inline(block.text)}</p>"
    if isinstance(block, Figure):
        return _html_figure(block)

    head = _row(block.header, block.numbers, "th", "")
    rows = [
        _row(row, block.numbers, "td", ' class="best"' if i < block.first else "")
        for i, row in enumerate(block.rows)
    ]
    return (
        f'<div class="wide"><table>\n<thead>{head}</thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody>\n</table></div>"
    )


def _html_figure(figure: Figure) -> str:
    content = figure.file.read_bytes()
    image = base64.b64encode(content).decode("ascii")
    width = int.from_bytes(content[16:20], "big")  # in the PNG's header (IHDR)
    text = html.escape(figure.text)
    attribute = ' class="small"' if figure.small else ""
    caption = f"<figcaption>{text}</figcaption>" if figure.small else ""
    return (
        f'<figure{attribute}><img alt="{text}" width="{round(width * _SCALE)}" '
        f'src="data:image/png;base64,{image}">{caption}</figure>'
    )


def _row(cells: tuple[str, ...], numbers: tuple[bool, ...], tag: str, attribute: str) -> str:
    cell_attributes = [' class="number"' if number else "" for number in numbers]
    content = "".join(
        f"<{tag}{cell_attribute}>{_inline(cell)}</{tag}>"
        for cell, cell_attribute in zip(cells, cell_attributes, strict=True)
    )
    return f"<tr{attribute}>{content}</tr>"


def _inline(text: str) -> str:
    """HTML of a text with `code` and **bold**; escape first, so that tags come only from these."""
    escaped = html.escape(text)
    if isinstance(text, Verbatim):
        return escaped
    with_code = re.sub(r"`([^`]*)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]*)\*\*", r"<strong>\1</strong>", with_code)


def _anchors(blocks: list[Block]) -> dict[int, str]:
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


_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #22262b;
  font: 16px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
p { max-width: 46rem; }
h1 { font-size: 1.9rem; margin: 0 0 .6rem; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; margin: 3.2rem 0 .6rem; padding-top: 1rem; border-top: 1px solid #d9dde2; }
h3 { font-size: 1.02rem; margin: 2rem 0 .5rem; }
nav { display: flex; flex-wrap: wrap; gap: .4rem 1.4rem; margin: 1.2rem 0 0; }
a { color: #1f5f99; text-decoration: none; } a:hover { text-decoration: underline; }
code { font: .86em/1.4 ui-monospace, "DejaVu Sans Mono", monospace;
  background: #f3f5f7; padding: .08em .3em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0 1.2rem; font-size: .9rem; }
th, td { padding: .38rem .8rem .38rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #e8ebee; }
th { font-weight: 600; color: #5b646e; border-bottom-color: #b9c0c8; vertical-align: bottom; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.best td { background: #f4f8f4; }
figure { margin: 1rem 0 1.5rem; }
figure.small { display: inline-block; margin: 0 1.5rem 1rem 0; vertical-align: top; }
img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .8rem; color: #6b747d; margin-top: .2rem; }
""".strip()
