"""docs/reliability.md names tests that exist."""

import re

from conftest import ROOT


def test_every_test_that_the_table_names_exists() -> None:
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    rows = [
        line for line in text[text.index("## The table") :].splitlines() if line.startswith("| ")
    ][1:]
    assert len(rows) > 100
    for row in rows:
        named = re.findall(
            r"`(test_\w+\.py)(?:::(test_\w+))?`", row.strip("| ").rpartition(" | ")[2]
        )
        assert named, f"no test in {row}"
        for file, test in named:
            [path] = (ROOT / "tests").rglob(file)
            source = path.read_text(encoding="utf-8")
            assert not test or re.search(rf"^\s*def {test}\(", source, re.MULTILINE), (
                f"{file} has no {test}"
            )
