"""The scores of two contenders on one test set, made comparable row by row, or refused."""

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
from pipeline.scoring.significance import Array
from pipeline.scoring.tasks import Scoring

# the side whose text the task's nats are those of
_LIKELIHOODS = {"language_model": "text", "translation": "target"}
# columns that belong to the test set and not to a contender
_SAME = ("row", "block", "characters", "pair")


@dataclass(frozen=True, slots=True)
class AlignedScores:
    """Both contenders' scores of each split, on the rows on which they are compared; how many rows
    of test are left out; and how much of the judge that ranks word vectors each covers (0 for other
    tasks)."""

    splits: Mapping[str, ScorePair]
    left_out: int
    covered: tuple[int, int]


def check_comparable(task: str, champion: Tokenization, challenger: Tokenization) -> None:
    """Incomparable if two models of the task that read in these ways can be compared on no test
    set."""
    if task == "language_model" and champion.case != challenger.case:
        raise Incomparable(likelihood_mismatch(task, champion, challenger))
    if task in ("fill_blank", "masked_language_model") and not champion.same_ids(
        challenger, "text"
    ):
        raise Incomparable(
            "they guess words of unlike vocabularies, which says nothing of the text that they read"
        )


def likelihood_mismatch(task: str, champion: Tokenization, challenger: Tokenization) -> str:
    """Reason why likelihoods of two models of the task are of different texts; empty if they are
    not."""
    differ = task in _LIKELIHOODS and champion.case != challenger.case
    return (
        "they are models of unlike texts, as text.lowercase or text.letters_only differs"
        if differ
        else ""
    )


def spells_out_words(task: str, champion: Tokenization, challenger: Tokenization) -> bool:
    """Return whether likelihoods are comparable only because words that a vocabulary lacks are
    spelt out."""
    return task in _LIKELIHOODS and not champion.same_ids(challenger, _LIKELIHOODS[task])


def align(
    scoring: Scoring,
    task: str,
    answered: Sequence[StageOutputs],
    tokens: Path,
    trained: tuple[Path, Path],
) -> AlignedScores:
    """Make the outputs of champion and challenger, `answered`, for the test set in the folder
    `tokens` comparable.

    `trained` are the folders of tokens that they were trained on.
    """

    def read(split: str) -> tuple[pa.Table, pa.Table]:
        champion, challenger = (
            tables.read(files.scores / f"{split}.parquet", scoring.schema) for files in answered
        )
        return champion, challenger

    if task == "word_vectors":
        one, other = read(TEST)
        return AlignedScores({TEST: _judged(one, other)}, 0, _covered(one, other))
    fair = {
        split: retokenize.fair_rows(tokens, split, *trained)
        for split in retokenize.list_splits(tokens)
    }
    splits = {
        split: _matched(task, *read(split), fair[split])
        for split in fair
        if split == TEST or fair[split].any()
    }
    return AlignedScores(splits, int((~fair[TEST]).sum()), (0, 0))


def _matched(
    task: str, champion: pa.Table, challenger: pa.Table, fair: retokenize.Mask
) -> ScorePair:
    """The rows that `fair` allows; Incomparable if there are none, or if the two were not asked the
    same."""
    for column in _SAME:
        if column in champion.column_names and not champion[column].equals(challenger[column]):
            raise Incomparable(f"their scores are of unlike rows ({column} differs)")
    if task == "masked_language_model" and not champion["count"].equals(challenger["count"]):
        raise Incomparable(
            "other words were masked for the one than for the other, as objective.max_length "
            "differs"
        )
    allowed = pa.array(fair[champion["row"].to_numpy()])
    if not pc.any(allowed).as_py():
        raise Incomparable("every row of a test set was in the training text of one of them")
    return ScorePair(champion.filter(allowed), challenger.filter(allowed))


def _judged(champion: pa.Table, challenger: pa.Table) -> ScorePair:
    """Of word vectors: the ranking judge's items that both cover, ranked anew among themselves
    where ranks are compared."""
    name = champion["judge"][0].as_py()
    own = [table.filter(pc.equal(table["judge"], name)) for table in (champion, challenger)]
    shared = [
        one.filter(pc.is_in(one["item"], other["item"]))
        for one, other in zip(own, own[::-1], strict=True)
    ]
    if not len(shared[0]) or not shared[0]["item"].equals(shared[1]["item"]):
        raise Incomparable(f"the judge {name} has nothing to ask of both")
    if name not in ("classes", "analogies"):
        shared = [_ranked(_ranked(table, "found"), "wanted") for table in shared]
    return ScorePair(*shared)


def _ranked(table: pa.Table, column: str) -> pa.Table:
    return _replaced(table, column, vectors.ranks(table[column].to_numpy()))


def _covered(champion: pa.Table, challenger: pa.Table) -> tuple[int, int]:
    first = champion["judge"][0]
    one, other = (
        pc.sum(pc.equal(table["judge"], first)).as_py() for table in (champion, challenger)
    )
    return one, other


def _replaced(table: pa.Table, column: str, values: Array) -> pa.Table:
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(place), pa.array(values))
