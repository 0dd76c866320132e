"""Search, on models of a few lines whose next-token probabilities are a hash of the history,
against plain Python."""

import itertools
import math
from collections import Counter

import numpy as np
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
    run_beam,
    run_exhaustive,
    run_greedy,
    same,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contracts import BOS, EOS, PAD, UNK, Prompt
from pipeline.core import config
from pipeline.core.errors import UserError
from pipeline.decoding import Hypothesis, beam, greedy, sampling, stable_topk

ALPHAS = st.sampled_from([0.0, 0.5, 0.75, 1.0, 2.0])
SEEDS = st.integers(0, 10**6)


def sampling_config(
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    max_length: int = 6,
):
    return sampling.Config(
        method="sampling",
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        max_length=max_length,
        constraints=FREE,
    )


def plain_beam(model: Hashed, prompt: Prompt, config: beam.Config) -> list[Hypothesis]:
    """The textbook loop for one sentence: no batch, no bound, no tensors."""
    live, finished, length = [((), 0.0)], [], 0
    for length in range(1, config.max_length + 1):
        grown = []
        for ids, log_prob in live:
            for token, value in enumerate(next_log_probs(model, prompt, ids)):
                if token not in (PAD, BOS) and value > -math.inf:
                    grown.append(((*ids, token), log_prob + value))
        grown = sorted(grown, key=lambda pair: (-pair[1], pair[0]))[: config.width - len(finished)]
        finished += [
            Hypothesis(ids[:-1], lp / length**config.penalty.alpha, lp)
            for ids, lp in grown
            if ids[-1] == EOS
        ]
        live = [pair for pair in grown if pair[0][-1] != EOS]
    finished = finished or [
        Hypothesis(ids, lp / length**config.penalty.alpha, lp) for ids, lp in live
    ]
    return sorted(finished, key=lambda h: (-h.score, h.ids))[: config.n_best]


# The whole search


@settings(max_examples=25, deadline=None)
@given(SEEDS, ALPHAS)
def test_a_beam_of_width_one_is_greedy_search(seed: int, alpha: float) -> None:
    model, prompt = Hashed(seed), prompts(7, seed)
    by_greedy = run_greedy(model, prompt)
    by_beam = run_beam(model, prompt, width=1, alpha=alpha)
    assert [h.ids for [h] in by_beam] == [h.ids for [h] in by_greedy]
    assert [h.log_prob for [h] in by_beam] == [h.log_prob for [h] in by_greedy]


@settings(max_examples=25, deadline=None)
@given(SEEDS, ALPHAS, st.integers(1, 4), st.integers(1, 5))
def test_a_wide_beam_is_exhaustive_search(
    seed: int, alpha: float, max_length: int, n_best: int
) -> None:
    model, prompt = Hashed(seed), prompts(2, seed)
    width = sum(5**n for n in range(1, max_length + 1)) + 5**max_length
    by_beam = run_beam(
        model, prompt, width=width, alpha=alpha, n_best=n_best, max_length=max_length
    )
    assert same(by_beam, run_exhaustive(model, prompt, penalty(alpha), n_best, max_length))


def test_exhaustive_search_agrees_with_scoring_every_sequence_on_its_own() -> None:
    model, prompt = Hashed(3), prompts(1)
    scored = []
    for length in range(1, 4):
        for words in itertools.product([UNK, 4, 5, 6, 7], repeat=length - 1):
            ids = (*words, EOS)
            log_prob = sum(next_log_probs(model, prompt, ids[:i])[ids[i]] for i in range(length))
            scored.append(Hypothesis(words, log_prob / length**0.5, log_prob))
    oracle = sorted(scored, key=lambda h: (-h.score, h.ids))
    assert same(run_exhaustive(model, prompt, penalty(0.5), len(oracle), 3), [oracle])


@settings(max_examples=40, deadline=None)
@given(SEEDS, ALPHAS, st.integers(1, 5), st.integers(1, 5), st.sampled_from([0.5, 3.0, 8.0]))
def test_the_batched_beam_is_the_plain_loop_that_never_stops_early(
    seed: int, alpha: float, width: int, n_best: int, peak: float
) -> None:
    model, prompt = Hashed(seed, peak), prompts(4, seed)
    setting = beam_config(width, alpha, min(n_best, width), 5)
    oracle = [plain_beam(model, rows_of(prompt, torch.tensor([row])), setting) for row in range(4)]
    assert same(beam.search(model, prompt, setting, noise()), oracle)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_sentences_leave_the_batch_when_nothing_better_can_come(alpha: float) -> None:
    sure = [-30.0, -30.0, -30.0, 0.0, -30.0, -30.0, -30.0, -30.0]
    model = Fixed(sure)
    run_beam(model, prompts(3), width=4, alpha=alpha, max_length=20)
    assert model.rows == 3, "one step for each sentence was enough"


