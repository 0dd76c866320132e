"""A document as a list of blocks. It is rendered as Markdown here, and as one HTML page in
`page`."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

NONE = "–"  # in a cell without a value


class Verbatim(str):
    """Text from the data, whose markup is escaped. Other text may use `code` and **bold**."""

    __slots__ = ()


class Link(str):
    """The text of a heading, to which the page links."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Heading:
    """A title; level 1 is the highest."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text, which may contain `code` and **bold**; a `warning` stands out."""

    text: str
    warning: bool = False


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
    """A PNG file with its description, to which Markdown links; the page draws its own figures.
    `is_map`: it shows attention weights, as many other figures do."""

    file: Path
    text: str
    is_map: bool = False


@dataclass(frozen=True, slots=True)
class MarkdownOnly:
    """Blocks that the page shows in another form."""

    blocks: "tuple[Block, ...]"


@dataclass(frozen=True, slots=True)
class PageOnly:
    """A part of the page, as HTML, that Markdown lacks or shows in another form."""

    html: str


@dataclass(frozen=True, slots=True)
class Details:
    """A part of a section, which the page folds away under its title. `heading` is its heading in
    Markdown, which has none if it is ""."""

    title: str
    blocks: "tuple[Block, ...]"
    heading: str = ""


def fold(blocks: "list[Block]") -> "list[Block]":
    """Fold blocks away that begin with their heading of level 3; it may end with the name of the
    corpus, which the title on the page lacks."""
    if not blocks:
        return []
    heading, *content = blocks
    assert isinstance(heading, Heading)
    title = re.sub(r" \([^()]*\)$", "", heading.text)
    return [Details(title, tuple(content), heading.text)]


Block = Heading | Paragraph | Table | Figure | MarkdownOnly | PageOnly | Details


def markdown(blocks: list[Block], folder: Path) -> str:
    """Render the blocks as Markdown for a file in `folder`; links to figures are relative to it."""
    return _joined(blocks, folder) + "\n"


def _joined(blocks: "list[Block] | tuple[Block, ...]", folder: Path) -> str:
    return "\n\n".join(filter(None, (_markdown(block, folder) for block in blocks)))


def _markdown(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_marked(block.text)}"
    if isinstance(block, Paragraph):
        return _marked(block.text)
    if isinstance(block, Figure):
        return f"![{_marked(block.text)}]({Path(os.path.relpath(block.file, folder)).as_posix()})"
    if isinstance(block, PageOnly):
        return ""
    if isinstance(block, MarkdownOnly):
        return _joined(block.blocks, folder)
    if isinstance(block, Details):
        content = _joined(block.blocks, folder)
        return f"### {block.heading}\n\n{content}" if block.heading and content else content

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
