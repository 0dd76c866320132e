"""Looks at test sets, counted in a file that git tracks: a line for each trained model whose test
score was computed.

Choosing among models by their test scores makes the best one look better than it is, the more of
them there are. So the count belongs next to the scores.

The same runs give the same bytes: no line has a date or facts about a machine. Lines are sorted,
and in any order when read, so that a merge may keep the lines of both sides."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import describe_error, refuse
from pipeline.report.document import Paragraph
from pipeline.report.results import TEST, VALID, Group, Result

_MODEL = re.compile(r"[0-9a-f]{16}", re.ASCII)
_EXPECTED = "what the report stage writes"
_TODO = "Restore the file from git."


class Look(NamedTuple):
    """A trained model that was scored on a split of a corpus.

    `model` is a digest of its weights and its search: with another search it has another score, so
    that this is another look."""

    corpus: str
    split: str
    task: str
    setting: str
    run: str
    model: str


def read(path: Path) -> set[Look]:
    """Read the file; no looks if it is absent. UserError, with the line, if it is malformed."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return set()
    except (OSError, UnicodeDecodeError) as error:
        raise refuse(str(path), describe_error(error), _EXPECTED, _TODO) from None

    lines = text.splitlines()
    header = ",".join(Look._fields)
    if not lines or lines[0] != header:
        got = repr(lines[0][:60]) if lines else "an empty file"
        raise refuse(f"{path}: line 1", got, f"the header {header}", _TODO)
    return {_parse(line, f"{path}: line {number}") for number, line in enumerate(lines[1:], 2)}


def _parse(line: str, where: str) -> Look:
    try:
        [cells] = csv.reader([line], strict=True)
    except (ValueError, csv.Error):
        cells = []
    is_complete = len(cells) == len(Look._fields) and all(cells)
    if not is_complete or not _MODEL.fullmatch(cells[-1]):
        raise refuse(where, repr(line[:60]), ",".join(Look._fields), _TODO)
    return Look(*cells)


def to_csv(looks: Collection[Look]) -> str:
    """The file's text: a header, then the looks in order."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Look._fields)
    writer.writerows(sorted(looks))
    return text.getvalue()


def of_groups(groups: Iterable[Group]) -> set[Look]:
    """The looks at the splits on which the groups' runs are scored, other than valid; none for
    groups that are ranked by validation scores."""
    return {
        Look(group.corpus, split, result.run.task, result.run.setting, result.name, _model(result))
        for group in groups
        if group.split == TEST
        for result in group.results
        for split in result.scored_splits(group.task.main)
        if split != VALID
    }


def _model(result: Result) -> str:
    parts = [result.metrics.get("weights"), result.run.search]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def count(group: Group, looks: Collection[Look], path: Path) -> Paragraph:
    """The number of models and settings of the group's task that were scored on its test set."""
    task = group.settings[0].first.run.task
    same = {
        look for look in looks if (look.corpus, look.split, look.task) == (group.corpus, TEST, task)
    }
    models = len({look.model for look in same})
    settings = len({look.setting for look in same})
    return Paragraph(
        f"Looks at this test set so far: {models:,} trained model{'s' * (models != 1)} of "
        f"{settings:,} setting{'s' * (settings != 1)} (`{path}`). A model that is scored again "
        "with another search counts again."
    )