@pytest.mark.parametrize("n_best", [1, 3])
def test_a_batch_shrinks_to_the_live_hypotheses(n_best: int) -> None:
    model, prompt = Hashed(1), prompts(50)
    run_beam(model, prompt, width=4, n_best=n_best, max_length=12)
    assert model.rows < 50 * 4 * 12 * 0.8


SEARCHES = {
    "beam": lambda model, prompt: run_beam(model, prompt, n_best=3),
    "greedy": run_greedy,
    "exhaustive": lambda model, prompt: run_exhaustive(model, prompt, penalty(1.0), 3, 3),
}


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_permuting_the_batch_permutes_the_results(search) -> None:
    model, prompt = Hashed(5), prompts(9)
    order = torch.randperm(9, generator=noise(1))
    whole = search(model, prompt)
    assert search(model, rows_of(prompt, order)) == [whole[i] for i in order.tolist()]


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_the_batch_size_does_not_change_results(search) -> None:
    model, prompt = Hashed(6), prompts(9)
    one_by_one = [search(model, rows_of(prompt, torch.tensor([row])))[0] for row in range(9)]
    assert search(model, prompt) == one_by_one


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_padding_and_bos_are_never_produced(search) -> None:
    wants_them = Fixed([-0.1, -5.0, -0.1, -6.0, -3.0, -3.1, -3.2, -3.3])
    for [first, *_] in search(wants_them, prompts(2)):
        assert not {PAD, BOS, EOS} & set(first.ids)


def test_the_n_best_are_distinct_and_sorted() -> None:
    for answers in run_beam(Hashed(8), prompts(20), width=5, n_best=5, max_length=9):
        assert len({answer.ids for answer in answers}) == len(answers)
        assert [a.score for a in answers] == sorted((a.score for a in answers), reverse=True)


def test_equal_scores_are_ordered_by_their_ids() -> None:
    uniform = Fixed([math.log(1 / 8)] * 8)
    [answers] = run_beam(uniform, prompts(1), width=200, alpha=0.0, n_best=12, max_length=3)
    assert [a.ids for a in answers[:7]] == [(), (1,), (4,), (5,), (6,), (7,), (1, 1)]
    [narrow] = run_beam(uniform, prompts(1), width=3, alpha=0.0, n_best=3, max_length=3)
    assert narrow == plain_beam(uniform, prompts(1), beam_config(3, 0.0, 3, 3))
    assert run_greedy(uniform, prompts(1))[0][0].ids == (UNK,) * 6


def test_an_empty_answer_is_an_answer() -> None:
    [[answer]] = run_beam(
        Fixed([-9.0, -9.0, -9.0, -0.01, -9.0, -9.0, -9.0, -9.0]), prompts(1), alpha=0.0
    )
    assert answer.ids == ()
    assert answer.log_prob == pytest.approx(-0.01)


def test_hypotheses_cut_at_the_limit_count_only_where_nothing_ended() -> None:
    never_ends = [-9.0, -1.0, -9.0, -math.inf, -2.0, -3.0, -4.0, -5.0]
    [answers] = run_beam(Fixed(never_ends), prompts(1), width=3, n_best=3, alpha=1.0, max_length=2)
    assert [a.ids for a in answers] == [(1, 1), (1, 4), (4, 1)]
    assert answers[0].score == pytest.approx(-1.0)
    ends_badly = [-9.0, -1.0, -9.0, -4.5, -2.0, -3.0, -4.0, -5.0]
    [answers] = run_beam(Fixed(ends_badly), prompts(1), width=40, n_best=3, alpha=1.0, max_length=2)
    assert [a.ids for a in answers] == [(1,), (4,), (5,)]
    assert len(run_greedy(Fixed(never_ends), prompts(1), 4)[0][0].ids) == 4


def test_the_score_divides_by_the_length_with_eos_to_the_power_alpha() -> None:
    for [answer] in run_beam(Hashed(9), prompts(10), alpha=0.7, max_length=12):
        assert answer.score == pytest.approx(answer.log_prob / (len(answer.ids) + 1) ** 0.7)


