"""Spelling rules of both sides: alternations `plain/before_vowel` (`a/an`, `beau/bel`, `le/l'`),
elision, contraction."""

from collections.abc import Callable

ASPIRATED = {"hibou", "hiboux"}  # no elision before an aspirated h: le hibou, but l'homme
CONTRACTIONS = {("de", "le"): "du", ("de", "les"): "des", ("à", "le"): "au", ("à", "les"): "aux"}


def english(template: str) -> str:
    """Spell the English side."""
    return " ".join(_choose_forms(template.split(), _starts_with_english_vowel))


def french(template: str) -> str:
    """Spell the French side: choose alternations, join elided words, contract prepositions."""
    words = _choose_forms(template.split(), _starts_with_french_vowel)
    text: list[str] = []
    for word in words:
        if text and (text[-1], word) in CONTRACTIONS:
            text[-1] = CONTRACTIONS[text[-1], word]
        elif text and text[-1].endswith("'"):
            text[-1] += word
        else:
            text.append(word)
    return " ".join(text)


def _choose_forms(words: list[str], vowel: Callable[[str], bool]) -> list[str]:
    """Choose the form of each alternation `plain/before_vowel` by the next word, from the last word
    back."""
    chosen: list[str] = []
    for word in reversed(words):
        plain, _, before_vowel = word.partition("/")
        chosen.append(before_vowel if before_vowel and chosen and vowel(chosen[-1]) else plain)
    return chosen[::-1]


def _starts_with_french_vowel(word: str) -> bool:
    return word[0] in "aàâeéèêiîoôœuûyh" and word not in ASPIRATED


def _starts_with_english_vowel(word: str) -> bool:
    return word[0] in "aeiou"
