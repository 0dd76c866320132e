"""What search methods share: constraints, penalties and ensembles, each alone and in whole searches
against plain Python."""

import itertools
import math
from typing import Any

import pytest
import torch
from decoding_models import (
    FREE,
    Fixed,
    Hashed,
    beam_config,
    next_log_probs,
    noise,
    penalty,
    prompts,
    rows_of,
    rules,
    run_beam,
    run_exhaustive,
    run_greedy,
    same,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.contracts import BOS, EOS, PAD, UNK, Prompt
from pipeline.core.errors import UserError
from pipeline.decoding import Hypothesis, beam, sampling
from pipeline.decoding.rules.constraints import (
    Constraints,
    constrain,
    forbid_early_eos,
    forbid_repeated_ngrams,
    force_prefix,
)
from pipeline.decoding.rules.ensemble import Ensemble
from pipeline.decoding.rules.penalty import CoverageTracker, Penalty
from pipeline.nn.mixture import fit_weights, mix

SEEDS = st.integers(0, 10**6)
RULES = st.builds(rules, st.integers(1, 5), st.sampled_from([None, 1, 2, 3]))
PREFIXES = st.lists(st.lists(st.integers(4, 7), max_size=3), min_size=4, max_size=4)
PENALTIES = st.builds(
    penalty, st.sampled_from([0.0, 0.6, 1.0, 2.0]), st.sampled_from(["book", "gnmt"])
)


class Watched(Hashed):
    """A Hashed model that looks at the source: scores of its places from a hash of the history,
    softmax over the real."""

    def begin(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        hash_B, first_B = super().begin(prompt)
        return torch.cat(
            [hash_B[:, None], prompt.length_B[:, None].expand(-1, prompt.ids_BS.shape[1])], 1
        ), first_B

    def step(self, state: Tensor, last_B: Tensor) -> tuple[Tensor, Tensor]:
        log_probs_BV, hash_B = super().step(state[:, 0], last_B)
        return log_probs_BV, torch.cat([hash_B[:, None], state[:, 1:]], 1)

    def step_with_attention(self, state: Tensor, last_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_probs_BV, after = self.step(state, last_B)
        place_S = torch.arange(after.shape[1] - 1)
        scores_BS = (after[:, :1] * (place_S + 3) * 7919 % 10_007).float() / 2000
        return (
            log_probs_BV,
            after,
            scores_BS.masked_fill(place_S >= after[:, 1:], -torch.inf).softmax(1),
        )


def with_prefix(prompt: Prompt, prefixes: list[list[int]]) -> Prompt:
    width = max(map(len, prefixes))
    rows = torch.tensor([ids + [PAD] * (width - len(ids)) for ids in prefixes]).reshape(
        len(prefixes), width
    )
    return Prompt(prompt.ids_BS, prompt.length_B, rows)


def repeats(ids: tuple[int, ...], size: int) -> bool:
    """Whether the last n-gram of the ids is among the earlier ones."""
    ngrams = [ids[i : i + size] for i in range(len(ids) - size + 1)]
    return bool(ngrams) and ngrams[-1] in ngrams[:-1]


def may_follow(
    ids: tuple[int, ...], token: int, constraints: Constraints, prefix: list[int]
) -> bool:
    if len(ids) < len(prefix):
        return token == prefix[len(ids)]
    if token == EOS:
        return len(ids) + 1 >= constraints.min_length
    return not (constraints.no_repeat_ngram and repeats((*ids, token), constraints.no_repeat_ngram))


def plain_coverage(model: Hashed, prompt: Prompt, fed: tuple[int, ...], beta: float) -> float:
    """Of one prompt and the tokens that were fed, from the weights of every step."""
    if beta == 0:
        return 0.0
    assert isinstance(model, Watched)
    state, last = model.begin(prompt)
    summed = [0.0] * int(prompt.length_B)
    for token in (None, *fed):
        last = last if token is None else torch.tensor([token])
        _, state, weights = model.step_with_attention(state, last)
        summed = [total + float(weights[0, i]) for i, total in enumerate(summed)]
    return beta * sum(math.log(min(total, 1.0)) for total in summed)


def plain_score(
    model: Hashed, prompt: Prompt, ids: tuple[int, ...], log_prob: float, ranked: Penalty
) -> float:
    """Of the ids that were produced, <eos> among them."""
    divisor = (
        len(ids) ** ranked.alpha
        if ranked.length == "book"
        else (5 + len(ids)) ** ranked.alpha / 6**ranked.alpha
    )
    return log_prob / divisor + plain_coverage(model, prompt, ids[:-1], ranked.coverage)


def plain_beam(
    model: Hashed, prompt: Prompt, config: beam.Config, prefix: list[int]
) -> list[Hypothesis]:
    """The textbook loop for one sentence under every rule: no batch, no bound, no tensors."""
    live: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    over: list[tuple[tuple[int, ...], float]] = []
    for _ in range(config.max_length):
        grown = [
            ((*ids, token), log_prob + value)
            for ids, log_prob in live
            for token, value in enumerate(next_log_probs(model, prompt, ids))
            if token not in (PAD, BOS) and may_follow(ids, token, config.constraints, prefix)
        ]
        grown = sorted(grown, key=lambda pair: (-pair[1], pair[0]))[: config.width - len(over)]
        over += [pair for pair in grown if pair[0][-1] == EOS]
        live = [pair for pair in grown if pair[0][-1] != EOS]
    found = [
        Hypothesis(
            tuple(t for t in ids if t != EOS),
            plain_score(model, prompt, ids, log_prob, config.penalty),
            log_prob,
        )
        for ids, log_prob in over or live
    ]
    return sorted(found, key=lambda h: (-h.score, h.ids))[: config.n_best]


# Constraints


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(0, 8), st.integers(1, 4))
def test_only_repeated_ngrams_lose_probability(seed: int, length: int, size: int) -> None:
    said = torch.randint(3, 7, (5, length), generator=noise(seed))
    log_probs = torch.randn(5, 8, generator=noise(seed))
    got = forbid_repeated_ngrams(log_probs, said, size)
    for row, token in itertools.product(range(5), range(8)):
        forbidden = repeats((*said[row].tolist(), token), size)
        assert got[row, token] == (-math.inf if forbidden else log_probs[row, token])


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_the_end_is_forbidden_before_the_minimum_length_and_only_the_end(length: int) -> None:
    log_probs = torch.randn(2, 6, generator=noise(1))
    got = forbid_early_eos(log_probs, length, 3)
    assert bool(got[:, EOS].isneginf().all()) == (length < 3)
    others = [token for token in range(6) if token != EOS]
    assert torch.equal(got[:, others], log_probs[:, others])


def test_forced_token_keeps_model_probability_and_excludes_others() -> None:
    log_probs, free = torch.randn(3, 6, generator=noise(1)), torch.full((3, 6), -math.inf)
    got = force_prefix(free, log_probs, torch.tensor([4, PAD, UNK]))
    assert got.isfinite().nonzero().tolist() == [[0, 4], [2, UNK]]
    assert got[0, 4] == log_probs[0, 4]


def test_without_rules_the_model_is_searched_as_it_is() -> None:
    model = Hashed(1)
    assert constrain(model, prompts(1), FREE, 6) is model


@settings(max_examples=40, deadline=None)
@given(SEEDS, RULES, PENALTIES, PREFIXES, st.integers(1, 5), st.sampled_from([0.0, 0.5]))
def test_the_batched_beam_under_rules_is_the_plain_loop(
    seed: int,
    constraints: Constraints,
    ranked: Penalty,
    prefixes: list[list[int]],
    width: int,
    coverage: float,
) -> None:
    ranked = penalty(ranked.alpha, ranked.length, coverage)
    model, prompt = Watched(seed), with_prefix(prompts(4, seed), prefixes)
    config = beam_config(
        width, n_best=min(width, 3), max_length=5, ranked=ranked, constraints=constraints
    )
    oracle = [
        plain_beam(model, rows_of(prompt, torch.tensor([row])), config, prefixes[row])
        for row in range(4)
    ]
    assert all(oracle)
    assert alike(beam.search(model, prompt, config, noise()), oracle)


def alike(first: list[list[Hypothesis]], second: list[list[Hypothesis]]) -> bool:
    """Same ids; scores to within the rounding of float32, in which models look."""
    pairs = itertools.zip_longest(itertools.chain(*first), itertools.chain(*second))
    return all(a.ids == b.ids and a.score == pytest.approx(b.score, rel=1e-5) for a, b in pairs)


@settings(max_examples=20, deadline=None)
@given(SEEDS, RULES, PENALTIES, PREFIXES, st.sampled_from([0.0, 0.3]))
def test_a_wide_beam_under_rules_is_exhaustive_search(
    seed: int, constraints: Constraints, ranked: Penalty, prefixes: list[list[int]], coverage: float
) -> None:
    constraints = rules(min(constraints.min_length, 4), constraints.no_repeat_ngram)
    ranked = penalty(ranked.alpha, ranked.length, coverage)
    model, prompt = Watched(seed), with_prefix(prompts(4, seed), prefixes)
    by_beam = run_beam(
        model, prompt, width=1000, n_best=9, max_length=4, ranked=ranked, constraints=constraints
    )
    assert same(by_beam, run_exhaustive(model, prompt, ranked, 9, 4, constraints))


@settings(max_examples=20, deadline=None)
@given(SEEDS, RULES, PREFIXES)
def test_under_rules_too_a_beam_of_width_one_is_greedy_search(
    seed: int, constraints: Constraints, prefixes: list[list[int]]
) -> None:
    model, prompt = Hashed(seed), with_prefix(prompts(4, seed), prefixes)
    by_beam = run_beam(model, prompt, width=1, constraints=constraints)
    assert [h.ids for [h] in by_beam] == [
        h.ids for [h] in run_greedy(model, prompt, constraints=constraints)
    ]


@settings(max_examples=20, deadline=None)
@given(SEEDS, RULES, PREFIXES)
def test_samples_obey_the_rules_and_keep_the_models_own_probability(
    seed: int, constraints: Constraints, prefixes: list[list[int]]
) -> None:
    model, prompt = Hashed(seed, peak=1.0), with_prefix(prompts(4, seed), prefixes)
    for row, [said] in enumerate(run_sampling(model, prompt, constraints, seed)):
        ids = (*said.ids, EOS)[:6]
        assert all(may_follow(ids[:i], ids[i], constraints, prefixes[row]) for i in range(len(ids)))
        alone = rows_of(prompt, torch.tensor([row]))
        own = sum(next_log_probs(model, alone, ids[:i])[ids[i]] for i in range(len(ids)))
        assert said.log_prob == pytest.approx(own)


def test_prefix_is_exempt_from_ngram_blocking() -> None:
    prompt = with_prefix(prompts(2), [[4, 4, 5], []])
    first, second = run_beam(Hashed(3), prompt, constraints=rules(no_repeat_ngram=1))
    assert first[0].ids[:3] == (4, 4, 5)
    assert len(set(first[0].ids)) == len(first[0].ids) - 1
    assert len(set(second[0].ids)) == len(second[0].ids)


def test_last_prompt_token_may_be_repeated() -> None:
    class GoingOn(Fixed):
        def begin(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
            return torch.zeros_like(prompt.length_B), torch.full_like(prompt.length_B, 4)

    likes_4_then_5 = GoingOn([-9.0, -9.0, -9.0, -5.0, -1.0, -2.0, -9.0, -9.0])
    [[said]] = run_greedy(
        likes_4_then_5, prompts(1), max_length=2, constraints=rules(no_repeat_ngram=1)
    )
    assert said.ids == (4, 5)


def test_a_prefix_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^prefix: got 6 tokens; expected fewer than search.max_length, 6"
    ):
        run_beam(Hashed(3), with_prefix(prompts(1), [[4] * 6]), max_length=6)


def run_sampling(
    model: Any, prompt: Prompt, constraints: Constraints, seed: int = 0
) -> list[list[Hypothesis]]:
    config = sampling.Config(
        method="sampling",
        temperature=1.0,
        top_k=None,
        top_p=None,
        max_length=6,
        constraints=constraints,
    )
    return sampling.search(model, prompt, config, noise(seed))


SEARCHES = {
    "beam": lambda model, prompt, constraints: run_beam(model, prompt, constraints=constraints),
    "greedy": lambda model, prompt, constraints: run_greedy(model, prompt, constraints=constraints),
    "exhaustive": lambda model, prompt, constraints: run_exhaustive(
        model, prompt, penalty(), 1, 6, constraints
    ),
    "sampling": run_sampling,
}


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_rules_that_nothing_can_obey_are_refused(search: Any) -> None:
    of_four_words = Hashed(1, vocabulary=7)
    assert search(of_four_words, prompts(2), rules(min_length=5, no_repeat_ngram=1))
    with pytest.raises(UserError, match="constraints that leave it a token"):
        search(of_four_words, prompts(2), rules(min_length=6, no_repeat_ngram=1))


# Penalties


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_length_penalties_match_their_papers(alpha: float) -> None:
    for length in range(1, 30):
        assert penalty(alpha).divisor(length) == pytest.approx(length**alpha)
        gnmt = (5 + length) ** alpha / (5 + 1) ** alpha
        assert penalty(alpha, "gnmt").divisor(length) == pytest.approx(gnmt)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(0, 4))
def test_coverage_is_the_papers_sum_over_the_real_source(seed: int, steps: int) -> None:
    model, prompt = Watched(seed), prompts(3, seed)
    tracker = CoverageTracker(model, 0.7)
    state, last = tracker.begin(prompt)
    fed = torch.randint(4, 8, (3, steps), generator=noise(seed))
    _, state = tracker.step(state, last)
    for token in fed.unbind(1):
        _, state = tracker.step(state, token)
    rows = torch.tensor([2, 0, 0, 1])
    got = tracker.coverage_penalty(tracker.reorder(state, rows), torch.arange(4).numpy())
    alone = [
        plain_coverage(model, rows_of(prompt, rows[i : i + 1]), tuple(fed[rows[i]].tolist()), 0.7)
        for i in range(4)
    ]
    eps = torch.finfo(torch.float32).eps  # of sums near 1, whose logarithm is near 0
    assert got == pytest.approx(alone, rel=1e-5, abs=4 * eps)
    assert (got <= 0).all()


def test_a_source_token_that_nothing_looked_at_costs_much_and_not_everything() -> None:
    class Blind(Fixed):
        def step_with_attention(
            self, state: Tensor, last_B: Tensor
        ) -> tuple[Tensor, Tensor, Tensor]:
            return *self.step(state, last_B), torch.eye(5)[:1].expand(len(last_B), -1)

    model = Blind([-9.0, -9.0, -9.0, -0.1, -3.0, -9.0, -9.0, -9.0])
    [[answer]] = run_beam(model, prompts(1), ranked=penalty(coverage=1.0))
    assert -1000 < answer.score < -50


def test_coverage_is_refused_without_attention_weights() -> None:
    for model in (Hashed(1), Ensemble([Watched(1), Hashed(2)])):
        with pytest.raises(
            UserError,
            match=r"^search.penalty.coverage: .* decoding_models; expected a model with attention",
        ):
            run_beam(model, prompts(2), ranked=penalty(coverage=0.2))


def test_with_any_penalty_sentences_still_leave_the_batch_early() -> None:
    model = Watched(1, peak=30.0)
    run_beam(model, prompts(20), width=4, max_length=20, ranked=penalty(0.6, "gnmt", 0.01))
    assert model.rows < 20 * 4 * 20 / 2


# Ensembles


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 4))
def test_an_ensembles_probability_is_the_mean_of_its_models(seed: int, count: int) -> None:
    log_probs = [torch.randn(3, 7, generator=noise(seed + i)).log_softmax(1) for i in range(count)]
    equal = [1 / count] * count
    mean = sum(one.exp() for one in log_probs) / count
    torch.testing.assert_close(mix(log_probs, equal).exp(), mean)
    vetoed = [log_probs[0].index_fill(1, torch.tensor([2]), -torch.inf), *log_probs[1:]]
    assert mix(vetoed, equal)[:, 2].isneginf().all() == (count == 1)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 4))
