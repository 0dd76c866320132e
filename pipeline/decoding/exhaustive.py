"""Exhaustive search over every sequence up to `max_length` (d2l section 10.8.2).

It is for tests and toy vocabularies: there are V**max_length hypotheses.

Legend: R rows in the batch (live hypotheses), T tokens of a hypothesis, V vocabulary."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from pipeline.contracts import EOS, Decodable, Prompt
from pipeline.core.errors import at_least_one, refuse
from pipeline.decoding import Floats, Hypothesis, Ints, mask_forbidden, rank
from pipeline.decoding.rules.constraints import Constraints, check_lengths, constrain
from pipeline.decoding.rules.penalty import Penalty, track_coverage

MAX_HYPOTHESES = 1_000_000  # live at the same time


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`search:` of a run, method exhaustive: as beam's, without a width."""

    method: Literal["exhaustive"]
    n_best: int
    max_length: int
    penalty: Penalty
    constraints: Constraints

    def __post_init__(self) -> None:
        check_lengths(self.constraints, self.max_length)
        at_least_one(n_best=self.n_best)


def search(
    model: Decodable[Any], prompt: Prompt, config: Config, generator: torch.Generator
) -> list[list[Hypothesis]]:
    """The `n_best` best hypotheses per sentence that end in <eos>.

    Hypotheses cut at `max_length` are returned only where none ends. `generator` is not used.
    """
    penalty = config.penalty
    with torch.no_grad():
        model = constrain(model, prompt, config.constraints, config.max_length)
        model, coverage_penalty = track_coverage(model, penalty)
        state, last_R = model.begin(prompt)
        device = last_R.device

        finished: list[list[Hypothesis]] = [[] for _ in range(len(last_R))]
        sentence_R = np.arange(len(last_R))
        ids_RT = np.zeros((len(last_R), 0), np.int64)
        log_prob_R = np.zeros(len(last_R))

        for length in range(1, config.max_length + 1):
            log_probs_RV, state = model.step(state, last_R)
            total_RV = log_prob_R[:, None] + mask_forbidden(log_probs_RV).cpu().double().numpy()

            # Finish: each row's extension by <eos>, if its probability is not 0.
            ended_R = np.isfinite(total_RV[:, EOS]).nonzero()[0]
            score_R = total_RV[ended_R, EOS] / penalty.divisor(length) + coverage_penalty(
                state, ended_R
            )
            _collect(
                finished, sentence_R[ended_R], ids_RT[ended_R], total_RV[ended_R, EOS], score_R
            )

            # Extend: each row by every other token. Nothing is pruned.
            total_RV[:, EOS] = -np.inf
            parent_R, token_R = np.isfinite(total_RV).nonzero()
            if len(parent_R) > MAX_HYPOTHESES:
                raise refuse(
                    "search.max_length",
                    config.max_length,
                    f"at most {MAX_HYPOTHESES} hypotheses",
                    "Use method: beam.",
                )
            sentence_R = sentence_R[parent_R]
            log_prob_R = total_RV[parent_R, token_R]
            ids_RT = np.concatenate([ids_RT[parent_R], token_R[:, None]], 1)
            state = model.reorder(state, torch.from_numpy(parent_R).to(device))
            last_R = torch.from_numpy(token_R).to(device)

    # Cut at the limit: live hypotheses count only for sentences without a finished one.
    is_cut_R = [not finished[sentence] for sentence in sentence_R.tolist()]
    cut_R = np.array(is_cut_R, bool).nonzero()[0]
    score_R = log_prob_R[cut_R] / penalty.divisor(config.max_length) + coverage_penalty(
        state, cut_R
    )
    _collect(finished, sentence_R[cut_R], ids_RT[cut_R], log_prob_R[cut_R], score_R)
    return [rank(hypotheses, config.n_best) for hypotheses in finished]


def _collect(
    finished: list[list[Hypothesis]],
    sentence_R: Ints,
    ids_RT: Ints,
    log_prob_R: Floats,
    score_R: Floats,
) -> None:
    """Add the rows as hypotheses of their sentences."""
    rows = zip(
        sentence_R.tolist(), ids_RT.tolist(), log_prob_R.tolist(), score_R.tolist(), strict=True
    )
    for sentence, ids, log_prob, score in rows:
        finished[sentence].append(Hypothesis(tuple(ids), score, log_prob))
