"""Models of a few lines whose next-token probabilities are a hash of the history, and searches over
them."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from pipeline.contracts import BOS, PAD, Prompt
from pipeline.decoding import Hypothesis, beam, exhaustive, greedy
from pipeline.decoding.rules.constraints import Constraints
from pipeline.decoding.rules.penalty import Penalty

VOCABULARY = 8  # the four specials and four words


class Hashed:
    """log P(next | history) from a hash of the prompt and the ids so far; larger `peak`, surer
    model."""

    def __init__(self, seed: int, peak: float = 3.0, vocabulary: int = VOCABULARY) -> None:
        self.seed, self.peak, self.ids, self.rows = seed, peak, torch.arange(vocabulary), 0

    def begin(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        real = torch.arange(prompt.ids_BS.shape[1]) < prompt.length_B[:, None]
        weights = torch.arange(1, prompt.ids_BS.shape[1] + 1) * 7919
        return (prompt.ids_BS * real * weights).sum(1) + self.seed, torch.full_like(
            prompt.length_B, BOS
        )

    def logits(self, state_B: Tensor) -> Tensor:
        mixed = (state_B[:, None] * 1_000_003 + self.ids * 777_767_777) % 2_147_483_647
        return ((mixed * 48_271 % 2_147_483_647) % 10_007).float() / 10_007 * self.peak

    def step(self, state: Tensor, last_B: Tensor) -> tuple[Tensor, Tensor]:
        assert state.shape == last_B.shape
        self.rows += len(last_B)
        state = (state * 16_807 + last_B * 69_621 + 1) % 2_147_483_647
        return self.logits(state).log_softmax(1), state

    def reorder(self, state: Tensor, rows_B: Tensor) -> Tensor:
        return state[rows_B]


class Fixed(Hashed):
    """The same log-probabilities whatever came before; with a list of them, the i-th for the i-th
    step."""

    def __init__(self, *steps: list[float]) -> None:
        self.table, self.rows = torch.tensor(steps), 0

    def begin(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(prompt.length_B), torch.full_like(prompt.length_B, BOS)

    def step(self, state: Tensor, last_B: Tensor) -> tuple[Tensor, Tensor]:
        self.rows += len(last_B)
        return self.table[state.clamp(max=len(self.table) - 1)], state + 1


def prompts(count: int, seed: int = 0) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    length = torch.randint(1, 6, (count,), generator=generator)
    ids = torch.randint(4, 90, (count, 5), generator=generator)
    return Prompt(ids.masked_fill(torch.arange(5) >= length[:, None], PAD), length)


def rows_of(prompt: Prompt, rows: Tensor) -> Prompt:
    prefix_BP = None if prompt.prefix_BP is None else prompt.prefix_BP[rows]
    return Prompt(prompt.ids_BS[rows], prompt.length_B[rows], prefix_BP)


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def penalty(alpha: float = 0.75, length: str = "book", coverage: float = 0.0) -> Penalty:
    return Penalty(length=length, alpha=alpha, coverage=coverage)


def rules(min_length: int = 1, no_repeat_ngram: int | None = None) -> Constraints:
    return Constraints(min_length=min_length, no_repeat_ngram=no_repeat_ngram)


FREE = rules()


def beam_config(
    width: int = 4,
    alpha: float = 0.75,
    n_best: int = 1,
    max_length: int = 6,
    ranked: Penalty | None = None,
    constraints: Constraints = FREE,
) -> beam.Config:
    ranked = ranked or penalty(alpha)
    return beam.Config(
        method="beam",
        width=width,
        n_best=n_best,
        max_length=max_length,
        penalty=ranked,
        constraints=constraints,
    )


def run_beam(model: Hashed, prompt: Prompt, **settings: Any) -> list[list[Hypothesis]]:
    return beam.search(model, prompt, beam_config(**settings), noise())


def run_exhaustive(
    model: Any,
    prompt: Prompt,
    ranked: Penalty,
    n_best: int,
    max_length: int,
    constraints: Constraints = FREE,
) -> list[list[Hypothesis]]:
    setting = exhaustive.Config(
        method="exhaustive",
        n_best=n_best,
        max_length=max_length,
        penalty=ranked,
        constraints=constraints,
    )
    return exhaustive.search(model, prompt, setting, noise())


def run_greedy(
    model: Hashed, prompt: Prompt, max_length: int = 6, constraints: Constraints = FREE
) -> list[list[Hypothesis]]:
    setting = greedy.Config(method="greedy", max_length=max_length, constraints=constraints)
    return greedy.search(model, prompt, setting, noise())


def same(first: list[list[Hypothesis]], second: list[list[Hypothesis]]) -> bool:
    """Same ids; scores to within float64 rounding."""
    pairs = list(itertools.zip_longest(itertools.chain(*first), itertools.chain(*second)))
    return all(
        a.ids == b.ids and math.isclose(a.score, b.score, rel_tol=1e-9, abs_tol=1e-9)
        for a, b in pairs
    )


def next_log_probs(model: Hashed, prompt: Prompt, ids: tuple[int, ...]) -> list[float]:
    """By feeding the whole history anew, one prompt, one row."""
    state, last = model.begin(prompt)
    for token in ids:
        _, state = model.step(state, last)
        last = torch.tensor([token])
    return model.step(state, last)[0][0].tolist()
