"""Alignment of two contenders' scores on one test set, row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.promotion import retokenize
from pipeline.promotion.contenders import StageOutputs
from pipeline.promotion.guards import ScorePair
from pipeline.promotion.retokenize import TEST, Incomparable, Tokenization
from pipeline.scoring import vectors
from pipeline.scoring.tasks import Scoring, promotion

# columns that belong to the test set and not to a contender
_TEST_SET_COLUMNS = ("row", "block", "characters", "pair")


@dataclass(frozen=True, slots=True)
class AlignedScores:
    """Scores of both contenders by split, on the rows on which they are compared.

    `left_out` counts the excluded rows of the test split. `coverage` counts the items of the
    ranking benchmark that each contender's word vectors cover (0 for other tasks)."""

    splits: Mapping[str, ScorePair]
    left_out: int
    coverage: tuple[int, int]


def check_comparable(task: str, champion: Tokenization, challenger: Tokenization) -> None:
    """Raise Incomparable if models of the task with these tokenizations share no test set."""
    rules = promotion(task)
    if rules.same_normalization and champion.normalization != challenger.normalization:
        raise Incomparable(likelihood_mismatch(task, champion, challenger))
    if rules.same_vocabulary and not champion.same_ids(challenger, "text"):
        raise Incomparable(
            "they guess words of different vocabularies, so that their accuracies are not "
            "comparable"
        )


def likelihood_mismatch(task: str, champion: Tokenization, challenger: Tokenization) -> str:
    """Return why the likelihoods of two models are of different texts; "" if they are not."""
    is_likelihood = promotion(task).likelihood_text is not None
    if not is_likelihood or champion.normalization == challenger.normalization:
        return ""
    return "they are models of different texts, as text.lowercase or text.letters_only differs"


def spells_out_words(task: str, champion: Tokenization, challenger: Tokenization) -> bool:
    """Return whether likelihoods are comparable only with unknown words spelled out."""
    text = promotion(task).likelihood_text
    return text is not None and not champion.same_ids(challenger, text)


def align(
    scoring: Scoring,
    task: str,
    outputs: Sequence[StageOutputs],
    tokens: Path,
    trained: tuple[Path, Path],
) -> AlignedScores:
    """Align the scores of champion and challenger, `outputs`, on the test set `tokens`.

    `trained` are the folders of tokens that they were trained on. Raises Incomparable if no row
    remains.
    """

    def read(split: str) -> tuple[pa.Table, pa.Table]:
        champion, challenger = (
            tables.read(stage.scores / f"{split}.parquet", scoring.schema) for stage in outputs
        )
        return champion, challenger

    if not promotion(task).has_splits:
        champion, challenger = read(TEST)
        pair = _benchmark_pair(champion, challenger)
        return AlignedScores({TEST: pair}, 0, _coverage(champion, challenger))

    # The test split must have rows, else Incomparable; other splits are left out without any.
    fair = {
        split: retokenize.fair_rows(tokens, split, *trained)
        for split in retokenize.list_splits(tokens)
    }
    splits = {
        split: _select_rows(task, *read(split), fair[split])
        for split in fair
        if split == TEST or fair[split].any()
    }
    return AlignedScores(splits, int((~fair[TEST]).sum()), (0, 0))


def _select_rows(
    task: str, champion: pa.Table, challenger: pa.Table, fair: retokenize.Mask
) -> ScorePair:
    """Select the rows that `fair` allows.

    Raises Incomparable if there are none, or if the two were evaluated on different rows."""
    # Paired tests need the same units in the same order.
    for column in _TEST_SET_COLUMNS:
        if column in champion.column_names and not champion[column].equals(challenger[column]):
            raise Incomparable(f"their scores are of different rows ({column} differs)")
    if selection := promotion(task).selection:
        column, reason = selection
        if not champion[column].equals(challenger[column]):
            raise Incomparable(reason)

    allowed = pa.array(fair[champion["row"].to_numpy()])
    if not pc.any(allowed).as_py():
        raise Incomparable("every row of a test set was in the training text of one of them")
    return ScorePair(champion.filter(allowed), challenger.filter(allowed))


def _benchmark_pair(champion: pa.Table, challenger: pa.Table) -> ScorePair:
    """Select the items of the ranking benchmark that both word vectors cover.

    Ranks are computed again among these items where the benchmark compares ranks."""
    name = champion["benchmark"][0].as_py()
    # The first row's benchmark is the one that ranks.
    items = [table.filter(pc.equal(table["benchmark"], name)) for table in (champion, challenger)]
    shared = [
        table.filter(pc.is_in(table["item"], reference["item"]))
        for table, reference in zip(items, items[::-1], strict=True)
    ]
    if not len(shared[0]) or not shared[0]["item"].equals(shared[1]["item"]):
        raise Incomparable(f"the benchmark {name} has no item that both cover")

    # Spearman's correlation is that of ranks, which depend on the items in the comparison.
    if name not in ("classes", "analogies"):
        shared = [_with_ranks(_with_ranks(table, "predicted"), "expected") for table in shared]
    return ScorePair(*shared)


def _with_ranks(table: pa.Table, column: str) -> pa.Table:
    index = table.schema.get_field_index(column)
    ranks = pa.array(vectors.ranks(table[column].to_numpy()))
    return table.set_column(index, table.schema.field(index), ranks)


def _coverage(champion: pa.Table, challenger: pa.Table) -> tuple[int, int]:
    benchmark = champion["benchmark"][0]
    champion_items, challenger_items = (
        pc.sum(pc.equal(table["benchmark"], benchmark)).as_py() for table in (champion, challenger)
    )
    return champion_items, challenger_items
