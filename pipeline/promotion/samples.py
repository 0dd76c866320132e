"""Outputs of champion and challenger for the same prompts, side by side, for readers of the
decision."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.promotion.decision import SamplePair
from pipeline.promotion.guards import ScorePair
from pipeline.promotion.retokenize import TEST
from pipeline.scoring.tasks import Scoring

# rows of the test set in which the challenger gained most, and as many in which it lost most
_EACH_WAY = 3


def sample_pairs(champion: Path, challenger: Path) -> tuple[SamplePair, ...]:
    """The corpus's sample sentences, from the two folders of predictions; those that both were
    asked."""
    first, second = (_by_prompt(folder / "samples.parquet") for folder in (champion, challenger))
    return tuple(
        SamplePair(
            about="sample",
            prompt=prompt,
            reference=row["reference"],
            champion=row["text"],
            challenger=second[prompt]["text"],
        )
        for prompt, row in first.items()
        if prompt in second
    )


def largest_changes(
    task: str,
    scoring: Scoring,
    both: ScorePair,
    tokens: Path,
    name: str,
    champion: Path,
    challenger: Path,
) -> tuple[SamplePair, ...]:
    """Rows of the test set called `name`, of a task that answers rows: where the challenger's score
    gained most, then where it lost most. `tokens` is the test set's folder; `champion` and
    `challenger` are the folders of their predictions.

    Rows are scored one by one, which for BLEU says little of the whole, but enough to choose.
    """
    if task not in _ANSWERS:
        return ()
    prompt, reference, answer = _ANSWERS[task]
    texts = tables.read(
        tokens / f"{TEST}.parquet",
        tables.schema(tokens / f"{TEST}.parquet", *tables.TOKENS.values()),
    )
    said = [answer(folder) for folder in (champion, challenger)]
    one, other = (scoring.score(scoring.units(table)) for table in (both.champion, both.challenger))
    gain, row = other - one, both.champion["row"].to_numpy()
    order = np.argsort(-gain, kind="stable")
    chosen = [(i, "gained") for i in order[:_EACH_WAY] if gain[i] > 0]
    chosen += [(i, "lost") for i in order[::-1][:_EACH_WAY] if gain[i] < 0]
    found = []
    for i, about in chosen:
        source = texts.slice(int(row[i]), 1).to_pylist()[0]
        answers = {"champion": said[0][int(row[i])], "challenger": said[1][int(row[i])]}
        found.append(
            SamplePair(
                about=f"{about} on {name}",
                prompt=source[prompt],
                reference=source[reference],
                **answers,
            )
        )
    return tuple(found)


def _by_prompt(path: Path) -> dict[str, dict[str, Any]]:
    return {
        row["prompt"]: row for row in tables.read(path, tables.SAMPLES).sort_by("row").to_pylist()
    }


def _translations(predictions: Path) -> list[str]:
    found = tables.read(predictions / f"hypotheses_{TEST}.parquet", tables.HYPOTHESES)
    texts: list[str] = found.filter(pc.field("rank") == 0).sort_by("row")["text"].to_pylist()
    return texts


def _labels(predictions: Path) -> list[str]:
    labels: pa.ChunkedArray = tables.read(
        predictions / f"labels_{TEST}.parquet", tables.LABELS
    ).sort_by("row")["label"]
    texts: list[str] = labels.to_pylist()
    return texts


_ANSWERS = {
    "translation": ("source", "target", _translations),
    "classification": ("text", "label", _labels),
}
