"""BLEU of single sentences as "Dive into Deep Learning" defines it (section 10.7.6), on words
separated by spaces."""

import math
import re
from collections import Counter


def words(text: str) -> list[str]:
    """The book's preprocessing (section 10.5.2): lowercase, replace no-break spaces, split off
    punctuation."""
    plain = text.replace("\u202f", " ").replace("\xa0", " ").lower()
    return re.sub(r"(?<=[^ ])([,.!?])", r" \1", plain).split()


def d2l_bleu(predicted: str, label: str, k: int = 2) -> float:
    """exp(min(0, 1 - len_label / len_pred)) * prod over n = 1..k of p_n ** (1 / 2 ** n); 1 is best,
    0 for no output."""
    predicted_words = words(predicted)
    label_words = words(label)
    if not predicted_words:
        return 0.0

    # Brevity penalty, then the weighted precision of each n.
    score = math.exp(min(0.0, 1 - len(label_words) / len(predicted_words)))
    for n in range(1, min(k, len(predicted_words)) + 1):
        matches = (_ngrams(predicted_words, n) & _ngrams(label_words, n)).total()
        score *= (matches / (len(predicted_words) - n + 1)) ** (0.5**n)
    return score


def _ngrams(tokens: list[str], n: int) -> "Counter[tuple[str, ...]]":
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
