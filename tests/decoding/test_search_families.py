"""Search over small random models of every family that it knows: all of it against lists filtered
in plain Python."""

import itertools
from typing import Any

import pytest
import torch
from decoding_models import beam_config, noise, penalty, rows_of, rules, run_exhaustive, run_greedy
from hypothesis import given, settings
from hypothesis import strategies as st
from long_cases import mostly_long
from torch import Tensor

from pipeline.contracts import BOS, EOS, PAD, UNK, Attentive, AttentiveDecodable, Prompt, Sizes
from pipeline.decoding import Hypothesis, beam
from pipeline.decoding.rules.constraints import Constraints
from pipeline.decoding.rules.ensemble import Ensemble
from pipeline.decoding.rules.penalty import MIN_COVERAGE, Penalty
from pipeline.training import checkpoint

RECURRENT = {
    "embedding": 4,
    "hidden": 6,
    "layers": 1,
    "dropout": 0.0,
    "bidirectional": True,
    "implementation": "fused",
}
TRANSFORMER = {
    "width": 8,
    "heads": 2,
    "feed_forward": 8,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "variants": [],
    "dropout": 0.0,
}
TRANSFORMER |= {"norm": "layer", "learned_positions": None, "implementation": "fused"}
TRANSFORMER_LM = {
    "width": 8,
    "heads": 2,
    "feed_forward": 8,
    "layers": 2,
    "dropout": 0.0,
    "norm": "layer",
    "norm_first": True,
}
# less than is read
TRANSFORMER_LM |= {
    "context": 6,
    "learned_positions": False,
    "tied": True,
    "implementation": "fused",
}
CONVOLUTIONS = {
    "embedding": 4,
    "hidden": 6,
    "kernel": 3,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "dropout": 0.0,
    "learned_positions": 12,
}
TRANSLATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "seq2seq": ("seq2seq", RECURRENT | {"cell": "lstm", "layers": 2}),
    "additive attention": ("attention_seq2seq", RECURRENT | {"cell": "gru", "score": "additive"}),
    "dot attention": (
        "attention_seq2seq",
        RECURRENT | {"cell": "gru", "score": "dot", "bidirectional": False},
    ),
    "scaled dot attention": (
        "attention_seq2seq",
        RECURRENT | {"cell": "lstm", "score": "scaled_dot", "layers": 2},
    ),
    "general attention": ("attention_seq2seq", RECURRENT | {"cell": "rnn", "score": "general"}),
    "gaussian attention": ("attention_seq2seq", RECURRENT | {"cell": "gru", "score": "gaussian"}),
    "pre-norm transformer": ("transformer", TRANSFORMER | {"norm_first": True, "tied": "all"}),
    "post-norm transformer": ("transformer", TRANSFORMER | {"norm_first": False, "tied": "none"}),
    "convolutions": ("conv_seq2seq", CONVOLUTIONS),
    "relative positions": (
        "transformer",
        TRANSFORMER | {"norm_first": True, "tied": "all", "variants": ["relative_positions"]},
    ),
    "rotary positions": (
        "transformer",
        TRANSFORMER | {"norm_first": True, "tied": "all", "variants": ["rotary_positions"]},
    ),
}
LANGUAGE_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "recurrent language model": (
        "recurrent_lm",
        {
            "cell": "lstm",
            "embedding": 4,
            "hidden": 6,
            "layers": 2,
            "dropout": 0.0,
            "tied": False,
            "implementation": "fused",
        },
    ),
    "transformer language model": ("transformer_lm", TRANSFORMER_LM),
}
FAMILIES = TRANSLATORS | LANGUAGE_MODELS
TOGETHER = (
    "additive attention",
    "scaled dot attention",
    "pre-norm transformer",
    "post-norm transformer",
    "convolutions",
)
WORDS = (UNK, 4, 5)
LONGEST = 4
# all that end, and all that are cut
EVERY = sum(len(WORDS) ** n for n in range(LONGEST)) + len(WORDS) ** LONGEST

