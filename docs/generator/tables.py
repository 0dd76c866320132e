"""The tables that the pages are made from: docs/families.md and reports/comparison.md."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from generator.links import ROOT

_ROW = re.compile(
    r"^\| \[`(?P<family>\w+)`\]\(\S+\) \| \[(?P<how>.+)\]\((?P<oracle>\S+)\) "
    r"\| `(?P<run>\S+)`, (?P<preset>\w+) \| (?P<baseline>.+) \|$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Family:
    """A row of docs/families.md."""

    name: str
    group: str
    how: str
    oracle: str
    run: str
    preset: str
    baseline: str

    @property
    def file(self) -> Path:
        return ROOT / "pipeline/models" / f"{self.name}.py"


def families() -> list[Family]:
    """The families, in the order of docs/families.md."""
    rows: list[Family] = []
    group = ""
    for line in (ROOT / "docs/families.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            group = line[3:]
        elif match := _ROW.match(line):
            oracle = match["oracle"].removeprefix("../")
            rows.append(
                Family(
                    match["family"],
                    group,
                    match["how"],
                    oracle,
                    match["run"],
                    match["preset"],
                    match["baseline"],
                )
            )
    return rows


def ranking(family: str) -> Iterator[tuple[str, str, str]]:
    """(title of the table, header, row) of the family's settings in the committed report."""
    title = header = ""
    for line in (ROOT / "reports/comparison.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            title = line[3:]
        elif line.startswith("### "):
            title = ""
        elif line.startswith("|  | setting | family"):
            header = line
        elif title and re.match(rf"\| \d+ \| `\w+` \| {family} \|", line):
            yield title, header, line
