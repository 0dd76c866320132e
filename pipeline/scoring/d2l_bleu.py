"""BLEU as "Dive into Deep Learning" defines it for single sentences (section 10.7.6), on words
between spaces."""

import math
import re
from collections import Counter


def words(text: str) -> list[str]:
    """The book's preprocessing (section 10.5.2): lowercase, no-break spaces as spaces, punctuation
    apart."""
    plain = text.replace("\u202f", " ").replace("\xa0", " ").lower()
    return re.sub(r"(?<=[^ ])([,.!?])", r" \1", plain).split()


def book_bleu(predicted: str, label: str, k: int = 2) -> float:
    """exp(min(0, 1 - len_label / len_pred)) * prod over n = 1..k of p_n ** (1 / 2 ** n); 1 is best,
    0 for no output."""
    got, want = words(predicted), words(label)
    if not got:
        return 0.0
    score = math.exp(min(0.0, 1 - len(want) / len(got)))
    for n in range(1, min(k, len(got)) + 1):
        matches = (_ngrams(got, n) & _ngrams(want, n)).total()
        score *= (matches / (len(got) - n + 1)) ** (0.5**n)
    return score


def _ngrams(tokens: list[str], n: int) -> "Counter[tuple[str, ...]]":
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
