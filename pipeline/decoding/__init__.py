"""Search over `contracts.Decodable`: each file in this folder is one method, exporting `Config` and
`search`.

    search(model, prompt, config, generator) -> [sentence][n-best] of Hypothesis, best first

`search.method` in `params.yaml` is the file's name. All methods hold to these rules:
- A hypothesis has at most `max_length` tokens, <eos> counted. `rules/` constrains its tokens and,
  where hypotheses compete, turns its log P into a score.
- <pad> and <bos> are never produced. <unk> may be, as in training; its probability is not given to
  other tokens.
- Log-probabilities are the model's, summed in float64 on the CPU, and never renormalised.
- Finished sentences leave the batch, so the other rows of a batch change nothing but the rounding
  of the model's kernels.
- Ties are broken by score (descending), then by the token ids in lexicographic order (ascending).

Legend: B sentences, R rows in the batch (live hypotheses), V vocabulary, K the K best of a row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.contracts import BOS, EOS, PAD, Decodable, Prompt
from pipeline.core.errors import UserError, refuse

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FORBIDDEN = (PAD, BOS)  # ids that are never produced


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """An output sequence: its ids without <bos> and <eos>, the score that ranks it, and its natural
    log-probability."""

    ids: tuple[int, ...]
    score: float
    log_prob: float


def rank(hypotheses: list[Hypothesis], n_best: int) -> list[Hypothesis]:
    """The `n_best` best, by descending score, then ascending ids. UserError if there is none."""
    if not hypotheses:
        raise no_hypothesis_error()
    return sorted(hypotheses, key=lambda h: (-h.score, h.ids))[:n_best]


def no_hypothesis_error() -> UserError:
    """The error for a search without a hypothesis: probabilities are not finite, or constraints
    forbid every token."""
    return refuse(
        "search",
        "no hypothesis of finite probability",
        "a model whose weights are finite, and constraints that leave it a token",
        "Train the run again, or loosen them.",
    )


def stable_topk(values_RV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest values of each row, descending, and their indices, both RK.

    Of equal values the lower index comes first. `torch.topk` leaves open the order of equal values,
    and which of them it takes."""
    count = min(count, values_RV.shape[1])
    values_RK, index_RK = values_RV.topk(count, dim=1)

    # Where more than `count` values reach the smallest one taken, topk had a choice: sort the row.
    has_ties_R = (values_RV >= values_RK[:, -1:]).sum(1) > count
    if bool(has_ties_R.any()):
        in_order = values_RV[has_ties_R].sort(dim=1, descending=True, stable=True)
        values_RK[has_ties_R] = in_order.values[:, :count]
        index_RK[has_ties_R] = in_order.indices[:, :count]

    # Sort by index, then stably by value: equal values stay in the order of their indices.
    index_RK, by_index_RK = index_RK.sort(dim=1)
    values_RK, by_value_RK = values_RK.gather(1, by_index_RK).sort(
        dim=1, descending=True, stable=True
    )
    return values_RK, index_RK.gather(1, by_value_RK)


def mask_forbidden(log_probs_RV: Tensor) -> Tensor:
    """A copy in which the ids that are never produced have probability 0."""
    return log_probs_RV.index_fill(
        1, torch.tensor(FORBIDDEN, device=log_probs_RV.device), -torch.inf
    )


def generate(
    model: Decodable[Any],
    prompt: Prompt,
    max_length: int,
    choose_tokens: Callable[[Tensor, Ints, int], Tensor],
) -> list[list[Hypothesis]]:
    """One hypothesis per sentence, token by token; its score is its log-probability.

    `choose_tokens(log_probs_RV, sentence_R, position)` returns the next ids of the live rows,
    int64, on the model's device."""
    with torch.no_grad():
        state, last_R = model.begin(prompt)
        sentences = len(last_R)
        ids_BT = np.zeros((sentences, max_length), np.int64)
        length_B = np.zeros(sentences, np.int64)
        log_prob_B = np.zeros(sentences)
        sentence_R = np.arange(sentences)

        # One step of the model for all live rows; row i belongs to sentence_R[i].
        for position in range(max_length):
            if not len(sentence_R):
                break
            log_probs_RV, state = model.step(state, last_R)
            log_probs_RV = mask_forbidden(log_probs_RV)
            last_R = choose_tokens(log_probs_RV, sentence_R, position)
            log_prob_B[sentence_R] += (
                log_probs_RV.gather(1, last_R[:, None])[:, 0].cpu().double().numpy()
            )

            token_R = last_R.cpu().numpy()
            live_R = token_R != EOS
            ids_BT[sentence_R, position] = token_R
            length_B[sentence_R] += live_R

            # Finished sentences leave the batch.
            if not live_R.all():
                rows_R = torch.from_numpy(live_R.nonzero()[0]).to(last_R.device)
                state = model.reorder(state, rows_R)
                last_R = last_R[rows_R]
                sentence_R = sentence_R[live_R]

    if not np.isfinite(log_prob_B).all():
        raise no_hypothesis_error()
    rows = zip(ids_BT.tolist(), length_B.tolist(), log_prob_B.tolist(), strict=True)
    return [[Hypothesis(tuple(ids[:length]), log_prob, log_prob)] for ids, length, log_prob in rows]
