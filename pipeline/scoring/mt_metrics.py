"""BLEU, chrF and TER as sums per row, so that many resamples of a corpus are scored at once.

The sums come from sacreBLEU. Only the last step, from corpus sums to a score, is implemented here,
because sacreBLEU does it for one corpus at a time. Shapes: N rows, R resamples, K sums."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.scoring.significance import Array, Bootstrap
from pipeline.scoring.ter import edits
from pipeline.scoring.tokenizers import ASIAN, choose, script
from pipeline.text.tokens import Text, round_trip

ORDERS = 4  # of BLEU's n-grams: a text of fewer tokens has no 4-gram
_BETA = 2  # of chrF: recall counts beta times as much as precision


@dataclass(frozen=True, slots=True)
class TextMetric:
    """A metric on text: sacreBLEU's metric object, and `score` from sums_RK to scores_R (0 to 100).

    `sums(hypothesis, reference)` are the whole numbers of a row, in the order that `score`
    expects."""

    metric: Any
    score: Callable[[Array], Array]
    sums: Callable[[str, str], list[int]]

    def signature(self, bootstrap: Bootstrap | None) -> str:
        """sacreBLEU's signature, with the seed and the number of resamples that reproduce the
        interval with sacreBLEU.

        None if sacreBLEU, which resamples single rows, cannot reproduce it."""
        self.metric.num_refs = 1
        self.metric.n_bootstrap = bootstrap.samples if bootstrap else None
        self.metric.seed = bootstrap.seed if bootstrap else None
        return str(self.metric.get_signature())


def text_metrics(tokenizer: str | None = None) -> dict[str, TextMetric]:
    """All metrics by name; those named `_lowercase` ignore case.

    `tokenizer` is BLEU's. None, for callers without a corpus, selects one for each reference by its
    script."""
    from sacrebleu.metrics import CHRF, TER

    # TER ignores case, its default, and splits off punctuation as BLEU does. If BLEU counts
    # characters of Chinese or Japanese, so does TER.
    edit_rate = TER(normalized=True, asian_support=tokenizer in ASIAN)
    return {
        "bleu": _bleu(tokenizer, lowercase=False),
        "bleu_lowercase": _bleu(tokenizer, lowercase=True),
        "chrf": _sacrebleu_metric(CHRF(), chrf),
        "chrf_lowercase": _sacrebleu_metric(CHRF(lowercase=True), chrf),
        "ter": TextMetric(edit_rate, ter, partial(_ter_sums, edit_rate)),
    }


def normalized_pairs(
    outputs: pa.StringArray, references: pa.StringArray, text: Text
) -> list[tuple[str, str]]:
    """Pairs of output and reference, both normalized by the block `text` of their corpus."""
    return list(
        zip(
            round_trip(outputs, text).to_pylist(),
            round_trip(references, text).to_pylist(),
            strict=True,
        )
    )


def _bleu(tokenizer: str | None, lowercase: bool) -> TextMetric:
    from sacrebleu.metrics import BLEU

    if tokenizer is not None:
        return _sacrebleu_metric(BLEU(force=True, lowercase=lowercase, tokenize=tokenizer), bleu)

    # A tokenizer per reference; `metric` is used for its signature only.
    by_tokenizer: dict[str, TextMetric] = {}
    metric = BLEU(force=True, lowercase=lowercase)

    def sums(hypothesis: str, reference: str) -> list[int]:
        selected = "13a" if reference.isascii() else choose(script([pa.array([reference])]))
        if selected not in by_tokenizer:
            by_tokenizer[selected] = _bleu(selected, lowercase)
            metric.tokenizer_signature = "+".join(sorted(by_tokenizer))
        return by_tokenizer[selected].sums(hypothesis, reference)

    return TextMetric(metric, bleu, sums)


def _sacrebleu_metric(metric: Any, score: Callable[[Array], Array]) -> TextMetric:
    def sums(hypothesis: str, reference: str) -> list[int]:
        statistics: list[int] = metric._extract_corpus_statistics([hypothesis], [[reference]])[0]
        return statistics

    return TextMetric(metric, score, sums)


def _ter_sums(metric: Any, hypothesis: str, reference: str) -> list[int]:
    hypothesis_words = metric.tokenizer(hypothesis.rstrip()).split()
    reference_words = metric.tokenizer(reference.rstrip()).split()
    return [edits(hypothesis_words, reference_words), len(reference_words)]


def sums_matrix(column: pa.ChunkedArray) -> Array:
    """The sums of a column of lists of equal length as an array of float64, NK."""
    joined = column.combine_chunks()
    matrix: Array = pc.list_flatten(joined).to_numpy().reshape(len(joined), -1).astype(np.float64)
    return matrix


def bleu(sums_RK: Array) -> Array:
    """BLEU (Papineni et al. 2002) from [length, reference length, 4 matches, 4 totals]."""
    length_R = sums_RK[:, 0]
    reference_length_R = sums_RK[:, 1]
    matches_R4 = sums_RK[:, 2 : 2 + ORDERS]
    totals_R4 = sums_RK[:, 2 + ORDERS :]

    # Exponential smoothing: the k-th order without a match counts 1 / 2^k matches.
    halvings_R4 = np.cumsum(matches_R4 == 0, axis=1)
    smoothed_R4 = np.where(matches_R4 > 0, matches_R4, 0.5**halvings_R4)

    # Geometric mean of the precisions, times the brevity penalty; 0 if an order has no n-grams, or
    # if nothing matches.
    is_defined_R = (totals_R4 > 0).all(1) & (matches_R4 > 0).any(1)
    divisor_R4 = np.where(totals_R4 > 0, totals_R4, 1)
    brevity_R = np.minimum(0, 1 - reference_length_R / np.maximum(length_R, 1))
    log_precision_R = np.log(smoothed_R4 / divisor_R4).mean(1)
    score_R: Array = np.where(is_defined_R, 100 * np.exp(brevity_R + log_precision_R), 0.0)
    return score_R


def chrf(sums_RK: Array) -> Array:
    """chrF2 (Popovic 2015) from [hypothesis, reference, matching] counts of each order of character
    n-grams."""
    hypothesis, reference, matching = sums_RK[:, 0::3], sums_RK[:, 1::3], sums_RK[:, 2::3]

    # Mean precision and recall over the orders that both texts have n-grams of.
    effective = (hypothesis > 0) & (reference > 0)
    orders_R = np.maximum(effective.sum(1), 1)
    precisions = np.where(effective, matching / np.where(effective, hypothesis, 1), 0)
    recalls = np.where(effective, matching / np.where(effective, reference, 1), 0)
    precision_R = precisions.sum(1) / orders_R
    recall_R = recalls.sum(1) / orders_R

    # F-score with weight beta on recall.
    divisor_R = np.where(precision_R + recall_R > 0, _BETA**2 * precision_R + recall_R, 1)
    score_R: Array = 100 * (1 + _BETA**2) * precision_R * recall_R / divisor_R
    return score_R


def ter(sums_RK: Array) -> Array:
    """Translation edit rate (Snover et al. 2006) from [edits, reference length]; may exceed 100."""
    edits_R = sums_RK[:, 0]
    length_R = sums_RK[:, 1]
    rate_R = edits_R / np.where(length_R > 0, length_R, 1)

    # An empty reference: 100 for any edit, as in sacreBLEU.
    score_R: Array = 100 * np.where(length_R > 0, rate_R, np.minimum(edits_R, 1))
    return score_R
