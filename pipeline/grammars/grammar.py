"""A probabilistic context-free grammar of one or more sides, drawn from with the exact log-probability of each derivation.

A production is a text per side, with symbols in braces: `{NP} {VP} .`. Two sides make a synchronous grammar (Aho and Ullman,
1969): both hold the same symbols, in any order, and each symbol is expanded once for both. A symbol that occurs twice in a
production is told apart by a suffix after `#`: `{NP#1} and {NP#2}`.

Only `Random.random` is called, whose sequence Python keeps from version to version.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import accumulate
from random import Random
from typing import NamedTuple

from pipeline.errors import refuse

_SYMBOL = re.compile(r"\{([^{}]+)\}")


class Production(NamedTuple):
    """One way to expand a symbol; weights of a symbol's productions are relative to each other."""

    weight: float
    sides: tuple[str, ...]


class Drawn(NamedTuple):
    """A text per side, and the natural log-probability of the derivation that made them."""

    sides: tuple[str, ...]
    log_prob: float


class Rules(dict[str, list[Production]]):
    """The productions of each symbol, as they are written down."""

    def add(self, symbol: str, weight: float, *sides: str) -> None:
        """One more production of `symbol`, with a text for every side."""
        self.setdefault(symbol, []).append(Production(weight, sides))

    def words(self, symbol: str, weight: float, words: str) -> None:
        """One production per word, each of the same weight, on a single side."""
        for word in words.split():
            self.add(symbol, weight, word)


class _Choice(NamedTuple):
    children: tuple[str, ...]
    formats: tuple[Callable[..., str], ...]
    leaf: Drawn  # the answer itself where there are no children
    log_prob: float


class Grammar:
    """Rules made ready to draw from."""

    def __init__(self, rules: Mapping[str, list[Production]]) -> None:
        self._choices = {symbol: _compiled(productions) for symbol, productions in rules.items()}
        for symbol, (_, choices) in self._choices.items():
            for choice in choices:
                missing = set(choice.children) - set(rules)
                assert not missing, f"{symbol} needs {missing}, which no rule expands"

    def draw(self, symbol: str, random: Random) -> Drawn:
        """One derivation of `symbol`. An empty expansion leaves two blanks in a row."""
        cumulative, choices = self._choices[symbol]
        children, formats, leaf, log_prob = choices[bisect_right(cumulative, random.random())]
        if not children:
            return leaf
        drawn = [self.draw(child, random) for child in children]
        for child in drawn:
            log_prob += child.log_prob
        if len(formats) == 1:
            return Drawn((formats[0](*[child.sides[0] for child in drawn]),), log_prob)
        return Drawn(tuple([form(*[d.sides[i] for d in drawn]) for i, form in enumerate(formats)]), log_prob)


def check_sizes(sizes: Mapping[str, int], splits: tuple[str, ...]) -> None:
    """Refuse a `sizes` block that names an unknown split, or a split without rows."""
    for split, rows in sizes.items():
        if split not in splits:
            raise refuse(f"sizes.{split}", "an unknown split", "one of " + ", ".join(splits), "Remove it.")
        if rows < 1:
            raise refuse(f"sizes.{split}", rows, "at least 1 row")


def _compiled(productions: list[Production]) -> tuple[list[float], list[_Choice]]:
    total = math.fsum(weight for weight, _ in productions)
    cumulative = [reached / total for reached in accumulate(weight for weight, _ in productions)]
    cumulative[-1] = 1.0
    return cumulative, [_choice(sides, math.log(weight / total)) for weight, sides in productions]


def _choice(sides: tuple[str, ...], log_prob: float) -> _Choice:
    names = tuple(dict.fromkeys(_SYMBOL.findall(sides[0])))
    for side in sides:
        assert sorted(_SYMBOL.findall(side)) == sorted(names), f"{sides}: every side has each symbol once"
    places = {name: f"{{{i}}}" for i, name in enumerate(names)}
    formats = tuple(_SYMBOL.sub(lambda match: places[match[1]], side).format for side in sides)
    return _Choice(tuple(name.partition("#")[0] for name in names), formats, Drawn(sides, log_prob), log_prob)