def test_a_vocabulary_smaller_than_the_beam_is_no_obstacle() -> None:
    setting = beam_config(width=30, n_best=30, max_length=4)
    assert same(
        beam.search(Hashed(4), prompts(1), setting, noise()),
        [plain_beam(Hashed(4), prompts(1), setting)],
    )


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_a_model_without_probabilities_is_refused(search) -> None:
    with pytest.raises(UserError, match="finite"):
        search(Fixed([math.nan] * 8), prompts(1))


# Its parts


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 12), st.integers(1, 6))
def test_best_takes_the_lower_index_of_equal_values(seed: int, count: int, levels: int) -> None:
    values = torch.randint(0, levels, (5, 10), generator=noise(seed)).float()
    values[1, 3:] = -math.inf
    got_values, got_index = stable_topk(values, count)
    oracle = np.lexsort((np.tile(np.arange(10), (5, 1)), -values.numpy()), axis=1)[:, :count]
    assert got_index.tolist() == oracle.tolist()
    assert got_values.tolist() == np.take_along_axis(values.numpy(), oracle, 1).tolist()


def test_extending_takes_the_best_of_all_rows_of_a_sentence_and_no_more_than_fit() -> None:
    live = beam.Live(np.array([3, 3, 8]), np.array([-1.0, -2.0, -5.0]), np.array([1, 0, 0]))
    values = np.array([[-0.5, -4.0], [-0.1, -0.2], [-0.3, -0.4]])
    tokens = np.array([[6, 4], [5, 7], [4, 5]])
    chosen = beam.extend(live, values, tokens, np.array([2, 1]), width=2)
    assert chosen.log_prob_AK.tolist() == [[-1.5, -2.1], [-5.3, -math.inf]]
    assert chosen.token_AK[0].tolist() == [6, 5]
    assert chosen.parent_AK[:, 0].tolist() == [0, 2]
    assert chosen.parent_AK[0, 1] == 1
    assert chosen.order_AK[0].tolist() == [1, 0], (
        "what extends row 1 precedes what extends row 0, as their rows do"
    )


def test_unrolling_follows_the_back_pointers() -> None:
    levels = [
        beam.Level(np.array([4, 5]), np.array([0, 0])),
        beam.Level(np.array([6, 7, 4]), np.array([1, 0, 1])),
        beam.Level(np.array([5]), np.array([2])),
    ]
    got = beam.backtrace(levels, np.array([0, 1, 2, 3]), np.array([0, 1, 1, 0]))
    assert got == [(), (5,), (4, 7), (5, 4, 5)]


def test_merging_keeps_the_best_scores() -> None:
    kept = np.array([[-1.0, -3.0], [-math.inf, -math.inf]])
    assert beam.merge_scores(kept, np.array([[-2.0, -4.0], [-7.0, -math.inf]])).tolist() == [
        [-1.0, -2.0],
        [-7.0, -math.inf],
    ]


# Sampling


def drawn(setting: sampling.Config, log_probs: list[float], count: int) -> Counter[int]:
    state = Prompt(torch.zeros((count, 1), dtype=torch.long), torch.ones(count, dtype=torch.long))
    found = sampling.search(Fixed(log_probs), state, setting, noise(4))
    return Counter(h.ids[0] if h.ids else EOS for [h] in found)


def logits() -> list[float]:
    return torch.tensor([9.0, 0.2, 9.0, 0.7, 1.5, -0.5, 1.1, 0.0]).log_softmax(0).tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_softmax_at_their_temperature(temperature: float) -> None:
    count = 40_000
    got = drawn(sampling_config(temperature, max_length=1), logits(), count)
    weights = {
        token: math.exp(value / temperature)
        for token, value in enumerate(logits())
        if token not in (PAD, BOS)
    }
    expected = {token: weight / sum(weights.values()) * count for token, weight in weights.items()}
    chi_square = sum((got[token] - want) ** 2 / want for token, want in expected.items())
    assert set(got) <= set(expected)
    assert chi_square < 20.5, "the 0.999 quantile of chi-square with 5 degrees of freedom"


def test_top_k_draws_among_exactly_the_k_likeliest() -> None:
    assert set(drawn(sampling_config(2.0, top_k=3, max_length=1), logits(), 2000)) == {4, 6, 3}


