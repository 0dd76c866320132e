"""The ledger of figures: `claims.yaml` names where each figure in README and docs comes from.

- `derived`, `table`: figures of the default DAG. They are compared with the cells of its report,
  `comparison.md`, and may differ by no more than another set of seeds would make them differ.
- `measured`, `section`: figures of a command that was run once. They are stale when the code that
  they depend on has changed since. A `section` names a part of a document by its heading, with a
  digest of its numbers. An altered digit is noticed; whether the digits are right is not checked.
- `quoted`: a section whose figures others published, or other claims hold. Only its digest is
  checked.

- `image`: a picture that is a figure of the report (`ledger_image.py`).

Every claim has its figures as they were written, so an edit of the document alone is noticed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.cli import ledger_document as markdown
from pipeline.cli.ledger_image import Figures, Image
from pipeline.cli.ledger_report import Report, column_name
from pipeline.core import config, git
from pipeline.core.errors import UserError, refuse

FILE = Path("claims.yaml")
# Every decimal figure of these is in a claim. docs/log.md is a dated record of experiments.
DOCUMENTS = (
    "README.md",
    "docs/results.md",
    "docs/book.md",
    "docs/architecture.md",
    "docs/reliability.md",
    "docs/deployment.md",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """`text` is a part of the file `file`, with each figure in braces. `keys` are cells of the
    report, one per figure: `SECTION > SETTING > COLUMN`."""

    name: Literal["derived"]
    file: str
    text: str
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The table after the text `caption` has the settings of the report's section `report`, and
    some of its columns. `figures` is a digest of its cells."""

    name: Literal["table"]
    file: str
    caption: str
    report: str
    figures: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Figures that `command` gave once, at `commit` on `date`; `code` are the paths that they
    depend on. `device` and `seeds` say with what."""

    name: Literal["measured"]
    file: str
    text: str
    command: str
    commit: str
    date: str
    device: str
    seeds: str
    code: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """All numbers of the section `section` that no other claim has in braces, in order; `figures`
    is their digest. `commit` is that of the oldest figure."""

    name: Literal["section"]
    file: str
    section: str
    figures: str
    command: str
    commit: str
    date: str
    device: str
    seeds: str
    code: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quoted:
    """The same for a section without measurements of its own; `source` says where the figures
    come from."""

    name: Literal["quoted"]
    file: str
    section: str
    figures: str
    source: str


Claim = Derived | Table | Measured | Section | Quoted | Image


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim that does not hold or is stale, or a figure without a claim."""

    place: str
    problem: str


def load(root: Path) -> list[Claim]:
    """Load the ledger of the project `root`; UserError for a damaged one."""
    entries = config.section(root / FILE, "claims")
    if not isinstance(entries, list):
        raise refuse("claims", entries, "a list of claims")
    kinds: tuple[type[Any], ...] = (Derived, Table, Measured, Section, Quoted, Image)
    claims = [config.load_named(kinds, entry, f"claims[{i}]") for i, entry in enumerate(entries)]
    for claim in claims:
        if isinstance(claim, Derived):
            _check_keys(claim)
    return claims


def read_document(root: Path, name: str) -> str:
    """The text of a document; UserError if there is none."""
    try:
        return (root / name).read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise refuse("claims.yaml: file", name, "a document of this project") from None


def wrong(root: Path, claims: list[Claim]) -> Iterator[Finding]:
    """Yield what is wrong with each claim, and each decimal figure that has no claim."""
    report = Report(root)
    pictures = Figures(root)
    documents = {claim.file: read_document(root, claim.file) for claim in claims}
    claimed = {name: claimed_spans(name, document, claims) for name, document in documents.items()}
    for claim in claims:
        document = documents[claim.file]
        place = f"{claim.file}: {title(claim)}"
        if isinstance(claim, Derived | Measured) and not markdown.figure_spans(
            document, claim.text
        ):
            said = markdown.without_braces(claim.text)
            yield Finding(place, f"{claim.file} does not say {said!r}")
        elif isinstance(claim, Derived):
            yield from (Finding(place, problem) for problem in _differences(claim, report))
        elif isinstance(claim, Table):
            yield from (Finding(place, text) for text in _table_problems(claim, document, report))
        elif isinstance(claim, Image):
            yield from (Finding(place, text) for text in pictures.problems(claim, document))
        elif isinstance(claim, Section | Quoted):
            problem = _section_problem(claim, document, claimed[claim.file])
            if problem:
                yield Finding(place, problem)

    for name in DOCUMENTS:
        if (root / name).exists():
            yield from _unclaimed(name, read_document(root, name), claims, claimed.get(name, []))


