"""`docs/families.md`: every family has an oracle, a run and a baseline."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.core import git

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(
    r"^\| \[`(?P<family>\w+)`\]\((?P<file>\S+)\) \| \[.+\]\((?P<oracle>\S+)\) "
    r"\| `(?P<run>\S+)`, (?P<preset>\w+) \| (?P<baseline>is one|`\w+`) \|$",
    re.MULTILINE,
)
TABLE = (ROOT / "docs/families.md").read_text(encoding="utf-8")
ROWS = [match.groupdict() for match in ROW.finditer(TABLE)]
# A family of the user's own needs no row before it is committed.
COMMITTED = git.text_output(ROOT, "ls-tree", "--name-only", "HEAD", "pipeline/models/").split()
FAMILIES = {Path(file).stem for file in COMMITTED} - {"__init__"}

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row["family"])


@cache
def preset(name: str) -> dict[str, Any]:
    file = "params.yaml" if name == "default" else f"presets/{name}.yaml"
    content: dict[str, Any] = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
    return content


def test_each_family_has_one_row() -> None:
    assert sorted(row["family"] for row in ROWS) == sorted(FAMILIES)
    assert TABLE.count("\n| [`") == len(ROWS)


@each_row
def test_oracle_is_a_test_that_names_the_family(row: dict[str, str]) -> None:
    assert (ROOT / "docs" / row["file"]).resolve() == ROOT / f"pipeline/models/{row['family']}.py"
    oracle = (ROOT / "docs" / row["oracle"]).read_text(encoding="utf-8")
    assert re.search(rf"\b{row['family']}\b", oracle)


@each_row
def test_run_is_of_the_family_and_its_baseline_reads_the_same_corpus(row: dict[str, str]) -> None:
    content = preset(row["preset"])
    run = content["runs"][row["run"]]
    assert run["family"] == row["family"]

    settings = content["settings"]
    if row["baseline"] == "is one":
        assert settings[run["setting"]]["optim"] is None
        return
    baselines = [
        other
        for other in content["runs"].values()
        if other["setting"] == row["baseline"].strip("`")
        and (other["task"], other["corpus"]) == (run["task"], run["corpus"])
    ]
    assert baselines
    assert settings[baselines[0]["setting"]]["optim"] is None
