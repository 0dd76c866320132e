"""`seqline claims --update`: figures and pictures of the default DAG in README and docs, as its
report has them.
`seqline claims --record`: digests of sections that were edited."""

from pathlib import Path
from typing import Any

import yaml

from pipeline.cli import ledger
from pipeline.cli import ledger_document as markdown
from pipeline.cli.ledger_image import Figures, Image, md5
from pipeline.cli.ledger_report import Report, column_name
from pipeline.core import config
from pipeline.core.atomic import write_file
from pipeline.core.errors import refuse


def update(root: Path) -> list[str]:
    """Rewrite the figures of derived claims, tables and images, in the documents and in the ledger.

    Returns a line for each claim that changed. Figures that were measured stay as they are. A claim
    whose text is not in its document is left out, and `ledger.wrong` reports it."""
    report = Report(root)
    claims = ledger.load(root)
    entries: list[dict[str, Any]] = config.section(root / ledger.FILE, "claims")
    documents = {claim.file: ledger.read_document(root, claim.file) for claim in claims}
    before = dict(documents)
    changes = []
    for claim, entry in zip(claims, entries, strict=True):
        document = documents[claim.file]
        if isinstance(claim, Image):
            changes += _image(root, claim, entry)
            continue
        if isinstance(claim, ledger.Derived):
            key = "text"
            documents[claim.file], entry[key] = _derived(claim, document, report)
        elif isinstance(claim, ledger.Table):
            key = "figures"
            documents[claim.file], entry[key] = _table(claim, document, report)
        else:
            continue
        if entry[key] != getattr(claim, key):
            changes.append(f"{claim.file}: {ledger.title(claim)} -> {entry[key]}")

    for name, document in documents.items():
        if document != before[name]:
            write_file(root / name, document.encode())
    if changes:
        _write_ledger(root / ledger.FILE, entries)
    return changes


def record(root: Path, headings: list[str]) -> None:
    """Enter the digests of the sections with these headings as they are now; UserError for a
    heading without a claim, or one that the document does not have once."""
    claims = ledger.load(root)
    entries: list[dict[str, Any]] = config.section(root / ledger.FILE, "claims")
    sections = [
        (claim, entry)
        for claim, entry in zip(claims, entries, strict=True)
        if isinstance(claim, ledger.Section | ledger.Quoted)
    ]
    for heading in headings:
        named = [pair for pair in sections if pair[0].section == heading]
        if not named:
            known = ", ".join(claim.section for claim, _ in sections)
            raise refuse("--record", heading, f"one of {known}", "Add a claim to claims.yaml.")
        for claim, entry in named:
            document = ledger.read_document(root, claim.file)
            places = markdown.section_spans(document, heading)
            if len(places) != 1:
                raise refuse("--record", heading, f"one such section in {claim.file}")
            claimed = ledger.claimed_spans(claim.file, document, claims)
            entry["figures"] = markdown.number_digest(document, places[0], claimed)
    _write_ledger(root / ledger.FILE, entries)


def _derived(claim: ledger.Derived, document: str, report: Report) -> tuple[str, str]:
    """The document and the claim's text with the report's figures."""
    places = markdown.figure_spans(document, claim.text)
    if not places:
        return document, claim.text
    written = markdown.figures(claim.text)
    values = [
        report.cell(key).like(figure) for key, figure in zip(claim.keys, written, strict=True)
    ]
    replaced = [pair for spans in places for pair in zip(spans, values, strict=True)]
    return (
        markdown.replace_spans(document, replaced),
        markdown.with_figures(claim.text, values),
    )


def _table(claim: ledger.Table, document: str, report: Report) -> tuple[str, str]:
    """The document with the report's rows, and the digest of the table."""
    span = markdown.table_after(document, claim.caption)
    if span is None:
        return document, claim.figures

    header, alignment, *_ = document[span[0] : span[1]].splitlines()
    columns = [column_name(name) for name in markdown.cells(header)]
    rows = []
    for setting in report.settings(claim.report):
        row = [
            f"`{setting}`"
            if column == "setting"
            else report.cell(f"{claim.report} > {setting} > {column}").text
            for column in columns
        ]
        rows.append(f"| {' | '.join(row)} |")
    table = "\n".join([header, alignment, *rows])
    document = markdown.replace_spans(document, [(span, table)])
    return document, ledger.table_digest(document, (span[0], span[0] + len(table)))


def _image(root: Path, claim: Image, entry: dict[str, Any]) -> list[str]:
    """Copy the report's figure over the picture; return a line if the claim changed. A figure that
    is not on this machine leaves all as it is."""
    figures = Figures(root)
    content = figures.content(claim)
    if content is None:
        return []

    picture = root / claim.image
    write_file(picture, content)
    before = dict(entry)
    entry |= {"md5": md5(picture), "folder": figures.locked()}
    return [] if entry == before else [f"{claim.file}: {ledger.title(claim)} -> {entry['md5']}"]


def _write_ledger(path: Path, entries: list[dict[str, Any]]) -> None:
    """Write the ledger below the comment with which it begins."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    content = yaml.safe_dump({"claims": entries}, sort_keys=False, allow_unicode=True, width=100)
    write_file(path, "\n".join([*lines[:end], content]).encode())
