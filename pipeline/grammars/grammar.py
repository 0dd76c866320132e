"""A probabilistic context-free grammar of one or more sides, drawn from with the exact
log-probability of each derivation.

A production is a text per side, with symbols in braces: `{NP} {VP} .`. Two sides make a synchronous
grammar (Aho and Ullman, 1969): both hold the same symbols, in any order, and each symbol is
expanded once for both. A symbol that occurs twice in a production is told apart by a suffix after
`#`: `{NP#1} and {NP#2}`.

Only `Random.random` is called, whose sequence Python keeps from version to version.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import NamedTuple

from pipeline.core.errors import refuse

_SYMBOL = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`source.builtin` without `grammar`: `sizes` says how many rows each of the grammar's splits
    has."""

    seed: int
    sizes: dict[str, int]

    def __post_init__(self) -> None:
        for split, rows in self.sizes.items():
            if rows < 1:
                raise refuse(f"sizes.{split}", rows, "at least 1 row")


class Production(NamedTuple):
    """One way to expand a symbol; weights of a symbol's productions are relative to each other."""

    weight: float
    texts: tuple[str, ...]


class Derivation(NamedTuple):
    """A text per side, and the natural log-probability of the derivation that yields them."""

    texts: tuple[str, ...]
    log_prob: float


class Rules(dict[str, list[Production]]):
    """The productions of each symbol, as they are written down."""

    def add(self, symbol: str, weight: float, *texts: str) -> None:
        """Add a production of `symbol`, with a text for every side."""
        self.setdefault(symbol, []).append(Production(weight, texts))

    def both(self, symbol: str, weight: float, text: str) -> None:
        """Add a production of `symbol` with the same text on both sides."""
        self.add(symbol, weight, text, text)

    def words(self, symbol: str, weight: float, words: str) -> None:
        """Add a production for each word, all of the same weight, on a single side."""
        for word in words.split():
            self.add(symbol, weight, word)


class _Choice(NamedTuple):
    log_prob: float
    texts: tuple[str, ...]  # the answer itself where there are no children
    children: tuple[str, ...]
    # none for a lone symbol that stands for this one on every side
    formats: tuple[Callable[..., str], ...]


class Grammar:
    """Rules made ready to draw from."""

    def __init__(self, rules: Mapping[str, list[Production]]) -> None:
        self._choices = {symbol: _compiled(productions) for symbol, productions in rules.items()}
        for symbol, (_, choices) in self._choices.items():
            for choice in choices:
                missing = set(choice.children) - set(rules)
                assert not missing, f"{symbol} needs {missing}, which no rule expands"

    def draw(self, symbol: str, random: Random) -> Derivation:
        """One derivation of `symbol`."""
        return Derivation(*self._expand(symbol, random.random))

    def _expand(self, symbol: str, uniform: Callable[[], float]) -> tuple[tuple[str, ...], float]:
        cumulative, choices = self._choices[symbol]
        log_prob, texts, children, formats = choices[bisect_right(cumulative, uniform())]
        if not children:
            return texts, log_prob
        if not formats:
            texts, more = self._expand(children[0], uniform)
            return texts, log_prob + more
        drawn = []
        for child in children:
            texts, more = self._expand(child, uniform)
            drawn.append(texts)
            log_prob += more
        return tuple(
            [form(*side) for form, side in zip(formats, zip(*drawn, strict=True), strict=True)]
        ), log_prob


def _compiled(productions: list[Production]) -> tuple[list[float], list[_Choice]]:
    total = math.fsum(weight for weight, _ in productions)
    cumulative = [reached / total for reached in accumulate(weight for weight, _ in productions)]
    cumulative[-1] = 1.0
    return cumulative, [_choice(sides, math.log(weight / total)) for weight, sides in productions]


def _choice(sides: tuple[str, ...], log_prob: float) -> _Choice:
    names = tuple(dict.fromkeys(_SYMBOL.findall(sides[0])))
    for side in sides:
        assert sorted(_SYMBOL.findall(side)) == sorted(names), (
            f"{sides}: every side has each symbol once"
        )
    places = {name: f"{{{i}}}" for i, name in enumerate(names)}
    forms = [_SYMBOL.sub(lambda match: places[match[1]], side) for side in sides]
    formats = () if all(form == "{0}" for form in forms) else tuple(form.format for form in forms)
    return _Choice(log_prob, sides, tuple(name.partition("#")[0] for name in names), formats)
