"""Challenger evaluation: a paired test of a challenger against the champion on the same test sets.

`select_challenger` picks the challenger among several runs. `challenge` compares it with the
champion and decides; it promotes nothing."""

from pipeline.promotion.compare import challenge
from pipeline.promotion.contenders import Contender
from pipeline.promotion.decision import Decision
from pipeline.promotion.select import select_challenger

__all__ = ["Contender", "Decision", "challenge", "select_challenger"]