SEEDS = st.integers(0, 10**6)
# as additive attention, but for the score
SCORED_ALIKE = (
    "dot attention",
    "general attention",
    "gaussian attention",
    "relative positions",
    "rotary positions",
)
family = pytest.mark.parametrize(
    "name", mostly_long(FAMILIES, lambda name: name not in SCORED_ALIKE)
)
ranks = st.builds(
    penalty,
    st.sampled_from([0.0, 0.6, 1.0]),
    st.sampled_from(["book", "gnmt"]),
    st.sampled_from([0.0, 0.4]),
)
constraint = st.builds(rules, st.integers(1, LONGEST), st.sampled_from([None, 1, 2]))
prefix = st.lists(st.sampled_from([4, 5]), max_size=2)


def random_model(name: str, seed: int) -> Any:
    """Weights of three times the usual size, so that the model has opinions; in float64, since they
    blow up what float32 rounds off to what would look like a difference."""
    torch.manual_seed(seed)
    block, config = FAMILIES[name]
    model = checkpoint.build(block, config, Sizes(6, 6, True), "model").double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)
    return model


def sources(seed: int, count: int = 3, width: int = 5) -> Prompt:
    """Sources of 1 to 4 words and <eos>, padded to `width`."""
    length_B = torch.randint(2, 6, (count,), generator=noise(seed))
    ids_BS = torch.randint(4, 6, (count, width), generator=noise(seed))
    place_S = torch.arange(width)
    ids_BS[place_S == length_B[:, None] - 1] = EOS
    return Prompt(ids_BS.masked_fill(place_S >= length_B[:, None], PAD), length_B)


def beginnings(seed: int, count: int = 3, width: int = 5) -> Prompt:
    """<eos> and 1 to 4 words, padded to `width`: what a language model goes on from."""
    length_B = torch.randint(2, 6, (count,), generator=noise(seed))
    ids_BS = torch.randint(4, 6, (count, width), generator=noise(seed))
    ids_BS[:, 0] = EOS
    return Prompt(ids_BS.masked_fill(torch.arange(width) >= length_B[:, None], PAD), length_B)


def prompts_of(name: str, seed: int, count: int = 3) -> Prompt:
    return sources(seed, count) if name in TRANSLATORS else beginnings(seed, count)


def with_prefix(prompt: Prompt, ids: list[int]) -> Prompt:
    return Prompt(
        prompt.ids_BS,
        prompt.length_B,
        torch.tensor([ids] * len(prompt.length_B)).reshape(-1, len(ids)),
    )


def taught(name: str, model: Any, prompt: Prompt, row: int, fed_NT: Tensor) -> Tensor:
    """log_probs_NTV of what comes after each id fed to one sentence, all of it read at once."""
    if name in TRANSLATORS:
        hidden_NTH = model.hidden(rows_of(prompt, torch.full((len(fed_NT),), row)), fed_NT)
    else:
        # the prompt's last id is fed first
        before_P = prompt.ids_BS[row, : int(prompt.length_B[row]) - 1]
        whole, _ = model.hidden(torch.cat([before_P.expand(len(fed_NT), -1), fed_NT], 1), None)
        hidden_NTH = whole[:, len(before_P) :]
    log_probs_NTV: Tensor = model.project(hidden_NTH).double().log_softmax(-1)
    return log_probs_NTV


@torch.inference_mode()
def forced(
    name: str, model: Any, prompt: Prompt, row: int, answers: list[tuple[int, ...]]
) -> tuple[Tensor, Tensor | None]:
    """Of equally long answers of one sentence, each ended by <eos>: their teacher-forced
    log-probabilities, and the weights NTS of the last layer, the mean over heads."""
    first = int(model.begin(prompt)[1][row])
    fed, said = (
        torch.tensor([[first, *ids] for ids in answers]),
        torch.tensor([[*ids, EOS] for ids in answers]),
    )
    log_probs = taught(name, model, prompt, row, fed).gather(2, said[:, :, None])[:, :, 0].sum(1)
    if not isinstance(model, Attentive):
        return log_probs, None
    named = list(model.attention(rows_of(prompt, torch.full((len(fed),), row)), fed).values())
    heads = torch.stack(named[-2:] if len(named) > 1 else named).mean(0)
    return log_probs, heads[:, :, : int(prompt.length_B[row])]


