"""A document as a list of blocks, written out as Markdown and as one HTML page: what it says is
decided once."""

import base64
import html
import os
import re
from dataclasses import dataclass
from pathlib import Path


class Verbatim(str):
    """Text that came out of the data: shown as it is, whatever marks it holds. Other text may use
    `code` and **bold**."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Heading:
    """A title of some level."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text; `code` and **strong** may stand in it."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """`numbers` says which columns are aligned right; `first` rows are set off as the best."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[bool, ...]
    first: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture and what it shows."""

    file: Path
    text: str
    small: bool = False


_PIXELS = 96 / 160  # of a page by those of a figure, whose width stands in bytes 16 to 20 of a PNG

Block = Heading | Paragraph | Table | Figure


def markdown(blocks: list[Block], folder: Path) -> str:
    """The blocks as Markdown that is read in `folder`: figures are linked relative to it."""
    return "\n\n".join(_markdown(block, folder) for block in blocks) + "\n"


def _markdown(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_marked(block.text)}"
    if isinstance(block, Paragraph):
        return _marked(block.text)
    if isinstance(block, Figure):
        return f"![{_marked(block.text)}]({Path(os.path.relpath(block.file, folder)).as_posix()})"
    rule = ["---:" if number else "---" for number in block.numbers]
    rows = [[_cell(cell) for cell in row] for row in (block.header, *block.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def _cell(text: str) -> str:
    return _marked(text) if isinstance(text, Verbatim) else text.replace("|", "\\|")


def _marked(text: str) -> str:
    if isinstance(text, Verbatim):
        text = re.sub(r"[\\`*|<>&\[\]~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(text.split()))
    return text


def page(blocks: list[Block], title: str) -> str:
    """The blocks as one HTML page that needs nothing else: figures and style are inside."""
    parts = [_html(block) for block in blocks]
    links = [b for b in blocks if isinstance(b, Heading) and b.level == 2]
    menu = " ".join(f'<a href="#{_anchor(b.text)}">{_inline(b.text)}</a>' for b in links)
    where = next(
        (i for i, block in enumerate(blocks) if isinstance(block, Heading) and block.level == 2),
        len(parts),
    )
    body = "\n".join([*parts[:where], f"<nav>{menu}</nav>", *parts[where:]])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta '
        f'charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, '
        f'initial-scale=1">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f'<h{block.level} id="{_anchor(block.text)}">{_inline(block.text)}</h{block.level}>'
    if isinstance(block, Paragraph):
        return f"<p>{_inline(block.text)}</p>"
    if isinstance(block, Figure):
        content = block.file.read_bytes()
        image = base64.b64encode(content).decode("ascii")
        kind = ' class="small"' if block.small else ""
        text, width = (
            html.escape(block.text),
            round(int.from_bytes(content[16:20], "big") * _PIXELS),
        )
        caption = f"<figcaption>{text}</figcaption>" if block.small else ""
        return (
            f'<figure{kind}><img alt="{text}" width="{width}" '
            f'src="data:image/png;base64,{image}">{caption}</figure>'
        )
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


def _row(cells: tuple[str, ...], numbers: tuple[bool, ...], tag: str, kind: str) -> str:
    kinds = [' class="number"' if number else "" for number in numbers]
    made = "".join(
        f"<{tag}{k}>{_inline(cell)}</{tag}>" for cell, k in zip(cells, kinds, strict=True)
    )
    return f"<tr{kind}>{made}</tr>"


def _inline(text: str) -> str:
    safe = html.escape(text)
    if isinstance(text, Verbatim):
        return safe
    safe = re.sub(r"`([^`]*)`", r"<code>\1</code>", safe)
    return re.sub(r"\*\*([^*]*)\*\*", r"<strong>\1</strong>", safe)


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


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
