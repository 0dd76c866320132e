"""Links of the documents to files of the repository, as links to pages of the site."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s:#]*)(#[^)\s]*)?\)")
# Documents outside of docs/, and their pages.
PAGES = {
    "README.md": "index.md",
    "README.zh-CN.md": "chinese.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security_policy.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "reports/comparison.md": "comparison.md",
}
NOTEBOOKS = {"docs/tour.ipynb": "notebook.md"}


def page_of(path: str) -> str:
    """The page, relative to docs/, that shows a file of the repository."""
    if shown := {**PAGES, **NOTEBOOKS}.get(path):
        return shown
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}.md"


def rewrite(markdown: str, document: str, page: str) -> str:
    """`markdown` of the repository's file `document`, with links as seen from `page`."""

    def link(match: re.Match[str]) -> str:
        before, target, anchor = match[1], match[2], match[3] or ""
        if not target:
            return match[0]
        path = os.path.normpath(os.path.join(os.path.dirname(document), target))
        if not (ROOT / path).exists():
            return match[0]  # a page of the site, or an error that MkDocs reports
        if (ROOT / path).is_dir():
            return f"{before.lstrip('!')}{relative('source/tree.md', page)})"
        return f"{before}{relative(page_of(path), page)}{anchor})"

    return _LINK.sub(link, markdown)


def linked_files() -> set[str]:
    """Files of the repository that README, its neighbours and docs/ link to."""
    documents = [*PAGES, *(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))]
    files = set()
    for document in documents:
        text = (ROOT / document).read_text(encoding="utf-8")
        for match in _LINK.finditer(text):
            path = os.path.normpath(os.path.join(os.path.dirname(document), match[2]))
            if match[2] and (ROOT / path).is_file():
                files.add(path)
    return files


def relative(target: str, page: str) -> str:
    """`target`, a page of the site, as seen from `page`."""
    return os.path.relpath(target, os.path.dirname(page) or ".")