def stale(root: Path, claims: list[Claim]) -> Iterator[Finding]:
    """Yield the claims whose code has changed since, which is no error, with the reason."""
    measured = [claim for claim in claims if isinstance(claim, Measured | Section)]
    known = {
        commit: git.output(root, "cat-file", "-e", f"{commit}^{{commit}}") is not None
        for commit in {claim.commit for claim in measured}
    }
    for claim in measured:
        place = f"{claim.file}: {title(claim)}"
        if not known[claim.commit]:
            yield Finding(place, f"commit {claim.commit} is not in this clone")
            continue

        since = f"{claim.commit}..HEAD"
        log = git.text_output(root, "log", "--format=%h", since, "--", *claim.code)
        commits = len(log.split())
        if commits:
            changed = f"its code has changed in {commits} commits since {claim.commit}"
            yield Finding(place, f"{changed} ({claim.date})")


def title(claim: Claim) -> str:
    """The words that name a claim in a message."""
    match claim:
        case Section() | Quoted():
            return f"section {claim.section!r}"
        case Table():
            return f"table after {claim.caption!r}"
        case Derived() | Measured():
            return claim.text
        case Image():
            return f"image {claim.image!r}"


def count(claims: list[Claim]) -> str:
    """A summary of the ledger in words."""
    braced = [claim for claim in claims if isinstance(claim, Derived | Measured)]
    tables = sum(isinstance(claim, Table) for claim in claims)
    sections = sum(isinstance(claim, Section | Quoted) for claim in claims)
    numbers = sum(len(markdown.figures(claim.text)) for claim in braced)
    images = sum(isinstance(claim, Image) for claim in claims)
    return (
        f"{len(claims)} claims: {numbers} figures, {tables} tables, {sections} sections, "
        f"{images} images"
    )


def claimed_spans(name: str, document: str, claims: list[Claim]) -> list[markdown.Span]:
    """The places in the document `name` of all figures but those of sections."""
    spans: list[markdown.Span] = []
    for claim in claims:
        if claim.file != name:
            continue
        if isinstance(claim, Derived | Measured):
            for match in markdown.figure_spans(document, claim.text):
                spans.extend(match)
        elif isinstance(claim, Table):
            span = markdown.table_after(document, claim.caption)
            spans.extend([span] if span else [])
    return spans


def table_digest(document: str, span: markdown.Span) -> str:
    """Digest of the cells of a table."""
    lines = document[span[0] : span[1]].splitlines()
    return markdown.text_digest([cell for line in lines for cell in markdown.cells(line)])


def _check_keys(claim: Derived) -> None:
    written = markdown.figures(claim.text)
    if len(written) != len(claim.keys):
        raise UserError(
            f"claims.yaml: {claim.text!r}: got {len(written)} figures in braces and "
            f"{len(claim.keys)} keys; expected a key for each figure."
        )


def _differences(claim: Derived, report: Report) -> Iterator[str]:
    """Yield a sentence for each figure that is outside of its interval."""
    for figure, key in zip(markdown.figures(claim.text), claim.keys, strict=True):
        problem = report.cell(key).problem(figure)
        if problem:
            yield f"{claim.file} says {figure} for {key}; {problem}"


def _table_problems(claim: Table, document: str, report: Report) -> Iterator[str]:
    span = markdown.table_after(document, claim.caption)
    if span is None:
        yield f"{claim.file} has no table after {claim.caption!r}"
        return

    if table_digest(document, span) != claim.figures:
        yield (
            f"{claim.file}: the table after {claim.caption!r} was edited; "
            "`seqline claims --update` writes the report's figures"
        )
    header, _, *lines = document[span[0] : span[1]].splitlines()
    columns = [column_name(name) for name in markdown.cells(header)]
    rows = [dict(zip(columns, markdown.cells(line), strict=False)) for line in lines]
    settings = [row.get("setting", "").strip("`") for row in rows]
    if sorted(settings) != sorted(report.settings(claim.report)):
        expected = ", ".join(report.settings(claim.report))
        yield f"{claim.file}: {claim.report} has the settings {', '.join(settings)}, not {expected}"
        return

    for setting, row in zip(settings, rows, strict=True):
        for column in columns:
            if column != "setting":
                key = f"{claim.report} > {setting} > {column}"
                problem = report.cell(key).problem(row.get(column, ""))
                if problem:
                    yield f"{claim.file} says {row.get(column, '')} for {key}; {problem}"


def _section_problem(claim: Section | Quoted, document: str, claimed: list[markdown.Span]) -> str:
    places = markdown.section_spans(document, claim.section)
    if len(places) != 1:
        return f"{claim.file} has {len(places)} sections {claim.section!r}; expected one"
    if markdown.number_digest(document, places[0], claimed) == claim.figures:
        return ""
    return (
        f"{claim.file}: numbers of the section {claim.section!r} have changed; if they are right, "
        "run `seqline claims --record` with its heading"
    )


def _unclaimed(
    name: str, document: str, claims: list[Claim], claimed: list[markdown.Span]
) -> Iterator[Finding]:
    sections = [
        span
        for claim in claims
        if claim.file == name and isinstance(claim, Section | Quoted)
        for span in markdown.section_spans(document, claim.section)
    ]
    for line, figure in markdown.decimals(document, [*claimed, *sections]):
        place = f"{name}:{line}"
        yield Finding(place, f"{place}: {figure} has no claim; add one to claims.yaml")
