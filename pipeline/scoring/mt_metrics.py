"""sacreBLEU's scores of text against text, taken apart into sums per row and put together again for
many resamples at once.

The sums come from sacreBLEU itself; only the last step, from corpus sums to a score, is written
here a second time, because sacreBLEU does it for one corpus at a time. Shapes: N rows, R resamples,
K sums."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.scoring.significance import Array, Bootstrap
from pipeline.scoring.ter import edits
from pipeline.scoring.tokenizers import ASIAN, choose, script
from pipeline.text.tokens import Text, round_trip

ORDERS = 4  # of BLEU's n-grams: a text of fewer tokens has none of the longest
_BETA = 2


@dataclass(frozen=True, slots=True)
class TextMetric:
    """One score of the surface of a text: sacreBLEU's metric object, and `score` from sums_RK to
    scores_R (0 to 100).

    `sums(hypothesis, reference)` are one row's, in whole numbers, laid out as `bleu`, `chrf` and
    `ter` below read them."""

    metric: Any
    score: Callable[[Array], Array]
    sums: Callable[[str, str], list[int]]

    def signature(self, bootstrap: Bootstrap) -> str:
        """sacreBLEU's signature; its seed and resamples are those that reproduce our interval with
        sacreBLEU."""
        self.metric.num_refs, self.metric.n_bootstrap, self.metric.seed = (
            1,
            bootstrap.samples,
            bootstrap.seed,
        )
        return str(self.metric.get_signature())


def text_metrics(tokenizer: str | None = None) -> dict[str, TextMetric]:
    """Every surface score by its name; `_lowercase` compares without regard to case.

    `tokenizer` is BLEU's. None, for callers without a corpus, chooses one for each reference by its
    script.

    TER is without case, as is its default, and sets punctuation apart as BLEU does: it measures
    words, not spaces. Where BLEU counts characters of Chinese or Japanese, TER does too."""
    from sacrebleu.metrics import CHRF, TER

    edit_rate = TER(normalized=True, asian_support=tokenizer in ASIAN)
    return {
        "bleu": _bleu(tokenizer, lowercase=False),
        "bleu_lowercase": _bleu(tokenizer, lowercase=True),
        "chrf": _sacrebleu_metric(CHRF(), chrf),
        "chrf_lowercase": _sacrebleu_metric(CHRF(lowercase=True), chrf),
        "ter": TextMetric(edit_rate, ter, partial(_ter_sums, edit_rate)),
    }


def normalized_pairs(
    answers: pa.StringArray, references: pa.StringArray, text: Text
) -> list[tuple[str, str]]:
    """Pairs of answer and reference, both read as the block `text` of their corpus says."""
    return list(
        zip(
            round_trip(answers, text).to_pylist(),
            round_trip(references, text).to_pylist(),
            strict=True,
        )
    )


def _bleu(tokenizer: str | None, lowercase: bool) -> TextMetric:
    from sacrebleu.metrics import BLEU

    if tokenizer is not None:
        return _sacrebleu_metric(BLEU(force=True, lowercase=lowercase, tokenize=tokenizer), bleu)
    by_tokenizer: dict[str, TextMetric] = {}
    metric = BLEU(force=True, lowercase=lowercase)  # for the signature alone

    def sums(hypothesis: str, reference: str) -> list[int]:
        chosen = "13a" if reference.isascii() else choose(script([pa.array([reference])]))
        if chosen not in by_tokenizer:
            by_tokenizer[chosen] = _bleu(chosen, lowercase)
            metric.tokenizer_signature = "+".join(sorted(by_tokenizer))
        return by_tokenizer[chosen].sums(hypothesis, reference)

    return TextMetric(metric, bleu, sums)


def _sacrebleu_metric(metric: Any, score: Callable[[Array], Array]) -> TextMetric:
    def sums(hypothesis: str, reference: str) -> list[int]:
        found: list[int] = metric._extract_corpus_statistics([hypothesis], [[reference]])[0]
        return found

    return TextMetric(metric, score, sums)


def _ter_sums(metric: Any, hypothesis: str, reference: str) -> list[int]:
    got, want = (metric.tokenizer(text.rstrip()).split() for text in (hypothesis, reference))
    return [edits(got, want), len(want)]


def bleu(sums_RK: Array) -> Array:
    """BLEU (Papineni et al. 2002) from [length, reference length, 4 matches, 4 totals], exponential
    smoothing."""
    length, reference = sums_RK[:, 0], sums_RK[:, 1]
    correct, total = sums_RK[:, 2 : 2 + ORDERS], sums_RK[:, 2 + ORDERS :]
    halvings = np.cumsum(correct == 0, axis=1)
    matched = np.where(correct > 0, correct, 0.5**halvings)
    defined = (total > 0).all(1) & (correct > 0).any(1)
    safe = np.where(total > 0, total, 1)
    brevity = np.minimum(0, 1 - reference / np.maximum(length, 1))
    score: Array = np.where(defined, 100 * np.exp(brevity + np.log(matched / safe).mean(1)), 0.0)
    return score


def chrf(sums_RK: Array) -> Array:
    """chrF2 (Popovic 2015) from [hypothesis, reference, matching] counts of each order of character
    n-grams."""
    hypothesis, reference, matching = sums_RK[:, 0::3], sums_RK[:, 1::3], sums_RK[:, 2::3]
    effective = (hypothesis > 0) & (reference > 0)
    orders = np.maximum(effective.sum(1), 1)
    precision = (
        np.where(effective, matching / np.where(effective, hypothesis, 1), 0).sum(1) / orders
    )
    recall = np.where(effective, matching / np.where(effective, reference, 1), 0).sum(1) / orders
    either = np.where(precision + recall > 0, _BETA**2 * precision + recall, 1)
    score: Array = 100 * (1 + _BETA**2) * precision * recall / either
    return score


def ter(sums_RK: Array) -> Array:
    """Translation edit rate (Snover et al. 2006) from [edits, reference length]; may exceed 100."""
    edits, reference = sums_RK[:, 0], sums_RK[:, 1]
    rate = edits / np.where(reference > 0, reference, 1)
    score: Array = 100 * np.where(reference > 0, rate, np.minimum(edits, 1))
    return score
