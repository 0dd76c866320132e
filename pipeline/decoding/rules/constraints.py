"""Constraints on the next token: minimum length, no repeated n-grams, a prefix that every
hypothesis begins with.

A forbidden token gets probability 0; the others keep the model's, without renormalising. The rules
are a Decodable around the model, so every method applies them in the same way. Where no rule is
set, the model itself is searched.

Legend: R rows in the batch (live hypotheses), V vocabulary, T ids generated so far, P prefix, N
n-grams (or their size), S source."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.contracts import BOS, EOS, PAD, Decodable, Prompt
from pipeline.core.errors import at_least_one, refuse
from pipeline.decoding.rules.penalty import require_attention


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraints:
    """Block `constraints:` of a search.

    - `min_length`: tokens produced at least, <eos> counted as in `max_length`; 1 forbids nothing.
    - `no_repeat_ngram`: size of the n-grams that no hypothesis holds twice (Paulus et al. 2018,
      section 2.5, with size 3), or null.
    """

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
    """Check a method's lengths, in the `__post_init__` of its Config."""
    at_least_one(max_length=max_length)
    if constraints.min_length > max_length:
        raise refuse(
            "constraints.min_length", constraints.min_length, f"at most max_length, {max_length}"
        )


def forbid_early_eos(log_probs_RV: Tensor, length: int, min_length: int) -> Tensor:
    """Give <eos> probability 0 if it would be the `length`-th token and that is too early."""
    if length >= min_length:
        return log_probs_RV
    return log_probs_RV.index_fill(1, torch.tensor([EOS], device=log_probs_RV.device), -torch.inf)


def forbid_repeated_ngrams(log_probs_RV: Tensor, generated_RT: Tensor, size: int) -> Tensor:
    """Give probability 0 to every token that would repeat an n-gram of its row.

    `size`: length of the n-grams.
    """
    if generated_RT.shape[1] < size:
        return log_probs_RV

    # The next token completes an n-gram with the last size - 1 ids (none when size is 1).
    # Forbid the last id of every earlier n-gram that begins with the same ones.
    ngrams_RNT = generated_RT.unfold(1, size, 1)
    start_RT = generated_RT[:, generated_RT.shape[1] - size + 1 :]
    row, place = (ngrams_RNT[:, :, :-1] == start_RT[:, None, :]).all(2).nonzero(as_tuple=True)
    return log_probs_RV.index_put(
        (row, ngrams_RNT[row, place, -1]), log_probs_RV.new_tensor(-torch.inf)
    )


def force_prefix(free_RV: Tensor, log_probs_RV: Tensor, prefix_R: Tensor) -> Tensor:
    """Force each row's prefix token, with its probability in `log_probs_RV`.

    Where the token is PAD, the row's prefix has ended: keep `free_RV`."""
    tokens_V = torch.arange(log_probs_RV.shape[1], device=log_probs_RV.device)
    forced_RV = log_probs_RV.masked_fill(tokens_V != prefix_R[:, None], -torch.inf)
    return torch.where((prefix_R == PAD)[:, None], free_RV, forced_RV)


class ConstrainedState(NamedTuple):
    """The model's state, the ids fed to it, and the prefix of each row's hypothesis."""

    model: Any
    input_RT: Tensor  # the first one is the id to begin with
    prefix_RP: Tensor


class Constrained:
    """A model under `Constraints` and the prompt's prefix; where they disagree, the prefix
    wins."""

    def __init__(self, model: Decodable[Any], constraints: Constraints) -> None:
        self.model = model
        self.constraints = constraints

    def begin(self, prompt: Prompt) -> tuple[ConstrainedState, Tensor]:
        state, first_B = self.model.begin(prompt)
        empty_B0 = first_B.new_zeros((len(first_B), 0))
        prefix_BP = empty_B0 if prompt.prefix_BP is None else prompt.prefix_BP
        return ConstrainedState(state, empty_B0, prefix_BP), first_B

    def step(self, state: ConstrainedState, last_R: Tensor) -> tuple[Tensor, ConstrainedState]:
        log_probs_RV, model = self.model.step(state.model, last_R)
        input_RT = torch.cat([state.input_RT, last_R[:, None]], 1)
        after = ConstrainedState(model, input_RT, state.prefix_RP)
        return self.apply(log_probs_RV, after), after

    def step_with_attention(
        self, state: ConstrainedState, last_R: Tensor
    ) -> tuple[Tensor, ConstrainedState, Tensor]:
        log_probs_RV, model, weights_RS = require_attention(self.model).step_with_attention(
            state.model, last_R
        )
        input_RT = torch.cat([state.input_RT, last_R[:, None]], 1)
        after = ConstrainedState(model, input_RT, state.prefix_RP)
        return self.apply(log_probs_RV, after), after, weights_RS

    def reorder(self, state: ConstrainedState, rows_R: Tensor) -> ConstrainedState:
        ids = (part.index_select(0, rows_R) for part in (state.input_RT, state.prefix_RP))
        return ConstrainedState(self.model.reorder(state.model, rows_R), *ids)

    def apply(self, log_probs_RV: Tensor, state: ConstrainedState) -> Tensor:
        """Give probability 0 to the tokens that the rules forbid as the next one."""
        rules = self.constraints
        # The input begins with BOS or the like, so its length is that of the hypothesis with the
        # next token.
        length = state.input_RT.shape[1]
        free_RV = forbid_early_eos(log_probs_RV, length, rules.min_length)
        if rules.no_repeat_ngram is not None:
            free_RV = forbid_repeated_ngrams(free_RV, state.input_RT[:, 1:], rules.no_repeat_ngram)
        # The prefix comes last: it overrides the other rules.
        if length > state.prefix_RP.shape[1]:
            return free_RV
        return force_prefix(free_RV, log_probs_RV, state.prefix_RP[:, length - 1])


def constrain(
    model: Decodable[Any], prompt: Prompt, constraints: Constraints, max_length: int
) -> Decodable[Any]:
    """The model to search: `model` itself if there is neither a constraint nor a prefix.

    UserError for a prefix that fills `max_length`.
    """
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
