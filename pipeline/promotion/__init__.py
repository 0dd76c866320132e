"""Decision whether a challenger becomes champion: a paired test on the same test sets, and guards.

`challenge` compares two trained runs and decides; it promotes nothing. `choose` says which of
several runs is to challenge."""

from pipeline.promotion.compare import challenge
from pipeline.promotion.contenders import Contender
from pipeline.promotion.decision import Decision
from pipeline.promotion.select import choose

__all__ = ["Contender", "Decision", "challenge", "choose"]
