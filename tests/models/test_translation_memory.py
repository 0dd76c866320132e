"""The translation memory: brute-force search for the nearest source, the formula of its
distribution, and searches that find its target."""

import itertools
import math
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
import torch
from decoding_models import beam_config, noise, rules, run_greedy
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contracts import BOS, EOS, PAD, Prompt, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.decoding import beam
from pipeline.nn.concave import mixture_share
from pipeline.tasks import translation
from pipeline.training import checkpoint

CPU = torch.device("cpu")
SIZES = Sizes(9, 7, False)
SIMILARITIES = ["overlap", "tf_idf", "edit"]
WORDS = st.lists(st.integers(4, 8), min_size=1, max_size=7)
SOURCES = st.lists(WORDS, min_size=1, max_size=12)


def pairs(sources: list[list[int]], targets: list[list[int]]) -> pa.Table:
    return pa.table(
        {"row": range(len(sources)), "source": sources, "target": targets},
        schema=tables.ENCODED_PAIR,
    )


def built(similarity: str = "overlap") -> Any:
    return checkpoint.build(
        "translation_memory", {"similarity": similarity}, SIZES, "settings.x.model"
    ).eval()


def memory_of(sources: list[list[int]], targets: list[list[int]], **changes: Any) -> Any:
    model = built(**changes)
    table = pairs(sources, targets)
    model.fit(table, table.slice(0, 1), 1)
    return model


def prompt_of(*rows: list[int], padding: int = 0) -> Prompt:
    ended = [[*row, EOS] for row in rows]
    width = max(len(row) for row in ended) + padding
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in ended])
    return Prompt(ids, torch.tensor([len(row) for row in ended]))


def edit_distance(first: list[int], second: list[int]) -> int:
    """Levenshtein's distance by its recursive definition, a row at a time."""
    above = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        row = [i]
        for j, b in enumerate(second, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b)))
        above = row
    return above[-1]


def overlap(first: list[int], second: list[int]) -> Fraction:
    common = sum(min(first.count(word), second.count(word)) for word in set(first))
    return Fraction(2 * common, len(first) + len(second))


def fuzzy_match(first: list[int], second: list[int]) -> Fraction:
    return 1 - Fraction(edit_distance(first, second), max(len(first), len(second)))


@settings(max_examples=60)
@given(sources=SOURCES, query=WORDS)
@pytest.mark.parametrize(("similarity", "score"), [("overlap", overlap), ("edit", fuzzy_match)])
def test_the_nearest_source_is_that_of_brute_force(
    similarity: str, score: Any, sources: list[list[int]], query: list[int]
) -> None:
    model = memory_of(sources, [[4]] * len(sources), similarity=similarity)
    scores = [score(query, source) for source in sources]
    [found] = model.sources.nearest(prompt_of(query).ids_BS).tolist()
    assert found == scores.index(max(scores)), "the first of the best"


@settings(max_examples=60)
@given(sources=SOURCES, query=WORDS)
def test_the_nearest_source_by_tf_idf_has_the_highest_cosine(
    sources: list[list[int]], query: list[int]
) -> None:
    model = memory_of(sources, [[4]] * len(sources), similarity="tf_idf")
    rarity = {
        word: math.log(len(sources) / max(sum(word in source for source in sources), 1))
        for word in range(4, 9)
    }

    def vector(ids: list[int]) -> list[float]:
        return [ids.count(word) * rarity[word] for word in range(4, 9)]

    def cosine(source: list[int]) -> float:
        a, b = vector(query), vector(source)
        norm = math.hypot(*a) * math.hypot(*b)
        return sum(x * y for x, y in zip(a, b, strict=True)) / norm if norm else 0.0

    [found] = model.sources.nearest(prompt_of(query).ids_BS).tolist()
    assert cosine(sources[found]) == pytest.approx(max(map(cosine, sources)))
    assert found == sources.index(sources[found]), "the first of equal ones"


def test_a_long_list_of_equally_promising_sources_is_compared_in_full() -> None:
    """Anagrams of the source: all have its words, so the bound says nothing."""
    query = [4, 5, 6, 7, 8]
    anagrams = [list(order) for order in itertools.permutations(query)]
    sources = [order for order in anagrams if edit_distance(query, order) > 2]
    assert len(sources) > 64
    model = memory_of(sources, [[4]] * len(sources), similarity="edit")
    distances = [edit_distance(query, source) for source in sources]
    [found] = model.sources.nearest(prompt_of(query).ids_BS).tolist()
    assert found == distances.index(min(distances))


