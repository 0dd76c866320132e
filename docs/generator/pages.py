"""Pages that MkDocs does not find in docs/: the root's documents, the notebook, the source with an
anchor for each line, a page for each family, and the table from the book's sections to files and
runs.

The plugin gen-files runs this file. Everything is derived from the code, docs/families.md and
reports/comparison.md."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import mkdocs_gen_files
import nbformat
from nbconvert import MarkdownExporter
from pygments import formatters, highlight, lexers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from generator import links, references
from generator.links import ROOT
from generator.references import Reference, text_of
from generator.sections import CHAPTERS, TITLES
from generator.tables import Family, families, ranking

_SOURCES = ("pipeline/", "stages/", "presets/", "benchmarks/")
_FILES = ("dvc.yaml", "params.yaml", "flow.yaml", "claims.yaml", "Makefile", "bootstrap.py")


def write(page: str, text: str) -> None:
    """Write a page of the site."""
    with mkdocs_gen_files.open(page, "w") as file:
        file.write(text)


def tracked() -> list[str]:
    """The repository's files."""
    output = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True)
    return output.splitlines()


def root_documents() -> None:
    """README and its neighbours, with their links as seen from the site."""
    for document, page in links.PAGES.items():
        text = (ROOT / document).read_text(encoding="utf-8")
        if document.startswith("reports/"):
            text = re.sub(r"!\[([^\]]*)\]\([^)]*\)", r"*\1 (in reports/index.html)*", text)
        write(page, links.rewrite(text, document, page))


def notebooks() -> None:
    """The notebooks, without outputs, as they are in git."""
    for document, page in links.NOTEBOOKS.items():
        notebook = nbformat.read(ROOT / document, as_version=4)
        text, _ = MarkdownExporter().from_notebook_node(notebook)
        file = links.relative(document.removeprefix("docs/"), page)
        text = links.rewrite(text, document, page)
        write(page, f"{text}\n## The file\n\n[{Path(document).name}]({file})\n")


def sources(linked: set[str]) -> None:
    """A page for each file of code, whose lines have the anchors that the tables link to."""
    shown = [
        path
        for path in tracked()
        if path in _FILES
        or (path in linked and path.startswith("tests/"))
        or (path.startswith(_SOURCES) and path.endswith((".py", ".yaml")))
    ]
    for path in shown:
        write(
            f"source/{path}.md",
            f"---\nsearch: {{exclude: true}}\nhide: [toc]\n---\n# {path}\n\n{_highlighted(path)}\n",
        )
    folders: dict[str, list[str]] = defaultdict(list)
    for path in shown:
        folders[str(Path(path).parent)].append(path)
    listing = "".join(
        f"\n## {folder}\n\n"
        + "".join(f"- [{Path(path).name}]({path}.md)\n" for path in sorted(paths))
        for folder, paths in sorted(folders.items())
    )
    write("source/tree.md", "# Source\n" + listing)


def _highlighted(path: str) -> str:
    """A file as HTML, with the anchor `line-N` at each line. The links are checked, which those to
    anchors of a Markdown code block cannot be."""
    text = (ROOT / path).read_text(encoding="utf-8")
    lexer = lexers.get_lexer_for_filename(path, stripnl=False)
    html = formatters.HtmlFormatter(linenos="inline", linespans="line", cssclass="highlight")
    return highlight(text, lexer, html)


def code_link(reference: Reference, page: str) -> str:
    """A link to the line of `reference`."""
    return (
        f"[`{reference.name}`]"
        f"({links.relative(f'source/{reference.file}.md', page)}#line-{reference.line})"
    )