def test_weights_are_those_of_the_largest_likelihood(seed: int, count: int) -> None:
    log_probs = torch.randn(count, 40, generator=noise(seed), dtype=torch.float64)
    weights = fit_weights(log_probs.numpy())
    assert weights.sum() == pytest.approx(1)
    likelihood = mix(list(log_probs), weights.tolist()).mean()
    for i in range(count):
        for j in range(count):
            moved = weights.copy()
            amount = 0.01 * moved[i]
            moved[i] -= amount
            moved[j] += amount
            assert mix(list(log_probs), moved.tolist()).mean() <= likelihood + 1e-6


def test_a_model_of_weight_0_does_not_count() -> None:
    log_probs = torch.randn(2, 3, 7, generator=noise(1)).log_softmax(2)
    assert torch.equal(mix(list(log_probs), [0.0, 1.0]), log_probs[1])


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_an_ensemble_of_one_or_of_twins_is_the_model(seed: int) -> None:
    prompt, ranked = prompts(3, seed), penalty(0.6, "gnmt", 0.2)
    alone = run_beam(Watched(seed), prompt, n_best=4, ranked=ranked)
    assert run_beam(Ensemble([Watched(seed)]), prompt, n_best=4, ranked=ranked) == alone
    assert alike(
        run_beam(Ensemble([Watched(seed), Watched(seed)]), prompt, n_best=4, ranked=ranked), alone
    )


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_the_order_of_an_ensemble_does_not_matter(seed: int) -> None:
    models, prompt, ranked = (
        [Watched(seed + i) for i in range(3)],
        prompts(3, seed),
        penalty(coverage=0.2),
    )
    forwards = run_beam(Ensemble(models), prompt, n_best=4, ranked=ranked)
    assert alike(run_beam(Ensemble(models[::-1]), prompt, n_best=4, ranked=ranked), forwards)


@settings(max_examples=10, deadline=None)
@given(SEEDS, RULES, PREFIXES, st.sampled_from([0.0, 0.3]))
def test_a_wide_beam_over_an_ensemble_is_exhaustive_search_over_it(
    seed: int, constraints: Constraints, prefixes: list[list[int]], coverage: float
) -> None:
    constraints = rules(min(constraints.min_length, 4), constraints.no_repeat_ngram)
    ensemble, ranked = (
        Ensemble([Watched(seed), Watched(seed + 1, peak=8.0)]),
        penalty(coverage=coverage),
    )
    prompt = with_prefix(prompts(4, seed), prefixes)
    by_beam = run_beam(
        ensemble, prompt, width=1000, n_best=9, max_length=4, ranked=ranked, constraints=constraints
    )
    assert same(by_beam, run_exhaustive(ensemble, prompt, ranked, 9, 4, constraints))