SENTENCES = [[4, 5, 6], [5, 5, 7, 8], [8], [6, 4, 5, 7, 4]]
TARGETS = [[4, 5], [6, 4, 4], [5], [6, 5, 4, 4, 5]]


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_sources_of_the_training_text_get_their_own_targets(similarity: str) -> None:
    model = memory_of(SENTENCES, TARGETS, similarity=similarity)
    prompt = prompt_of(*SENTENCES, padding=3)
    for width in (1, 2, 6):
        config = beam_config(width, max_length=8)
        found = [n_best[0].ids for n_best in beam.search(model, prompt, config, noise())]
        assert found == [tuple(target) for target in TARGETS]
    assert [h.ids for [h] in run_greedy(model, prompt, 8)] == [tuple(t) for t in TARGETS]


def test_a_target_that_may_not_be_given_is_left() -> None:
    model = memory_of(SENTENCES, TARGETS)
    config = beam_config(4, max_length=8, constraints=rules(1, 1))
    [[best, *_]] = beam.search(model, prompt_of([5, 5, 7, 8]), config, noise())
    assert len(set(best.ids)) == len(best.ids)


def expected_log_prob(model: Any, target: list[int], memory: list[int]) -> float:
    """The formula of the module's docstring."""
    share = float(model.share)
    ended = [*memory, EOS]
    chance = 1.0
    for word in [*target, EOS]:
        copied = ended.count(word) / len(ended)
        chance *= (1 - share) * float(model.unigram_V[word]) + share * copied
    return math.log(0.5 * (target == memory) + 0.5 * chance)


@settings(max_examples=40)
@given(target=st.lists(st.integers(4, 6), max_size=5), padding=st.integers(0, 3))
@torch.inference_mode()
def test_likelihoods_follow_the_formula(target: list[int], padding: int) -> None:
    model = memory_of(SENTENCES, TARGETS)
    for source, memory in zip(SENTENCES, TARGETS, strict=True):
        rows = prompt_of(source, [4] * 5, padding=padding)
        fed = torch.tensor([[BOS, *target], [BOS] + [PAD] * len(target)])
        log_probs_TV = model.project(model.hidden(rows, fed)[0])
        total = log_probs_TV.gather(1, torch.tensor([*target, EOS])[:, None]).double().sum()
        assert float(total) == pytest.approx(expected_log_prob(model, target, memory), abs=1e-4)


def test_validation_loss_is_that_of_the_task() -> None:
    model = built()
    valid = pairs([[4, 5, 6], [8, 7], [5, 5, 7]], [[4, 5], [5, 6], [6, 4]])
    loss = model.fit(pairs(SENTENCES, TARGETS), valid, 1)["loss"]

    def mean() -> float:
        nats, count = translation.likelihood(model, valid, None, CPU)
        return float(nats.sum() / count.sum())

    assert mean() == pytest.approx(loss, rel=1e-5)
    assert 0 < float(model.share) < 1


def test_the_share_of_a_mixture_is_where_its_likelihood_is_highest() -> None:
    first_N = torch.tensor([0.1, 0.2, 0.3, 0.2]).double().numpy()
    second_N = torch.tensor([0.0, 0.5, 0.1, 0.6]).double().numpy()
    share = mixture_share(first_N, second_N)

    def log_likelihood(at: float) -> float:
        return sum(math.log((1 - at) * a + at * b) for a, b in zip(first_N, second_N, strict=True))

    assert log_likelihood(share) > max(log_likelihood(share - 0.01), log_likelihood(share + 0.01))
    assert mixture_share(first_N, first_N * 0.5) == 0.0
    assert mixture_share(first_N, first_N * 2) == pytest.approx(1, abs=1e-5)


def test_settings_and_corpora_that_make_no_memory_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"settings\.x\.model\.similarity: got exact; expected one of"
    ):
        built("exact")
    with pytest.raises(UserError, match="corpus: got no training pairs; expected pairs"):
        memory_of([], [])
