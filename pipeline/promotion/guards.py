"""Guards: metrics of both contenders that must not get worse by more than a margin.

score            the task's own score (BLEU, bits per character, accuracy, ...), in its own unit
chrf             chrF of a translator, in points
perplexity       of a translator's references, per champion's token, as a share of the
                 champion's
bleu_long        BLEU on `test_long`, or on the longest quarter of the test split, in points;
                 chrF if references are short
empty            empty translations, as a share of all translations
perplexity_long  of a language model on the longest quarter, per champion's token, as a
                 share of the champion's
f1               macro F1 of a classifier, in points
mlm_accuracy, nsp_accuracy
                 of masked words and next sentences, in points of per cent
coverage         words, pairs or questions of the first benchmark that the word vectors cover,
                 as a share of the champion's
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.promotion.decision import GuardResult
from pipeline.promotion.retokenize import TEST
from pipeline.scoring import likelihood, mt_metrics
from pipeline.scoring.significance import Array
from pipeline.scoring.tasks import Scoring
from pipeline.scoring.tasks.classification import confusion_units, macro_f1

LONG = "test_long"  # the split of sentences longer than any in train, where a corpus has one
_LONG_QUANTILE = 0.75  # of the lengths: the longest quarter, where a corpus has no such split

Values = Sequence[float]
"""Values of champion and challenger."""


@dataclass(frozen=True, slots=True)
class ScorePair:
    """Scores of champion and challenger on one split: the same rows in the same order."""

    champion: pa.Table
    challenger: pa.Table

    def __iter__(self) -> Iterator[pa.Table]:
        return iter((self.champion, self.challenger))

    def longest(self) -> "ScorePair":
        """The longest quarter of the rows, by the champion's count of tokens."""
        length = self.champion["length"].to_numpy()
        is_long = pa.array(length >= np.quantile(length, _LONG_QUANTILE))
        return ScorePair(self.champion.filter(is_long), self.challenger.filter(is_long))


@dataclass(frozen=True, slots=True)
class GuardInput:
    """Input of the guards for one test set.

    `coverage`: items of the ranking benchmark that each contender covers. `mismatch`: why the
    likelihoods of the two cannot be compared; "" where they can.
    """

    scoring: Scoring
    lowercase: bool
    splits: Mapping[str, ScorePair]
    coverage: tuple[int, int]
    mismatch: str

    @property
    def test(self) -> ScorePair:
        return self.splits[TEST]

    @property
    def long(self) -> ScorePair:
        return self.splits.get(LONG) or self.test.longest()


def check_guards(scores: GuardInput, margins: Mapping[str, float]) -> tuple[GuardResult, ...]:
    """Every guard of `margins` on one test set."""
    return tuple(_check_guard(scores, name, margin) for name, margin in margins.items())


def _check_guard(scores: GuardInput, name: str, margin: float) -> GuardResult:
    metric, loss = _METRICS[name]
    # Likelihoods of different texts: the guard fails, with the reason as its note.
    if scores.mismatch and name in ("perplexity", "perplexity_long"):
        return GuardResult(
            name=name,
            champion=None,
            challenger=None,
            worse=None,
            margin=margin,
            note=scores.mismatch,
        )

    champion, challenger = metric(scores)
    worse = loss(champion, challenger)
    # The direction of the task's own score is known only here.
    if name == "score" and scores.scoring.higher_is_better:
        worse = -worse
    return GuardResult(
        name=name, champion=champion, challenger=challenger, worse=worse, margin=margin, note=""
    )


def _bleu_long(scores: GuardInput) -> Values:
    # BLEU is 0 for all systems if no long reference has 4 tokens: chrF replaces it then.
    scoring, _ = scores.scoring.select_scoring(scores.long.champion)
    return corpus_scores(scores.long, scoring)


def corpus_scores(pair: ScorePair, scoring: Scoring) -> Values:
    """Scores of champion and challenger over all rows of the pair."""
    return [_corpus_score(scoring.score, scoring.units(table)) for table in pair]


def _chrf(scores: GuardInput) -> Values:
    column = "chrf_lowercase" if scores.lowercase else "chrf"
    return [
        _corpus_score(mt_metrics.chrf, mt_metrics.sums_matrix(table[column]))
        for table in scores.test
    ]


def _empty(scores: GuardInput) -> Values:
    return [pc.mean(table["empty"]).as_py() for table in scores.test]


def _perplexity(pair: ScorePair) -> Values:
    """Perplexities, both per token of the champion.

    The nats are of the same text, so that only a common number of tokens makes them comparable."""
    tokens = pc.sum(pair.champion["count"]).as_py()
    nats = [pc.sum(table["nats"]).as_py() for table in pair]
    perplexities = likelihood.perplexity(np.array([[total, tokens] for total in nats]))
    return [float(perplexity) for perplexity in perplexities]


def _f1(scores: GuardInput) -> Values:
    # Macro F1 averages over every label that is in a reference or a prediction of either.
    labels = sorted(
        {
            label
            for table in scores.test
            for column in ("label", "predicted")
            for label in table[column].to_pylist()
        }
    )
    return [_corpus_score(macro_f1, confusion_units(table, labels)) for table in scores.test]


def _mlm_accuracy(scores: GuardInput) -> Values:
    return [
        100 * pc.sum(table["correct"]).as_py() / pc.sum(table["count"]).as_py()
        for table in scores.test
    ]


def _nsp_accuracy(scores: GuardInput) -> Values:
    return [100 * pc.mean(table["pair_correct"]).as_py() for table in scores.test]


def _rise(champion: float, challenger: float) -> float:
    return challenger - champion


def _fall(champion: float, challenger: float) -> float:
    return champion - challenger


def _rise_share(champion: float, challenger: float) -> float:
    return challenger / champion - 1


def _fall_share(champion: float, challenger: float) -> float:
    # A champion without any coverage cannot lose any.
    return 1 - challenger / max(champion, 1)


_METRICS: dict[str, tuple[Callable[[GuardInput], Values], Callable[[float, float], float]]] = {
    "score": (lambda scores: corpus_scores(scores.test, scores.scoring), _rise),
    "chrf": (_chrf, _fall),
    "perplexity": (lambda scores: _perplexity(scores.test), _rise_share),
    "bleu_long": (_bleu_long, _fall),
    "empty": (_empty, _rise),
    "perplexity_long": (lambda scores: _perplexity(scores.test.longest()), _rise_share),
    "f1": (_f1, _fall),
    "mlm_accuracy": (_mlm_accuracy, _fall),
    "nsp_accuracy": (_nsp_accuracy, _fall),
    "coverage": (lambda scores: scores.coverage, _fall_share),
}
"""By guard: its metric, and how much worse the challenger's value is."""


def _corpus_score(score: Callable[[Array], Array], units_NK: Array) -> float:
    return float(score(units_NK.sum(0, keepdims=True))[0])
