"""Beam search with a score that `rules/penalty.py` makes of log P, length and coverage.

A sentence has `width` places. At each step its places are filled with the likeliest extensions of
its live hypotheses; one that ends in <eos> is finished and keeps its place, so fewer go on (as in
Bahdanau et al. 2015). Width 1 is greedy search; a width that holds every sequence is exhaustive
search.

A sentence leaves the batch when nothing that is live can still enter its n best: log P only falls,
L is at most `max_length`, lp never falls as L grows, and coverage adds nothing above 0, so no
continuation scores above log P / lp(max_length). The outcome is therefore the same as without
leaving early. Of each sentence only live hypotheses are rows of the batch.

Legend: B sentences, A those still active, R rows (live hypotheses, by sentence), C candidates per
row, K width, N n_best. The model's device holds the R x V work; the bookkeeping is small and runs
on the CPU in float64."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.contracts import EOS, Decodable, Prompt
from pipeline.core.errors import at_least_one, refuse
from pipeline.decoding import FORBIDDEN, Floats, Hypothesis, Ints, rank, stable_topk
from pipeline.decoding.rules.constraints import Constraints, check_lengths, constrain
from pipeline.decoding.rules.penalty import Penalty, track_coverage


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`width`: hypotheses per sentence; `n_best`: how many answers, at most `width`; `max_length`:
    tokens produced at most, <eos> counted."""

    method: Literal["beam"]
    width: int
    n_best: int
    max_length: int
    penalty: Penalty
    constraints: Constraints

    def __post_init__(self) -> None:
        check_lengths(self.constraints, self.max_length)
        at_least_one(width=self.width)
        if not 1 <= self.n_best <= self.width:
            raise refuse("n_best", self.n_best, f"from 1 to the beam's width, {self.width}")


@dataclass(frozen=True, slots=True)
class Live:
    """The rows of the batch, ordered by sentence: whose they are, their log P, and the place of
    their ids among those of their sentence's rows in lexicographic order."""

    sentence_R: Ints
    log_prob_R: Floats
    order_R: Ints


@dataclass(frozen=True, slots=True)
class Extensions:
    """The new hypotheses of the active sentences, likeliest first; -inf where there are fewer than
    K."""

    log_prob_AK: Floats
    token_AK: Ints
    parent_AK: Ints  # the row it extends
    order_AK: Ints


@dataclass(frozen=True, slots=True)
class Finished:
    """Hypotheses that are over: their last row is row `row` of level `level` (the rows after that
    many tokens)."""

    sentence: Ints
    level: Ints
    row: Ints
    log_prob: Floats
    score: Floats


@dataclass(frozen=True, slots=True)
class Level:
    """The tokens of the rows after a step, and the rows of the level before that they extend."""

    token_R: Ints
    parent_R: Ints


def search(
    model: Decodable[Any], prompt: Prompt, config: Config, generator: torch.Generator
) -> list[list[Hypothesis]]:
    """At most `n_best` hypotheses per sentence that end in <eos>; of those cut at `max_length` only
    where none ends.

    `generator` is not used.
    """
    with torch.no_grad():
        ends, levels, sentences = _ends(model, prompt, config)
    found: list[list[Hypothesis]] = [[] for _ in range(sentences)]
    ids = backtrace(levels, ends.level, ends.row)
    rows = zip(
        ends.sentence.tolist(), ids, ends.score.tolist(), ends.log_prob.tolist(), strict=True
    )
    for sentence, tokens, score, log_prob in rows:
        found[sentence].append(Hypothesis(tokens, score, log_prob))
    return [rank(hypotheses, config.n_best) for hypotheses in found]


def _ends(
    model: Decodable[Any], prompt: Prompt, config: Config
) -> tuple[Finished, list[Level], int]:
    penalty = config.penalty
    model, coverage_penalty = track_coverage(
        constrain(model, prompt, config.constraints, config.max_length), penalty
    )
    state, last_R = model.begin(prompt)
    sentences, device = len(last_R), last_R.device
    live = Live(np.arange(sentences), np.zeros(sentences), np.zeros(sentences, np.int64))
    room_B = np.full(sentences, config.width)
    kept_BN = np.full((sentences, config.n_best), -np.inf)
    ends: list[Finished] = []
    levels: list[Level] = []
    for length in range(1, config.max_length + 1):
        log_probs_RV, state = model.step(state, last_R)
        active_A = np.unique(live.sentence_R)
        chosen = extend(
            live, *top_candidates(log_probs_RV, config.width), room_B[active_A], config.width
        )
        ended_AK = np.isfinite(chosen.log_prob_AK) & (chosen.token_AK == EOS)
        score_AK = np.full(ended_AK.shape, -np.inf)
        over = chosen.log_prob_AK[ended_AK] / penalty.divisor(length) + coverage_penalty(
            state, chosen.parent_AK[ended_AK]
        )
        score_AK[ended_AK] = over
        ends.append(_finished(active_A, chosen, ended_AK, over, length))
        room_B[active_A] -= ended_AK.sum(1)
        kept_BN[active_A] = merge_scores(kept_BN[active_A], score_AK)
        going_AK = np.isfinite(chosen.log_prob_AK) & ~ended_AK
        bound_A = np.where(going_AK, chosen.log_prob_AK, -np.inf).max(1) / penalty.divisor(
            config.max_length
        )
        going_AK &= (bound_A >= kept_BN[active_A, -1])[:, None]
        live, level = _next(active_A, chosen, going_AK)
        levels.append(level)
        if not len(live.sentence_R) or length == config.max_length:
            break
        if not np.array_equal(level.parent_R, np.arange(len(last_R))):
            state = model.reorder(state, torch.from_numpy(level.parent_R).to(device))
        last_R = torch.from_numpy(level.token_R).to(device)
    # cut at the limit, nothing of their sentence being over
    row = np.isneginf(kept_BN[:, 0])[live.sentence_R].nonzero()[0]
    cut_at = live.log_prob_R[row] / penalty.divisor(len(levels)) + coverage_penalty(
        state, levels[-1].parent_R[row]
    )
    cut = Finished(
        live.sentence_R[row], np.full(len(row), len(levels)), row, live.log_prob_R[row], cut_at
    )
    return _joined([*ends, cut]), levels, sentences


