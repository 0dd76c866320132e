"""Hooks of MkDocs."""

import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(DOCS))

from generator import links, tables  # noqa: E402


def on_config(config: Any) -> None:
    """Put the pages of the families into the navigation, in the order of families.md."""
    groups: dict[str, list[Any]] = {}
    for family in tables.families():
        groups.setdefault(family.group, []).append({family.name: f"family/{family.name}.md"})
    for section in config["nav"]:
        for pages in section.values():
            if {"Families": "families.md"} in pages:
                pages.extend({group: named} for group, named in groups.items())


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a document in docs/; generated pages have theirs already."""
    source = page.file.src_uri
    if not (DOCS / source).exists():
        return markdown
    return links.rewrite(markdown, f"docs/{source}", source)
