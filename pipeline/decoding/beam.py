"""Beam search with a score that `rules/penalty.py` computes from log P, length and coverage.

A sentence has `width` places (d2l section 10.8.3). Each step fills them with the likeliest
extensions of its live hypotheses. One that ends in <eos> is finished and keeps its place, so fewer
continue (as in Bahdanau et al. 2015). Width 1 is greedy search; a width that holds every sequence
is exhaustive search.

A sentence leaves the batch when no live hypothesis can still enter its n best. log P only falls, L
is at most `max_length`, lp never falls as L grows, and the coverage penalty is at most 0; so no
continuation scores above log P / lp(max_length). The result is therefore that of a search that
never stops early. Only live hypotheses are rows of the batch.

Legend: B sentences, A those still active, R rows (live hypotheses, by sentence), C candidates per
row, X = width * C candidates per sentence, K width, N n_best. The R x V work is done on the model's
device; the bookkeeping is small and done on the CPU in float64."""

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
    """`search:` of a run, method beam.

    `width`: hypotheses per sentence; `n_best`: outputs per sentence, at most `width`; `max_length`:
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
    """The rows of the batch, ordered by sentence."""

    sentence_R: Ints
    log_prob_R: Floats
    order_R: Ints  # rank of the row's ids in lexicographic order, within its sentence


@dataclass(frozen=True, slots=True)
class Extensions:
    """The new hypotheses of the active sentences, likeliest first.

    Where there are fewer than K, log_prob_AK is -inf.
    """

    log_prob_AK: Floats
    token_AK: Ints
    parent_AK: Ints  # the row that it extends
    order_AK: Ints  # as Live.order_R


@dataclass(frozen=True, slots=True)
class Finished:
    """Finished hypotheses; their last row is row `row` of level `level` (the rows after that many
    tokens)."""

    sentence: Ints
    level: Ints
    row: Ints
    log_prob: Floats
    score: Floats


@dataclass(frozen=True, slots=True)
class Level:
    """Back-pointers of a step: the tokens of its rows, and the rows of the level before that they
    extend."""

    token_R: Ints
    parent_R: Ints


def search(
    model: Decodable[Any], prompt: Prompt, config: Config, generator: torch.Generator
) -> list[list[Hypothesis]]:
    """At most `n_best` hypotheses per sentence that end in <eos>.

    Hypotheses cut at `max_length` are returned only where none ends. `generator` is not used.
    """
    with torch.no_grad():
        finished, levels, sentences = _search(model, prompt, config)

    hypotheses: list[list[Hypothesis]] = [[] for _ in range(sentences)]
    ids = backtrace(levels, finished.level, finished.row)
    rows = zip(
        finished.sentence.tolist(),
        ids,
        finished.score.tolist(),
        finished.log_prob.tolist(),
        strict=True,
    )
    for sentence, tokens, score, log_prob in rows:
        hypotheses[sentence].append(Hypothesis(tokens, score, log_prob))
    return [rank(of_sentence, config.n_best) for of_sentence in hypotheses]


def _search(
    model: Decodable[Any], prompt: Prompt, config: Config
) -> tuple[Finished, list[Level], int]:
    """All finished hypotheses, the levels that hold their tokens, and the number of sentences."""
    penalty = config.penalty
    model = constrain(model, prompt, config.constraints, config.max_length)
    model, coverage_penalty = track_coverage(model, penalty)
    state, last_R = model.begin(prompt)
    device = last_R.device
    sentences = len(last_R)

    live = Live(np.arange(sentences), np.zeros(sentences), np.zeros(sentences, np.int64))
    places_B = np.full(sentences, config.width)  # not taken by finished hypotheses
    best_BN = np.full((sentences, config.n_best), -np.inf)  # scores of the n best
    finished: list[Finished] = []
    levels: list[Level] = []

    for length in range(1, config.max_length + 1):
        log_probs_RV, state = model.step(state, last_R)
        active_A = np.unique(live.sentence_R)
        values_RC, tokens_RC = top_candidates(log_probs_RV, config.width)
        new = extend(live, values_RC, tokens_RC, places_B[active_A], config.width)

        # Finish: a hypothesis that ends in <eos> gets its final score and keeps its place.
        ended_AK = np.isfinite(new.log_prob_AK) & (new.token_AK == EOS)
        score = new.log_prob_AK[ended_AK] / penalty.divisor(length) + coverage_penalty(
            state, new.parent_AK[ended_AK]
        )
        score_AK = np.full(ended_AK.shape, -np.inf)
        score_AK[ended_AK] = score
        finished.append(_finished(active_A, new, ended_AK, score, length))
        places_B[active_A] -= ended_AK.sum(1)
        best_BN[active_A] = merge_scores(best_BN[active_A], score_AK)

        # Prune: the sentence is complete if no live hypothesis can still enter the n best.
        live_AK = np.isfinite(new.log_prob_AK) & ~ended_AK
        max_log_prob_A = np.where(live_AK, new.log_prob_AK, -np.inf).max(1)
        bound_A = max_log_prob_A / penalty.divisor(config.max_length)
        live_AK &= (bound_A >= best_BN[active_A, -1])[:, None]

        live, level = _next(active_A, new, live_AK)
        levels.append(level)
        if not len(live.sentence_R) or length == config.max_length:
            break
        # Reordering copies the state: skip it where every row has one extension.
        if not np.array_equal(level.parent_R, np.arange(len(last_R))):
            state = model.reorder(state, torch.from_numpy(level.parent_R).to(device))
        last_R = torch.from_numpy(level.token_R).to(device)

    # Cut at the limit: live hypotheses count only for sentences without a finished one.
    row = np.isneginf(best_BN[:, 0])[live.sentence_R].nonzero()[0]
    score = live.log_prob_R[row] / penalty.divisor(len(levels)) + coverage_penalty(
        state, levels[-1].parent_R[row]
    )
    level_of_row = np.full(len(row), len(levels))
    cut = Finished(live.sentence_R[row], level_of_row, row, live.log_prob_R[row], score)
    return _concatenate([*finished, cut]), levels, sentences


def top_candidates(log_probs_RV: Tensor, width: int) -> tuple[Floats, Ints]:
    """The likeliest tokens of each row, enough to fill `width` places: log-probabilities (-inf for
    tokens that are never produced) and ids, both RC."""
    values_RC, tokens_RC = stable_topk(log_probs_RV, width + len(FORBIDDEN))
    values = values_RC.cpu().double().numpy()
    tokens = tokens_RC.cpu().numpy()
    return np.where(np.isin(tokens, FORBIDDEN), -np.inf, values), tokens


def extend(
    live: Live, values_RC: Floats, tokens_RC: Ints, places_A: Ints, width: int
) -> Extensions:
    """The likeliest extensions of each sentence's rows, as many as it has free places."""
    # Scatter the candidates from rows to a block of `width` slots for each sentence.
    first_A, block_R = _blocks(live.sentence_R)
    slot_R = np.arange(len(live.sentence_R)) - first_A[block_R]
    shape = (len(first_A), width, values_RC.shape[1])
    total_AKC = np.full(shape, -np.inf)
    total_AKC[block_R, slot_R] = live.log_prob_R[:, None] + values_RC
    token_AKC = np.zeros(shape, np.int64)
    token_AKC[block_R, slot_R] = tokens_RC

    # Lexicographic order of the new ids: that of the row, then that of the token.
    order_AKC = np.zeros(shape, np.int64)
    order_AKC[block_R, slot_R] = live.order_R[:, None] * (tokens_RC.max() + 1) + tokens_RC

    # Take the best of each sentence; ties are broken by the ids.
    total_AX, token_AX, order_AX = (
        values.reshape(len(first_A), -1) for values in (total_AKC, token_AKC, order_AKC)
    )
    take_AK = np.lexsort((order_AX, -total_AX), axis=1)[:, :width]
    total_AK, token_AK, order_AK = (
        np.take_along_axis(values, take_AK, 1) for values in (total_AX, token_AX, order_AX)
    )
    total_AK[np.arange(total_AK.shape[1]) >= places_A[:, None]] = -np.inf

    parent_AK = first_A[:, None] + take_AK // values_RC.shape[1]
    # argsort of argsort: ranks, so that the numbers do not grow with the length
    return Extensions(total_AK, token_AK, parent_AK, order_AK.argsort(1).argsort(1))


