"""When a challenger becomes the champion: a paired test on the same test sets, and guards on what must not get worse.

`challenge` compares two trained runs and decides; it promotes nothing. `choose` says which of several runs is to challenge.
"""

from pipeline.gate.answers import Contender
from pipeline.gate.choice import choose
from pipeline.gate.contest import challenge
from pipeline.gate.decision import Decision

__all__ = ["Contender", "Decision", "challenge", "choose"]
