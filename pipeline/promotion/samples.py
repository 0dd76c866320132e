"""Outputs of champion and challenger for the same prompts, for readers of the decision."""

from pathlib import Path

import numpy as np

from pipeline.core import tables
from pipeline.promotion.decision import SamplePair
from pipeline.promotion.guards import ScorePair
from pipeline.promotion.retokenize import TEST
from pipeline.scoring.tasks import Scoring, promotion

# rows of the test set with the largest gain of the challenger, and as many with its largest loss
_ROWS_PER_DIRECTION = 3


def sample_pairs(champion: Path, challenger: Path) -> tuple[SamplePair, ...]:
    """Outputs for the corpus's sample sentences, from the folders of predictions of the two.

    Sentences that only one of them has are left out."""
    sample_tables = (
        tables.read(folder / "samples.parquet", tables.SAMPLES).sort_by("row")
        for folder in (champion, challenger)
    )
    champion_rows, challenger_rows = (
        {row["prompt"]: row for row in table.to_pylist()} for table in sample_tables
    )
    return tuple(
        SamplePair(
            about="sample",
            prompt=prompt,
            reference=row["reference"],
            champion=row["text"],
            challenger=challenger_rows[prompt]["text"],
        )
        for prompt, row in champion_rows.items()
        if prompt in challenger_rows
    )


def largest_changes(
    task: str,
    scoring: Scoring,
    scores: ScorePair,
    tokens: Path,
    name: str,
    champion: Path,
    challenger: Path,
) -> tuple[SamplePair, ...]:
    """Rows of the test set `name` with the challenger's largest gains, then its largest losses.

    `tokens` is the test set's folder; `champion` and `challenger` are folders of predictions. Tasks
    without a prediction per row have none. BLEU of single rows is noisy, but good enough to choose
    examples.
    """
    outputs = promotion(task).outputs
    if outputs is None:
        return ()
    prompts, reference, read_predictions = outputs
    path = tokens / f"{TEST}.parquet"
    texts = tables.read(path, tables.schema(path, *tables.TOKENS.values()))
    champion_texts, challenger_texts = (
        read_predictions(folder, TEST) for folder in (champion, challenger)
    )

    champion_score_N, challenger_score_N = (scoring.score(scoring.sums(table)) for table in scores)
    gain_N = challenger_score_N - champion_score_N
    row_N = scores.champion["row"].to_numpy()
    # A stable sort: equal gains stay in order of rows.
    order = np.argsort(-gain_N, kind="stable")
    chosen = [(i, "gained") for i in order[:_ROWS_PER_DIRECTION] if gain_N[i] > 0]
    chosen += [(i, "lost") for i in order[::-1][:_ROWS_PER_DIRECTION] if gain_N[i] < 0]

    samples = []
    for i, direction in chosen:
        row = int(row_N[i])
        source = texts.slice(row, 1).to_pylist()[0]
        samples.append(
            SamplePair(
                about=f"{direction} on {name}",
                prompt="\t".join(source[name] for name in prompts),
                reference=source[reference],
                champion=champion_texts[row],
                challenger=challenger_texts[row],
            )
        )
    return tuple(samples)
