"""Ranking of hypotheses: log P / lp(L), and the coverage penalty.

    book  lp(L) = L**alpha
        (Sutskever et al. 2014 with alpha 1; Zhang et al., Dive into Deep Learning, 10.8)
    gnmt  lp(L) = ((5 + L) / 6)**alpha
        (Wu et al. 2016, equation 14)

L is the number of tokens, <eos> counted. With coverage beta over 0, beta * sum_i log(min(sum_j
p_ij, 1)) is added, p_ij being what target step j gave to source token i (Wu et al. 2016, equation
14). Both apply to finished hypotheses; unfinished ones compete by log P.

Legend: R rows in the batch (live hypotheses), S source.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from pipeline.contracts import AttentiveDecodable, Decodable, Prompt
from pipeline.core.errors import refuse
from pipeline.decoding import Floats, Ints

# A coverage that underflowed to 0 is raised to this, so that no score is -inf.
MIN_COVERAGE = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, kw_only=True, slots=True)
class Penalty:
    """`alpha`: 0 ranks by probability; 1 with `length: book` by probability per token. `coverage`:
    beta, 0 for none."""

    length: Literal["book", "gnmt"]
    alpha: float
    coverage: float

    def __post_init__(self) -> None:
        for key in ("alpha", "coverage"):
            if not 0 <= getattr(self, key) < math.inf:
                raise refuse(key, getattr(self, key), "0 or more")

    def divisor(self, length: int) -> float:
        """lp(length): it never falls as the length grows, which the beam's bound relies on."""
        per_token = length if self.length == "book" else (5 + length) / 6
        return float(per_token**self.alpha)


class CoverageState(NamedTuple):
    """The model's state, and the attention that each source token has received so far.

    Padding counts as covered.
    """

    model: Any
    coverage_RS: Tensor


class CoverageTracker:
    """A model that also sums its attention over the source in its state."""

    def __init__(self, model: AttentiveDecodable[Any], beta: float) -> None:
        self.model = model
        self.beta = beta

    def begin(self, prompt: Prompt) -> tuple[CoverageState, Tensor]:
        state, first_B = self.model.begin(prompt)
        position_S = torch.arange(prompt.ids_BS.shape[1], device=prompt.length_B.device)
        # log(1) = 0: padding, covered from the start, adds nothing to the penalty
        is_padding_BS = position_S >= prompt.length_B[:, None]
        return CoverageState(state, is_padding_BS.float()), first_B

    def step(self, state: CoverageState, last_R: Tensor) -> tuple[Tensor, CoverageState]:
        log_probs_RV, model, weights_RS = self.model.step_with_attention(state.model, last_R)
        return log_probs_RV, CoverageState(model, state.coverage_RS + weights_RS)

    def reorder(self, state: CoverageState, rows_R: Tensor) -> CoverageState:
        return CoverageState(
            self.model.reorder(state.model, rows_R), state.coverage_RS.index_select(0, rows_R)
        )

    def coverage_penalty(self, state: CoverageState, row: Ints) -> Floats:
        """Coverage penalty, at most 0, of hypotheses (Wu et al. 2016, equation 14).

        The last token of hypothesis i was predicted from row `row[i]` of the state.
        """
        # On the CPU in float64, as all scores.
        index = torch.from_numpy(row).to(state.coverage_RS.device)
        coverage = state.coverage_RS[index].cpu().double()
        penalty: Floats = self.beta * coverage.clamp(MIN_COVERAGE, 1.0).log().sum(1).numpy()
        return penalty


def require_attention(model: Decodable[Any]) -> AttentiveDecodable[Any]:
    """The model, if it has attention over the source; UserError if not."""
    if not isinstance(model, AttentiveDecodable):
        name = type(model).__module__.rpartition(".")[2]
        raise refuse(
            "search.penalty.coverage",
            f"more than 0 with {name}",
            "a model with attention",
            "Set it to 0.0.",
        )
    return model


def track_coverage(
    model: Decodable[Any], penalty: Penalty
) -> tuple[Decodable[Any], Callable[[Any, Ints], Floats | float]]:
    """The model to search, and the function `coverage_penalty(state, row)` of its hypotheses.

    The latter is `CoverageTracker.coverage_penalty`, or 0 if the run has no coverage penalty.
    """
    if penalty.coverage == 0:
        return model, lambda state, row: 0.0
    tracker = CoverageTracker(require_attention(model), penalty.coverage)
    return tracker, tracker.coverage_penalty