def obeys(ids: tuple[int, ...], constraints: Constraints, begin: list[int]) -> bool:
    """Whether an answer that ends may be given; an n-gram that ends within the prefix may
    repeat."""
    if list(ids[: len(begin)]) != begin or len(ids) + 1 < constraints.min_length:
        return False
    size = constraints.no_repeat_ngram
    ngrams = [ids[i : i + size] for i in range(len(ids) - size + 1)] if size else []
    return not any(
        ngrams[i] in ngrams[:i] for i in range(len(ngrams)) if i + (size or 0) > len(begin)
    )


def filtered(
    name: str,
    model: Any,
    prompt: Prompt,
    ranked: Penalty,
    constraints: Constraints,
    begin: list[int],
) -> list[dict[tuple[int, ...], float]]:
    """By sentence, the score of every answer that ends and obeys, from teacher forcing."""
    found: list[dict[tuple[int, ...], float]] = [{} for _ in prompt.length_B]
    for length in range(LONGEST):
        every = itertools.product(WORDS, repeat=length)
        answers = [ids for ids in every if obeys(ids, constraints, begin)]
        divisor = length + 1 if ranked.length == "book" else (5 + length + 1) / 6
        for row, scores in enumerate(found if answers else []):
            log_probs, weights = forced(name, model, prompt, row, answers)
            missed = (
                0.0
                if weights is None
                else weights.sum(1).double().clamp(MIN_COVERAGE, 1.0).log().sum(1)
            )
            total = log_probs / divisor**ranked.alpha + (
                ranked.coverage * missed if ranked.coverage else 0.0
            )
            scores |= dict(zip(answers, total.tolist(), strict=True))
    return found


def assert_same(found: list[list[Hypothesis]], scores: list[dict[tuple[int, ...], float]]) -> None:
    """The same answers with the same scores in the same order, but for the rounding of float32."""
    for answers, want in zip(found, scores, strict=True):
        assert {h.ids: h.score for h in answers} == pytest.approx(want, rel=1e-4, abs=1e-4)
        assert [h.score for h in answers] == pytest.approx(
            sorted(want.values(), reverse=True), rel=1e-4, abs=1e-4
        )


@family
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, ranked=ranks, constraints=constraint, begin=prefix)
def test_wide_beam_equals_exhaustive_search_under_constraints(
    name: str, seed: int, ranked: Penalty, constraints: Constraints, begin: list[int]
) -> None:
    model, prompt = random_model(name, seed), prompts_of(name, seed)
    if not isinstance(model, AttentiveDecodable):
        ranked = penalty(ranked.alpha, ranked.length)
    want = filtered(name, model, prompt, ranked, constraints, begin)
    asked = with_prefix(prompt, begin) if begin else prompt
    config = beam_config(
        EVERY, n_best=EVERY, max_length=LONGEST, ranked=ranked, constraints=constraints
    )
    assert_same(beam.search(model, asked, config, noise()), want)
    assert_same(run_exhaustive(model, asked, ranked, EVERY, LONGEST, constraints), want)


