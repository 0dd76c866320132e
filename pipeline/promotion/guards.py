"""Guards: figures of both contenders that must not get worse by more than a margin.

score            the task's own score (BLEU, bits per character, accuracy, ...), in its own unit
chrf             chrF of a translator, in points
perplexity       of a translator's references, by the champion's tokens, as a share of the
                 champion's
bleu_long        BLEU on `test_long`, or on the longest quarter of the test split, in points;
                 chrF if references are short
empty            empty answers, as a share of all answers
perplexity_long  of a language model on the longest quarter, by the champion's tokens, as a
                 share of the champion's
f1               macro F1 of a classifier, in points
words_guessed, pairs_guessed
                 of a masked language model, in points of per cent
covered          words, pairs or questions of the first benchmark that the word vectors cover,
                 as a share of the champion's
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.promotion.decision import GuardResult
from pipeline.promotion.retokenize import TEST
from pipeline.scoring import likelihood, mt_metrics
from pipeline.scoring.significance import Array
from pipeline.scoring.tasks import Scoring
from pipeline.scoring.tasks.classification import confused, macro_f1

LONG = "test_long"  # the split of sentences longer than any in train, where a corpus has one
_LONGEST = 0.75  # from this quantile of the lengths on, where it has none


@dataclass(frozen=True, slots=True)
class ScorePair:
    """The scores of one split, row by row, of champion and challenger: the rows on which they are
    compared, in one order."""

    champion: pa.Table
    challenger: pa.Table

    def longest(self) -> "ScorePair":
        """The longest quarter of the rows, by the champion's count of tokens."""
        length = self.champion["length"].to_numpy()
        chosen = pa.array(length >= np.quantile(length, _LONGEST))
        return ScorePair(self.champion.filter(chosen), self.challenger.filter(chosen))


@dataclass(frozen=True, slots=True)
class GuardInput:
    """Input of the guards: each split of one test set; `covered` is how much of the first judge
    each covers.

    `unlike` says why likelihoods of the two cannot be compared, and is empty where they can.
    """

    scoring: Scoring
    lowercase: bool
    splits: Mapping[str, ScorePair]
    covered: tuple[int, int]
    unlike: str

    @property
    def test(self) -> ScorePair:
        return self.splits[TEST]

    @property
    def long(self) -> ScorePair:
        return self.splits.get(LONG) or self.test.longest()


def check_guards(asked: GuardInput, margins: Mapping[str, float]) -> tuple[GuardResult, ...]:
    """Every guard of `margins` on one test set."""
    return tuple(_guarded(asked, name, margin) for name, margin in margins.items())


def _guarded(asked: GuardInput, name: str, margin: float) -> GuardResult:
    figure, worse = _FIGURES[name]
    if asked.unlike and figure in (_perplexity, _perplexity_long):
        return GuardResult(
            name=name, champion=None, challenger=None, worse=None, margin=margin, note=asked.unlike
        )
    champion, challenger = figure(asked)
    loss = worse(champion, challenger)
    if name == "score" and asked.scoring.higher_is_better:
        loss = -loss
    return GuardResult(
        name=name, champion=champion, challenger=challenger, worse=loss, margin=margin, note=""
    )


def _score(asked: GuardInput) -> tuple[float, float]:
    return _scored(asked.test, asked.scoring)


def _bleu_long(asked: GuardInput) -> tuple[float, float]:
    scoring, _ = asked.scoring.fitting(asked.long.champion)
    return _scored(asked.long, scoring)


def _scored(both: ScorePair, scoring: Scoring) -> tuple[float, float]:
    one, other = (
        _at(scoring.score, scoring.units(table)) for table in (both.champion, both.challenger)
    )
    return one, other


def _chrf(asked: GuardInput) -> tuple[float, float]:
    name = "chrf_lowercase" if asked.lowercase else "chrf"
    one, other = (
        _at(mt_metrics.chrf, _matrix(table[name]))
        for table in (asked.test.champion, asked.test.challenger)
    )
    return one, other


def _empty(asked: GuardInput) -> tuple[float, float]:
    return pc.mean(asked.test.champion["empty"]).as_py(), pc.mean(
        asked.test.challenger["empty"]
    ).as_py()


def _perplexity(asked: GuardInput) -> tuple[float, float]:
    return _per_token(asked.test)


def _perplexity_long(asked: GuardInput) -> tuple[float, float]:
    return _per_token(asked.test.longest())


def _per_token(both: ScorePair) -> tuple[float, float]:
    """Both by the champion's number of tokens: nats are those of the same text, however many tokens
    made it up."""
    tokens = pc.sum(both.champion["count"]).as_py()
    nats = [pc.sum(table["nats"]).as_py() for table in (both.champion, both.challenger)]
    one, other = likelihood.perplexity(np.array([[spent, tokens] for spent in nats]))
    return float(one), float(other)


def _f1(asked: GuardInput) -> tuple[float, float]:
    tables = (asked.test.champion, asked.test.challenger)
    names = sorted(
        {
            name
            for table in tables
            for side in ("label", "predicted")
            for name in table[side].to_pylist()
        }
    )
    one, other = (_at(macro_f1, confused(table, names)) for table in tables)
    return one, other


def _words_guessed(asked: GuardInput) -> tuple[float, float]:
    one, other = (
        100 * pc.sum(table["correct"]).as_py() / pc.sum(table["count"]).as_py()
        for table in (asked.test.champion, asked.test.challenger)
    )
    return one, other


def _pairs_guessed(asked: GuardInput) -> tuple[float, float]:
    one, other = (
        100 * pc.mean(table["pair_correct"]).as_py()
        for table in (asked.test.champion, asked.test.challenger)
    )
    return one, other


def _covered(asked: GuardInput) -> tuple[float, float]:
    return asked.covered


def _rise(champion: float, challenger: float) -> float:
    return challenger - champion


def _fall(champion: float, challenger: float) -> float:
    return champion - challenger


def _rise_share(champion: float, challenger: float) -> float:
    return challenger / champion - 1


def _fall_share(champion: float, challenger: float) -> float:
    return 1 - challenger / max(champion, 1)


_FIGURES: dict[
    str, tuple[Callable[[GuardInput], tuple[float, float]], Callable[[float, float], float]]
] = {
    "score": (_score, _rise),
    "chrf": (_chrf, _fall),
    "perplexity": (_perplexity, _rise_share),
    "bleu_long": (_bleu_long, _fall),
    "empty": (_empty, _rise),
    "perplexity_long": (_perplexity_long, _rise_share),
    "f1": (_f1, _fall),
    "words_guessed": (_words_guessed, _fall),
    "pairs_guessed": (_pairs_guessed, _fall),
    "covered": (_covered, _fall_share),
}


def _at(score: Callable[[Array], Array], units_NK: Array) -> float:
    return float(score(units_NK.sum(0, keepdims=True))[0])


def _matrix(column: pa.ChunkedArray) -> Array:
    """A column of lists, all of one length, as the matrix of its rows."""
    joined = column.combine_chunks()
    matrix: Array = pc.list_flatten(joined).to_numpy().reshape(len(joined), -1).astype(np.float64)
    return matrix