def family_page(family: Family) -> None:
    """The page of one family: what it is, equations, curve, result, oracle, baseline."""
    page = f"family/{family.name}.md"
    in_book = references.of_family(ROOT, family.file)
    lines = [f"# {family.name}", ""]
    lines += [_docstring(family.file), ""]
    source = links.relative(f"source/pipeline/models/{family.name}.py.md", page)
    lines += [f"[The whole file]({source})", ""]
    lines += ["## Equations and their lines", ""]
    lines += ["| in the book | code | what it says |", "| --- | --- | --- |"]
    for reference in in_book:
        lines.append(
            f"| {reference.kind} {text_of(reference.number)} | {code_link(reference, page)} in "
            f"`{Path(reference.file).name}` | {_cell(reference.says)} |"
        )
    if not in_book:
        lines[-2:] = ["The book has no section on it. The file's first lines name the source."]
    lines += ["", "## Results", ""]
    results = list(ranking(family.name))
    for title, header, row in results:
        columns = header.count("|") - 1
        lines += [f"{title}, default DAG:", "", header, "|" + " --- |" * columns, row, ""]
        curve = _curve(title)
        if curve:
            lines += [f"![Learning curves: {title}]({links.relative(curve, page)})", ""]
    if not results:
        document = "book.md" if family.preset == "book" else "results.md"
        lines += [
            f"It is not in the default DAG. Its run `{family.run}` is in the preset "
            f"`{family.preset}`: `seqline use {family.preset}`. "
            f"[The preset's results]({links.relative(document, page)}).",
            "",
        ]
    oracle = links.relative(links.page_of(family.oracle), page)
    lines += ["## How it is checked", "", f"Oracle: [{family.how}]({oracle}).", ""]
    lines += [
        "It is a baseline itself: fitted without gradients."
        if family.baseline == "is one"
        else f"Baseline in the same table: {family.baseline}."
    ]
    write(page, "\n".join(lines) + "\n")


def _docstring(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.replace("<", "&lt;")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


_CURVES: dict[str, str] = {}


def _curve(title: str) -> str | None:
    """The page of the picture of a table's learning curves, if the report has been drawn here."""
    kinds = {
        "Language models": "language_model",
        "Blank fillers": "fill_blank",
        "Masked language models": "masked_language_model",
        "Translators": "translation",
        "Classifiers": "classification",
        "Word vectors": "word_vectors",
    }
    kind, _, corpus = title.partition(" on ")
    name = f"learning_curves_{kinds.get(kind)}_{corpus}.png"
    file = ROOT / "reports/figures" / name
    if not file.is_file():
        return None
    if name not in _CURVES:
        _CURVES[name] = f"family/{name}"
        with mkdocs_gen_files.open(_CURVES[name], "wb") as copy:
            copy.write(file.read_bytes())
    return _CURVES[name]


def family_pages(rows: list[Family]) -> None:
    """A page for each family, and their list for the navigation."""
    for family in rows:
        family_page(family)


def section_table(rows: list[Family]) -> None:
    """The page from the book's sections to files and runs."""
    users: dict[tuple[str, str], set[str]] = defaultdict(set)  # of a definition of a file
    for family in rows:
        for reference in references.of_family(ROOT, family.file):
            users[reference.file, reference.owner].add(family.name)
        for file in references.reached(ROOT, family.file):
            users[file.relative_to(ROOT).as_posix(), ""].add(family.name)
    by_section: dict[tuple[int, ...], list[Reference]] = defaultdict(list)
    for path in tracked():
        if path.startswith(("pipeline/", "stages/")) and path.endswith(".py"):
            for reference in references.find(ROOT, ROOT / path):
                by_section[reference.section].append(reference)
    runs = {family.name: family for family in rows}
    page = "sections.md"
    lines = [
        "# From the book's section to the code",
        "",
        "Chapters and sections are those of [Dive into Deep Learning](https://d2l.ai), version "
        "1.0. A run without a preset is of the default DAG: `dvc repro train@RUN`. Before a run of "
        "a preset, write `seqline use PRESET`.",
        "",
    ]
    chapter = 0
    for section in sorted(by_section):
        if section[0] != chapter:
            chapter = section[0]
            lines += ["", f"## {chapter} {CHAPTERS.get(chapter, '')}".rstrip(), ""]
            lines += ["| section | code | families with their runs |", "| --- | --- | --- |"]
        definitions: dict[tuple[str, str], Reference] = {}
        for reference in by_section[section]:
            definitions.setdefault((reference.file, reference.name), reference)
        code = ", ".join(
            f"{code_link(reference, page)} (`{reference.file.removeprefix('pipeline/')}`)"
            for reference in definitions.values()
        )
        names = sorted(
            {
                name
                for reference in definitions.values()
                for name in users[reference.file, reference.owner]
            }
        )
        named = "; ".join(
            f"[{name}](family/{name}.md) `{runs[name].run}`"
            + ("" if runs[name].preset == "default" else f" ({runs[name].preset})")
            for name in names[:6]
        ) + (f"; {len(names) - 6} more" if len(names) > 6 else "")
        lines.append(f"| {text_of(section)} {TITLES.get(section, '')} | {code} | {named or '–'} |")
    write(page, "\n".join(lines) + "\n")


def main() -> None:
    """Write all generated pages."""
    rows = families()
    root_documents()
    notebooks()
    family_pages(rows)
    section_table(rows)
    sources(links.linked_files())


main()
