"""Texts of the params file that are cross-validated: corpora that are folds of one text."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import config, params


@dataclass(frozen=True, slots=True)
class FoldText:
    """A text in `folds` parts; each of the `corpora`, in their order, has another part as its test
    split."""

    folds: int
    corpora: tuple[str, ...]

    @property
    def name(self) -> str:
        """The text's name in the report, which no corpus can have."""
        return f"{self.corpora[0]} to {self.corpora[-1]}"


def fold_texts(file: Path) -> list[FoldText]:
    """The texts of the params file that are several corpora."""
    names_by_text: dict[str, list[str]] = {}
    folds: dict[str, int] = {}
    for name, block in config.blocks(file, "corpora").items():
        split = block.get("split")
        if isinstance(split, dict) and split.get("method") == "folds":
            # Folds of one text are equal but for the fold and the corpus of the vocabulary, which
            # is counted on each fold's own training text.
            vocab = block["vocab"] | {"corpus": None}
            key = json.dumps(
                block | {"split": split | {"fold": None}, "vocab": vocab}, sort_keys=True
            )
            names_by_text.setdefault(key, []).append(name)
            folds[key] = split["folds"]
    return [
        FoldText(folds[key], tuple(names)) for key, names in names_by_text.items() if len(names) > 1
    ]


def cross_validated(file: Path, runs: Iterable[params.Run]) -> dict[tuple[str, str], FoldText]:
    """The text of each task and corpus that is one of several folds with runs of the task.

    A text with runs on a single fold is not cross-validated: the fold is its test set."""
    with_runs = {(run.task, run.corpus) for run in runs}
    found: dict[tuple[str, str], FoldText] = {}
    for text in fold_texts(file):
        for task in sorted({task for task, _ in with_runs}):
            corpora = [corpus for corpus in text.corpora if (task, corpus) in with_runs]
            if len(corpora) > 1:
                found |= {(task, corpus): text for corpus in corpora}
    return found
