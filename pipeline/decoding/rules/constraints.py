"""Constraints on the next token: minimum length, no repeated n-grams, a prefix that every
hypothesis begins with.

A token that may not come has probability 0; the others keep the model's own, without renormalising.
The rules are a Decodable around the model, so that every method obeys them in the same way and pays
nothing where none is set.

Legend: R rows in the batch (live hypotheses), V vocabulary, T ids said so far, P prefix, N n-grams
(or their size)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.contracts import BOS, EOS, PAD, Decodable, Prompt
from pipeline.core.errors import at_least_one, refuse
from pipeline.decoding.rules.penalty import require_attention


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraints:
    """`min_length`: tokens produced at least, <eos> counted as in `max_length`; 1 forbids nothing.
    `no_repeat_ngram`: the size of the n-grams that no hypothesis holds twice (Paulus et al. 2018,
    section 2.5, with 3), or null."""

    min_length: int
    no_repeat_ngram: int | None

    def __post_init__(self) -> None:
        if self.min_length < 1:
            raise refuse(
                "min_length", self.min_length, "at least 1, which forbids nothing: <eos> is counted"
            )
        if self.no_repeat_ngram is not None and self.no_repeat_ngram < 1:
            raise refuse("no_repeat_ngram", self.no_repeat_ngram, "at least 1, or null")


def check_lengths(constraints: Constraints, max_length: int) -> None:
    """For the `__post_init__` of a method's Config."""
    at_least_one(max_length=max_length)
    if constraints.min_length > max_length:
        raise refuse(
            "constraints.min_length", constraints.min_length, f"at most max_length, {max_length}"
        )


def forbid_early_eos(log_probs_RV: Tensor, length: int, min_length: int) -> Tensor:
    """Probability 0 for an <eos> that would be the `length`-th token, where that is too early."""
    if length >= min_length:
        return log_probs_RV
    return log_probs_RV.index_fill(1, torch.tensor([EOS], device=log_probs_RV.device), -torch.inf)


def forbid_repeated_ngrams(log_probs_RV: Tensor, said_RT: Tensor, size: int) -> Tensor:
    """Probability 0 for every token that would make the last `size` tokens of a row an n-gram that
    the row already has."""
    if said_RT.shape[1] < size:
        return log_probs_RV
    ngrams_RNT = said_RT.unfold(1, size, 1)
    # to be completed by the next token; nothing of it when size is 1
    open_RT = said_RT[:, said_RT.shape[1] - size + 1 :]
    row, place = (ngrams_RNT[:, :, :-1] == open_RT[:, None, :]).all(2).nonzero(as_tuple=True)
    return log_probs_RV.index_put(
        (row, ngrams_RNT[row, place, -1]), log_probs_RV.new_tensor(-torch.inf)
    )


def force_prefix(free_RV: Tensor, log_probs_RV: Tensor, wanted_R: Tensor) -> Tensor:
    """Force the token that a row's prefix has (PAD: none), as likely as in `log_probs_RV`;
    elsewhere keep `free_RV`."""
    tokens_V = torch.arange(log_probs_RV.shape[1], device=log_probs_RV.device)
    forced_RV = log_probs_RV.masked_fill(tokens_V != wanted_R[:, None], -torch.inf)
    return torch.where((wanted_R == PAD)[:, None], free_RV, forced_RV)


class ConstrainedState(NamedTuple):
    """The model's state, the ids fed to it (the first is the one to begin with), and the prefix
    that each row must keep."""

    model: Any
    fed_RT: Tensor
    prefix_RP: Tensor


class Constrained:
    """The model under `Constraints` and the prompt's prefix; where they disagree, the prefix is
    said all the same."""

    def __init__(self, model: Decodable[Any], constraints: Constraints) -> None:
        self.model, self.constraints = model, constraints

    def begin(self, prompt: Prompt) -> tuple[ConstrainedState, Tensor]:
        state, first_B = self.model.begin(prompt)
        nothing_B0 = first_B.new_zeros((len(first_B), 0))
        return ConstrainedState(
            state, nothing_B0, nothing_B0 if prompt.prefix_BP is None else prompt.prefix_BP
        ), first_B

    def step(self, state: ConstrainedState, last_R: Tensor) -> tuple[Tensor, ConstrainedState]:
        log_probs_RV, model = self.model.step(state.model, last_R)
        after = ConstrainedState(
            model, torch.cat([state.fed_RT, last_R[:, None]], 1), state.prefix_RP
        )
        return self.obeyed(log_probs_RV, after), after

    def step_and_look(
        self, state: ConstrainedState, last_R: Tensor
    ) -> tuple[Tensor, ConstrainedState, Tensor]:
        log_probs_RV, model, weights_RS = require_attention(self.model).step_and_look(
            state.model, last_R
        )
        after = ConstrainedState(
            model, torch.cat([state.fed_RT, last_R[:, None]], 1), state.prefix_RP
        )
        return self.obeyed(log_probs_RV, after), after, weights_RS

    def reorder(self, state: ConstrainedState, rows_R: Tensor) -> ConstrainedState:
        said = (part.index_select(0, rows_R) for part in (state.fed_RT, state.prefix_RP))
        return ConstrainedState(self.model.reorder(state.model, rows_R), *said)

    def obeyed(self, log_probs_RV: Tensor, state: ConstrainedState) -> Tensor:
        """Set the probabilities of tokens that are not allowed next to zero."""
        length, rules = state.fed_RT.shape[1], self.constraints
        free_RV = forbid_early_eos(log_probs_RV, length, rules.min_length)
        if rules.no_repeat_ngram is not None:
            free_RV = forbid_repeated_ngrams(free_RV, state.fed_RT[:, 1:], rules.no_repeat_ngram)
        if length > state.prefix_RP.shape[1]:
            return free_RV
        return force_prefix(free_RV, log_probs_RV, state.prefix_RP[:, length - 1])


def constrain(
    model: Decodable[Any], prompt: Prompt, constraints: Constraints, max_length: int
) -> Decodable[Any]:
    """The model to search: itself where nothing is asked of the hypotheses. UserError for a prefix
    that leaves no room."""
    if (
        prompt.prefix_BP is None
        and constraints.min_length == 1
        and constraints.no_repeat_ngram is None
    ):
        return model
    if prompt.prefix_BP is not None:
        assert not torch.isin(prompt.prefix_BP, prompt.prefix_BP.new_tensor([BOS, EOS])).any()
        if prompt.prefix_BP.shape[1] >= max_length:
            got = f"{prompt.prefix_BP.shape[1]} tokens"
            raise refuse(
                "prefix", got, f"fewer than search.max_length, {max_length}", "Give a shorter one."
            )
    return Constrained(model, constraints)