@family
@settings(max_examples=8, deadline=None)
@given(
    seed=SEEDS,
    ranked=ranks,
    constraints=constraint,
    order=st.permutations(range(4)),
    padding=st.integers(0, 4),
)
def test_batch_order_batch_size_and_padding_change_no_result(
    name: str, seed: int, ranked: Penalty, constraints: Constraints, order: list[int], padding: int
) -> None:
    model, prompt = random_model(name, seed), prompts_of(name, seed, 4)
    if not isinstance(model, AttentiveDecodable):
        ranked = penalty(ranked.alpha, ranked.length)

    def scores(asked: Prompt) -> list[dict[tuple[int, ...], float]]:
        found = run_exhaustive(model, asked, ranked, EVERY, LONGEST, constraints)
        return [{h.ids: h.score for h in answers} for answers in found]

    wider = Prompt(torch.nn.functional.pad(prompt.ids_BS, (0, padding), value=PAD), prompt.length_B)
    permuted = scores(rows_of(wider, torch.tensor(order)))
    for row, want in enumerate(scores(prompt)):
        assert permuted[order.index(row)] == pytest.approx(want, rel=1e-4, abs=1e-4)
        short = int(prompt.length_B[row])
        [alone] = scores(
            Prompt(prompt.ids_BS[row : row + 1, :short], prompt.length_B[row : row + 1])
        )
        assert alone == pytest.approx(want, rel=1e-4, abs=1e-4)


@family
@settings(max_examples=8, deadline=None)
@given(
    seed=SEEDS,
    moves=st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=2, max_size=4),
)
@torch.inference_mode()
def test_cached_steps_with_reordered_beam_equal_full_history(
    name: str, seed: int, moves: list[list[int]]
) -> None:
    model, prompt = random_model(name, seed), prompts_of(name, seed)
    state, last = model.begin(prompt)
    source_B, fed_BT = torch.arange(3), last[:, None]
    for step, move in enumerate(moves):
        rows = torch.tensor(move)
        state, source_B, fed_BT = model.reorder(state, rows), source_B[rows], fed_BT[rows]
        cached, state = model.step(state, fed_BT[:, -1])
        anew = [
            taught(name, model, prompt, int(row), fed[None])[0, -1]
            for row, fed in zip(source_B, fed_BT, strict=True)
        ]
        torch.testing.assert_close(cached.double(), torch.stack(anew), atol=1e-4, rtol=1e-4)
        fed_BT = torch.cat([fed_BT, torch.randint(3, 6, (3, 1), generator=noise(seed + step))], 1)


@pytest.mark.parametrize("name", TRANSLATORS)
@settings(max_examples=4, deadline=None)
@given(seed=SEEDS)
@torch.inference_mode()
def test_looking_at_every_step_is_the_attention_of_teacher_forcing(name: str, seed: int) -> None:
    model, prompt = random_model(name, seed), sources(seed)
    assert isinstance(model, AttentiveDecodable) == isinstance(model, Attentive)
    if not isinstance(model, AttentiveDecodable):
        return
    said = torch.randint(3, 6, (3, 4), generator=noise(seed))
    state, last = model.begin(prompt)
    looked = []
    for token in said.unbind(1):
        plain, _ = model.step(state, last)
        log_probs, state, weights = model.step_with_attention(state, last)
        assert torch.equal(plain, log_probs)
        looked.append(weights)
        last = token
    fed = torch.cat([torch.full((3, 1), BOS), said[:, :-1]], 1)
    named = model.attention(prompt, fed)
    top = [w for key, w in named.items() if key.startswith("layer 2")] or list(named.values())
    torch.testing.assert_close(
        torch.stack(looked, 1), torch.stack(top).mean(0), atol=1e-5, rtol=1e-4
    )


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, ranked=ranks)
def test_families_together_are_searched_as_one_model(seed: int, ranked: Penalty) -> None:
    ensemble = Ensemble([random_model(name, seed) for name in TOGETHER])
    prompt = sources(seed)
    config = beam_config(EVERY, n_best=EVERY, max_length=LONGEST, ranked=ranked)
    every = run_exhaustive(ensemble, prompt, ranked, EVERY, LONGEST)
    assert_same(
        beam.search(ensemble, prompt, config, noise()),
        [{h.ids: h.score for h in answers} for answers in every],
    )
    by_greedy = run_greedy(ensemble, prompt, LONGEST)
    narrow = beam.search(
        ensemble, prompt, beam_config(1, max_length=LONGEST, ranked=ranked), noise()
    )
    assert [h.ids for [h] in narrow] == [h.ids for [h] in by_greedy]