def merge_scores(best_AN: Floats, new_AK: Floats) -> Floats:
    """The N best scores of both, descending."""
    return -np.sort(-np.concatenate([best_AN, new_AK], 1), 1)[:, : best_AN.shape[1]]


def backtrace(levels: list[Level], level: Ints, row: Ints) -> list[tuple[int, ...]]:
    """The ids of the hypotheses whose last row is row[i] of level[i].

    Level 0 is the empty hypothesis.
    """
    ids = np.zeros((len(row), len(levels)), np.int64)
    current = row.copy()
    for depth in range(len(levels), 0, -1):
        # shorter hypotheses join when the walk back reaches their last level
        inside = (level >= depth).nonzero()[0]
        ids[inside, depth - 1] = levels[depth - 1].token_R[current[inside]]
        current[inside] = levels[depth - 1].parent_R[current[inside]]
    return [
        tuple(tokens[:length]) for tokens, length in zip(ids.tolist(), level.tolist(), strict=True)
    ]


def _blocks(sentence_R: Ints) -> tuple[Ints, Ints]:
    """First row of each sentence, and for each row the number of its sentence among the active."""
    _, first_A, block_R = np.unique(sentence_R, return_index=True, return_inverse=True)
    return first_A, block_R


def _finished(
    active_A: Ints, new: Extensions, ended_AK: NDArray[np.bool_], score: Floats, length: int
) -> Finished:
    """The extensions that end in <eos>; their last row is the one that they extend."""
    sentence, place = ended_AK.nonzero()
    return Finished(
        sentence=active_A[sentence],
        level=np.full(len(sentence), length - 1),
        row=new.parent_AK[sentence, place],
        log_prob=new.log_prob_AK[sentence, place],
        score=score,
    )


def _next(active_A: Ints, new: Extensions, live_AK: NDArray[np.bool_]) -> tuple[Live, Level]:
    """The rows of the next step, and their back-pointers."""
    at = live_AK.nonzero()
    live = Live(active_A[at[0]], new.log_prob_AK[at], new.order_AK[at])
    return live, Level(new.token_AK[at], new.parent_AK[at])


def _concatenate(finished: list[Finished]) -> Finished:
    names = ("sentence", "level", "row", "log_prob", "score")
    return Finished(*(np.concatenate([getattr(part, name) for part in finished]) for name in names))
