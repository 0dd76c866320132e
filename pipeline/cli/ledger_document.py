"""Markdown as the ledger reads it: texts with figures in braces, tables, sections and their
numbers."""

import hashlib
import re
from collections.abc import Iterator, Sequence

Span = tuple[int, int]  # of characters in a document

_FIGURE = re.compile(r"\{([^{}]*)\}")
_NUMBER = re.compile(r"[-+−]?\d+(?:[.,]\d+)*")
_HEADING = re.compile(r"^#+ +(.*?)\s*$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`|\]\([^()\s]*\)", re.MULTILINE | re.DOTALL)
_CELLS = re.compile(r"(?<!\\)\|")
# One decimal point, in a number that is no part of a name: not 127.0.0.1, not Apache-2.0.
_DECIMAL = re.compile(r"(?<![\w.,-])[-+−]?\d*(?:,\d{3})*\.\d+(?![\w]|\.\d)")
# A number after these is a place in a publication, a version, or a level that was set.
_NO_FIGURE = re.compile(
    r"(?:\b(?:sections?|equations?|d2l|YAML(?: 1\.1 and)?|DVC|CPython|p <|level of)\s+|"
    r"`python3` \()$",
    re.IGNORECASE,
)


def figures(text: str) -> list[str]:
    """Return the figures in braces, as they are written."""
    return _FIGURE.findall(text)


def with_figures(text: str, values: Sequence[str]) -> str:
    """Return `text` with other figures in its braces."""
    rest = iter(values)
    return _FIGURE.sub(lambda _: "{" + next(rest) + "}", text)


def without_braces(text: str) -> str:
    """Return `text` as the document has it."""
    return _FIGURE.sub(r"\1", text)


def figure_spans(document: str, text: str) -> list[list[Span]]:
    """Find `text` in the document, however its lines are broken.

    Returns the places of its figures, for each place where the text is."""
    parts = []
    for i, part in enumerate(_FIGURE.split(text)):
        pattern = "".join(
            r"\s+" if word.isspace() else re.escape(word) for word in re.split(r"(\s+)", part)
        )
        parts.append(f"({pattern})" if i % 2 else pattern)
    matches = re.finditer("".join(parts), document)
    return [[match.span(i + 1) for i in range(len(figures(text)))] for match in matches]


def replace_spans(document: str, values: Sequence[tuple[Span, str]]) -> str:
    """Return the document with other text in each place."""
    for (start, end), value in sorted(values, reverse=True):
        document = document[:start] + value + document[end:]
    return document


def section_spans(document: str, heading: str) -> list[Span]:
    """The sections with this heading, each up to the next heading of any level."""
    blanked = _blank(
        document, [match.span() for match in re.finditer(r"(?ms)^```.*?^```", document)]
    )
    headings = list(_HEADING.finditer(blanked))
    ends = [match.start() for match in headings[1:]] + [len(document)]
    return [
        (match.start(), end)
        for match, end in zip(headings, ends, strict=True)
        if document[match.start(1) : match.end(1)] == heading
    ]


def table_after(document: str, caption: str) -> Span | None:
    """The first table after the text `caption`, without its last line end."""
    place = document.find(caption)
    if place < 0:
        return None
    match = re.compile(r"(?:^\|.*\n?)+", re.MULTILINE).search(document, place)
    return (match.start(), match.end() - match[0].endswith("\n")) if match else None


def cells(line: str) -> list[str]:
    """The cells of a table's line."""
    return [cell.strip() for cell in _CELLS.split(line.strip().strip("|"))]


def number_digest(document: str, span: Span, left_out: Sequence[Span]) -> str:
    """Digest of the numbers in a part of the document, in order, but for those of `left_out`."""
    start, end = span
    return text_digest(_NUMBER.findall(_blank(document, left_out)[start:end]))


def text_digest(texts: Sequence[str]) -> str:
    """Digest of a list of texts, with a prefix: no YAML takes it for a number such as 60e12."""
    return "sha256:" + hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def decimals(document: str, left_out: Sequence[Span]) -> Iterator[tuple[int, str]]:
    """Yield line and text of each decimal number, but for those in code, addresses and `left_out`,
    and those that are no figures, such as the number of a section."""
    code = [match.span() for match in _CODE.finditer(document)]
    blanked = _blank(document, [*code, *left_out])
    for match in _DECIMAL.finditer(blanked):
        if not _NO_FIGURE.search(document[: match.start()][-40:]):
            yield document.count("\n", 0, match.start()) + 1, match[0]


def _blank(document: str, spans: Sequence[Span]) -> str:
    """The document with spaces in the places of `spans`."""
    for start, end in spans:
        document = document[:start] + re.sub(r"[^\n]", " ", document[start:end]) + document[end:]
    return document
