"""Exhaustive search: every sequence up to `max_length`, for tests and toy vocabularies:
V**max_length hypotheses."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from pipeline.contracts import EOS, Decodable, Prompt
from pipeline.core.errors import at_least_one, refuse
from pipeline.decoding import Floats, Hypothesis, Ints, mask_forbidden, rank
from pipeline.decoding.rules.constraints import Constraints, check_lengths, constrain
from pipeline.decoding.rules.penalty import Penalty, track_coverage

MAX_HYPOTHESES = 1_000_000  # hypotheses alive at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """As beam's, without a width."""

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
    """The `n_best` best that end in <eos>; of those cut at `max_length` only where none ends.
    `generator` is not used."""
    with torch.no_grad():
        model, coverage_penalty = track_coverage(
            constrain(model, prompt, config.constraints, config.max_length), config.penalty
        )
        state, last_R = model.begin(prompt)
        found: list[list[Hypothesis]] = [[] for _ in range(len(last_R))]
        sentence_R, ids_RT, log_prob_R = (
            np.arange(len(last_R)),
            np.zeros((len(last_R), 0), np.int64),
            np.zeros(len(last_R)),
        )
        for length in range(1, config.max_length + 1):
            log_probs_RV, state = model.step(state, last_R)
            total_RV = log_prob_R[:, None] + mask_forbidden(log_probs_RV).cpu().double().numpy()
            ended_R = np.isfinite(total_RV[:, EOS]).nonzero()[0]
            score_R = total_RV[ended_R, EOS] / config.penalty.divisor(length) + coverage_penalty(
                state, ended_R
            )
            _collect(found, sentence_R[ended_R], ids_RT[ended_R], total_RV[ended_R, EOS], score_R)
            total_RV[:, EOS] = -np.inf
            parent_R, token_R = np.isfinite(total_RV).nonzero()
            if len(parent_R) > MAX_HYPOTHESES:
                raise refuse(
                    "search.max_length",
                    config.max_length,
                    f"at most {MAX_HYPOTHESES} hypotheses",
                    "Use method: beam.",
                )
            sentence_R, log_prob_R = sentence_R[parent_R], total_RV[parent_R, token_R]
            ids_RT = np.concatenate([ids_RT[parent_R], token_R[:, None]], 1)
            device = last_R.device
            state, last_R = (
                model.reorder(state, torch.from_numpy(parent_R).to(device)),
                torch.from_numpy(token_R).to(device),
            )
    cut_R = np.array([not found[sentence] for sentence in sentence_R.tolist()], bool).nonzero()[0]
    score_R = log_prob_R[cut_R] / config.penalty.divisor(config.max_length) + coverage_penalty(
        state, cut_R
    )
    _collect(found, sentence_R[cut_R], ids_RT[cut_R], log_prob_R[cut_R], score_R)
    return [rank(hypotheses, config.n_best) for hypotheses in found]


def _collect(
    found: list[list[Hypothesis]],
    sentence_R: Ints,
    ids_RT: Ints,
    log_prob_R: Floats,
    score_R: Floats,
) -> None:
    rows = zip(
        sentence_R.tolist(), ids_RT.tolist(), log_prob_R.tolist(), score_R.tolist(), strict=True
    )
    for sentence, ids, log_prob, score in rows:
        found[sentence].append(Hypothesis(tuple(ids), score, log_prob))