def top_candidates(log_probs_RV: Tensor, width: int) -> tuple[Floats, Ints]:
    """The likeliest tokens of each row, enough to fill `width` places: log-probabilities (-inf for
    what is never produced) and ids, each RC."""
    values_RC, tokens_RC = stable_topk(log_probs_RV, width + len(FORBIDDEN))
    values, tokens = values_RC.cpu().double().numpy(), tokens_RC.cpu().numpy()
    return np.where(np.isin(tokens, FORBIDDEN), -np.inf, values), tokens


def extend(live: Live, values_RC: Floats, tokens_RC: Ints, room_A: Ints, width: int) -> Extensions:
    """The likeliest extensions of each sentence's rows, as many as it has room for."""
    first_A, start_R = _blocks(live.sentence_R)
    slot_R = np.arange(len(live.sentence_R)) - first_A[start_R]
    shape = (len(first_A), width, values_RC.shape[1])
    total_AKC, token_AKC = np.full(shape, -np.inf), np.zeros(shape, np.int64)
    total_AKC[start_R, slot_R] = live.log_prob_R[:, None] + values_RC
    token_AKC[start_R, slot_R] = tokens_RC
    order_AKC = np.zeros(shape, np.int64)
    order_AKC[start_R, slot_R] = live.order_R[:, None] * (tokens_RC.max() + 1) + tokens_RC
    total_AX, token_AX, order_AX = (
        x.reshape(len(first_A), -1) for x in (total_AKC, token_AKC, order_AKC)
    )
    take_AK = np.lexsort((order_AX, -total_AX), axis=1)[:, :width]
    total_AK, token_AK, order_AK = (
        np.take_along_axis(x, take_AK, 1) for x in (total_AX, token_AX, order_AX)
    )
    total_AK[np.arange(total_AK.shape[1]) >= room_A[:, None]] = -np.inf
    parent_AK = first_A[:, None] + take_AK // values_RC.shape[1]
    return Extensions(total_AK, token_AK, parent_AK, order_AK.argsort(1).argsort(1))


def merge_scores(kept_AN: Floats, new_AK: Floats) -> Floats:
    """The N best scores of both, descending."""
    return -np.sort(-np.concatenate([kept_AN, new_AK], 1), 1)[:, : kept_AN.shape[1]]


def backtrace(levels: list[Level], level: Ints, row: Ints) -> list[tuple[int, ...]]:
    """The ids of the hypotheses whose last row is row[i] of level[i]; level 0 is the empty
    hypothesis."""
    ids, at = np.zeros((len(row), len(levels)), np.int64), row.copy()
    for depth in range(len(levels), 0, -1):
        inside = (level >= depth).nonzero()[0]
        ids[inside, depth - 1] = levels[depth - 1].token_R[at[inside]]
        at[inside] = levels[depth - 1].parent_R[at[inside]]
    return [
        tuple(tokens[:length]) for tokens, length in zip(ids.tolist(), level.tolist(), strict=True)
    ]


def _blocks(sentence_R: Ints) -> tuple[Ints, Ints]:
    """First row of each sentence, and for each row the number of its sentence among the active."""
    _, first_A, block_R = np.unique(sentence_R, return_index=True, return_inverse=True)
    return first_A, block_R


def _finished(
    active_A: Ints, chosen: Extensions, ended_AK: NDArray[np.bool_], score: Floats, length: int
) -> Finished:
    sentence, place = ended_AK.nonzero()
    level = np.full(len(sentence), length - 1)
    return Finished(
        active_A[sentence],
        level,
        chosen.parent_AK[sentence, place],
        chosen.log_prob_AK[sentence, place],
        score,
    )


def _next(active_A: Ints, chosen: Extensions, going_AK: NDArray[np.bool_]) -> tuple[Live, Level]:
    sentence, place = going_AK.nonzero()
    live = Live(
        active_A[sentence], chosen.log_prob_AK[sentence, place], chosen.order_AK[sentence, place]
    )
    return live, Level(chosen.token_AK[sentence, place], chosen.parent_AK[sentence, place])


def _joined(ends: list[Finished]) -> Finished:
    names = ("sentence", "level", "row", "log_prob", "score")
    return Finished(*(np.concatenate([getattr(end, name) for end in ends]) for name in names))