@pytest.mark.parametrize("top_p", [0.1, 0.3, 0.5, 0.8, 0.95, 1.0])
def test_top_p_draws_among_the_fewest_that_hold_the_share(top_p: float) -> None:
    values = np.array([logits()])
    values[0, [PAD, BOS]] = -math.inf
    probs, ids = sampling.distribution(values, sampling_config(top_p=top_p))
    everything = np.exp(values[0]) / np.exp(values[0]).sum()
    order = sorted(range(8), key=lambda token: -everything[token])
    fewest = next(n for n in range(1, 9) if sum(everything[order[:n]]) >= top_p - 1e-12)
    assert set(ids[0][probs[0] > 0]) == set(order[: min(fewest, 6)])
    assert probs.sum() == pytest.approx(1.0)
    assert probs[0, 0] / probs[0].sum() == pytest.approx(
        everything[order[0]] / sum(everything[order[:fewest]])
    )


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_no_uniform_number_picks_a_token_without_probability(uniform: float) -> None:
    probs, ids = np.array([[0.7, 0.3 - 1e-17, 0.0]]), np.array([[5, 4, 6]])
    assert sampling.inverse_transform(probs, ids, np.array([uniform]))[0] in (5, 4)


def test_a_temperature_near_zero_is_greedy_search() -> None:
    model, prompt = Hashed(2), prompts(30)
    cold = sampling.search(model, prompt, sampling_config(0.000001), noise())
    assert [h.ids for [h] in cold] == [h.ids for [h] in run_greedy(model, prompt)]


def test_samples_do_not_depend_on_batching() -> None:
    model, prompt = Hashed(2, peak=1.0), prompts(30)
    whole = sampling.search(model, prompt, sampling_config(max_length=9), noise(7))
    generator = noise(7)
    parts = [
        sampling.search(model, rows_of(prompt, rows), sampling_config(max_length=9), generator)
        for rows in torch.arange(30).split([1, 4, 25])
    ]
    assert whole == [*itertools.chain(*parts)]


def test_a_samples_log_probability_is_the_models_own() -> None:
    model, prompt = Hashed(2), prompts(1)
    [[answer]] = sampling.search(
        model, prompt, sampling_config(1.7, top_k=2, max_length=3), noise(1)
    )
    ids = (*answer.ids, EOS)[:3]
    assert answer.log_prob == pytest.approx(
        sum(next_log_probs(model, prompt, ids[:i])[ids[i]] for i in range(len(ids)))
    )


# Configuration


@pytest.mark.parametrize(
    ("module", "change", "key"),
    [
        (beam, {"n_best": 5}, "n_best"),
        (beam, {"width": 0}, "width"),
        (beam, {"penalty": {"length": "book", "alpha": -0.1, "coverage": 0.0}}, "penalty.alpha"),
        (beam, {"penalty": {"length": "gnmt", "alpha": 0.6, "coverage": -0.2}}, "penalty.coverage"),
        (
            beam,
            {"constraints": {"min_length": 81, "no_repeat_ngram": None}},
            "constraints.min_length",
        ),
        (
            greedy,
            {"constraints": {"min_length": 0, "no_repeat_ngram": None}},
            "constraints.min_length",
        ),
        (
            sampling,
            {"constraints": {"min_length": 1, "no_repeat_ngram": 0}},
            "constraints.no_repeat_ngram",
        ),
        (beam, {"max_length": 0}, "max_length"),
        (sampling, {"temperature": 0.0}, "temperature"),
        (sampling, {"top_k": 0}, "top_k"),
        (sampling, {"top_p": 1.5}, "top_p"),
        (greedy, {"width": 3}, "width"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(module, change: dict, key: str) -> None:
    free, ranked = (
        {"min_length": 1, "no_repeat_ngram": None},
        {"length": "book", "alpha": 0.75, "coverage": 0.0},
    )
    good = {"constraints": free} | {
        beam: {"method": "beam", "width": 4, "n_best": 4, "max_length": 80, "penalty": ranked},
        sampling: {
            "method": "sampling",
            "temperature": 0.8,
            "top_k": None,
            "top_p": None,
            "max_length": 30,
        },
        greedy: {"method": "greedy", "max_length": 30},
    }[module]
    config.load(module.Config, good, "settings.r.search")
    with pytest.raises(UserError, match=f"^settings.r.search.{key}: got"):
        config.load(module.Config, good | change, "settings.r.search")
