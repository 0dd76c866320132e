"""A probabilistic context-free grammar of one or more sides; sampling returns the exact
log-probability of each derivation.

A production is a text per side, with symbols in braces: `{NP} {VP} .`. Two sides make a synchronous
grammar (Aho and Ullman, 1969): both have the same symbols, in any order, and each symbol is
expanded once for both. A suffix after `#` distinguishes two occurrences of a symbol in a
production: `{NP#1} and {NP#2}`.

Only `Random.random` is called, whose sequence Python keeps from version to version.
"""

import hashlib
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import NamedTuple

from pipeline.core.errors import refuse

# By split: the values of `hash_bucket`, of 8, that its rows may have.
BUCKETS = {"train": range(6), "valid": range(6, 7), "test": range(7, 8)}
_SYMBOL = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`source.builtin` without `grammar`; `sizes`: the number of rows of each split."""

    seed: int
    sizes: dict[str, int]

    def __post_init__(self) -> None:
        for split, rows in self.sizes.items():
            if rows < 1:
                raise refuse(f"sizes.{split}", rows, "at least 1 row")


def hash_bucket(text: str) -> int:
    """Hash of a text, from 0 to 7, which determines its split."""
    return hashlib.blake2b(text.encode(), digest_size=1).digest()[0] % 8


class Production(NamedTuple):
    """An expansion of a symbol; its weight is relative to those of the symbol's other ones."""

    weight: float
    texts: tuple[str, ...]


class Derivation(NamedTuple):
    """A text per side, and the natural log-probability of the derivation that yields them."""

    texts: tuple[str, ...]
    log_prob: float


class Rules(dict[str, list[Production]]):
    """The productions of each symbol."""

    def add(self, symbol: str, weight: float, *texts: str) -> None:
        """Add a production of `symbol`, with a text for every side."""
        self.setdefault(symbol, []).append(Production(weight, texts))

    def add_all(self, symbol: str, *productions: tuple[float, *tuple[str, ...]]) -> None:
        """Add several productions of `symbol`: the weight of each, and its text for every side."""
        for weight, *texts in productions:
            self.add(symbol, weight, *texts)

    def both(self, symbol: str, *productions: tuple[float, str]) -> None:
        """Add productions of `symbol` with the same text on both sides."""
        for weight, text in productions:
            self.add(symbol, weight, text, text)

    def words(self, symbol: str, weight: float, words: str) -> None:
        """Add a production for each word, all of the same weight, on a single side."""
        for word in words.split():
            self.add(symbol, weight, word)


class _Choice(NamedTuple):
    log_prob: float
    texts: tuple[str, ...]  # the result if there are no children
    children: tuple[str, ...]
    # Empty for a unit production (a single symbol on every side).
    formats: tuple[Callable[..., str], ...]


class Grammar:
    """Rules compiled for sampling."""

    def __init__(self, rules: Mapping[str, list[Production]]) -> None:
        self._choices = {symbol: _compiled(productions) for symbol, productions in rules.items()}
        for symbol, (_, choices) in self._choices.items():
            for choice in choices:
                missing = set(choice.children) - set(rules)
                assert not missing, f"{symbol} needs {missing}, which no rule expands"

    def draw(self, symbol: str, random: Random) -> Derivation:
        """Draw a derivation of `symbol`."""
        return Derivation(*self._expand(symbol, random.random))

    def _expand(self, symbol: str, uniform: Callable[[], float]) -> tuple[tuple[str, ...], float]:
        cumulative, choices = self._choices[symbol]
        # Inverse transform sampling of a production.
        log_prob, texts, children, formats = choices[bisect_right(cumulative, uniform())]
        if not children:
            return texts, log_prob
        if not formats:
            texts, child_log_prob = self._expand(children[0], uniform)
            return texts, log_prob + child_log_prob

        child_texts = []
        for child in children:
            texts, child_log_prob = self._expand(child, uniform)
            child_texts.append(texts)
            log_prob += child_log_prob

        # Fill each side's format with that side's texts of the children.
        sides = zip(formats, zip(*child_texts, strict=True), strict=True)
        return tuple([fill(*texts) for fill, texts in sides]), log_prob


def _compiled(productions: list[Production]) -> tuple[list[float], list[_Choice]]:
    total = math.fsum(weight for weight, _ in productions)
    cumulative = [weight / total for weight in accumulate(weight for weight, _ in productions)]
    cumulative[-1] = 1.0  # exactly, despite rounding
    return cumulative, [_choice(texts, math.log(weight / total)) for weight, texts in productions]


def _choice(texts: tuple[str, ...], log_prob: float) -> _Choice:
    symbols = tuple(dict.fromkeys(_SYMBOL.findall(texts[0])))
    for text in texts:
        assert sorted(_SYMBOL.findall(text)) == sorted(symbols), (
            f"{texts}: every side has each symbol once"
        )

    # `{NP#1} {VP}` becomes the format `{0} {1}` of the children NP, VP.
    fields = {symbol: f"{{{i}}}" for i, symbol in enumerate(symbols)}
    templates = [_SYMBOL.sub(lambda match: fields[match[1]], text) for text in texts]
    is_unit = all(template == "{0}" for template in templates)
    formats = () if is_unit else tuple(template.format for template in templates)
    children = tuple(symbol.partition("#")[0] for symbol in symbols)
    return _Choice(log_prob, texts, children, formats)
