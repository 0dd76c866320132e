"""IBM model 1: EM against dictionaries, the decoder's distribution against its formula, and what it
learns."""

import math
from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from decoding_models import beam_config, noise, run_greedy
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contracts import BOS, EOS, PAD, Prompt, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.decoding import beam
from pipeline.models import ibm1
from pipeline.nn import lexicon
from pipeline.tasks import translation
from pipeline.text.token_budget import Ragged
from pipeline.training import checkpoint

CPU = torch.device("cpu")
SIZES = Sizes(9, 8, False)
BLOCK = {"iterations": 3, "tension": 1.0, "bigram": 0.5}
SENTENCES = st.lists(
    st.tuples(
        st.lists(st.integers(4, 8), min_size=1, max_size=5),
        st.lists(st.integers(4, 7), min_size=1, max_size=5),
    ),
    min_size=1,
    max_size=6,
)
Rows = list[tuple[list[int], list[int]]]


def pairs(rows: Rows) -> pa.Table:
    sources, targets = zip(*rows, strict=True) if rows else ((), ())
    return pa.table(
        {"row": range(len(rows)), "source": list(sources), "target": list(targets)},
        schema=tables.ENCODED_PAIR,
    )


def built(sizes: Sizes = SIZES, **changes: Any) -> Any:
    return checkpoint.build("ibm1", BLOCK | changes, sizes, "settings.x.model").eval()


def prompt_of(*rows: list[int], padding: int = 0) -> Prompt:
    ended = [[*row, EOS] for row in rows]
    width = max(len(row) for row in ended) + padding
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in ended])
    return Prompt(ids, torch.tensor([len(row) for row in ended]))


def em_by_dictionaries(
    rows: Rows, iterations: int
) -> list[tuple[dict[tuple[int, int], float], float]]:
    """Model 1 as in the pseudocode of Koehn 2010, figure 4.3; 0 is the empty word."""
    prob: dict[tuple[int, int], float] = defaultdict(lambda: 1 / SIZES.target)
    results = []
    for _ in range(iterations):
        count: dict[tuple[int, int], float] = defaultdict(float)
        total: dict[int, float] = defaultdict(float)
        log_likelihood = 0.0
        for source, target in rows:
            for word in target:
                normal = sum(prob[cause, word] for cause in [0, *source])
                log_likelihood += math.log(normal / (len(source) + 1))
                for cause in [0, *source]:
                    count[cause, word] += prob[cause, word] / normal
                    total[cause] += prob[cause, word] / normal
        prob = {pair: value / total[pair[0]] for pair, value in count.items()}
        results.append((prob, log_likelihood))
    return results


@settings(max_examples=40)
@given(rows=SENTENCES, chunk=st.integers(1, 40))
def test_em_is_that_of_dictionaries_and_its_likelihood_never_falls(rows: Rows, chunk: int) -> None:
    table = pairs(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lexicon, "_CHUNK", chunk)
        found = list(
            lexicon.expectation_maximization(
                Ragged(table["source"]), Ragged(table["target"]), 0, SIZES.target, 6
            )
        )
    for step, (expected, log_likelihood) in zip(found, em_by_dictionaries(rows, 6), strict=True):
        assert step.log_likelihood == pytest.approx(log_likelihood)
        keys = zip(step.given.tolist(), step.word.tolist(), strict=True)
        assert dict(zip(keys, step.prob.tolist(), strict=True)) == pytest.approx(expected)
    values = [step.log_likelihood for step in found]
    assert all(after >= before - 1e-9 for before, after in pairwise(values))


ROWS: Rows = [([4, 5], [5, 4]), ([5, 6, 7], [4, 6, 7]), ([8], [7, 7]), ([4, 8, 6], [5, 7, 6])]


def expected_log_probs(model: Any, source: list[int], before: list[int]) -> Any:
    """The formulas of the module's docstring, word by word; the fitted numbers are the model's."""
    table = model.translations
    ratio, variance, share = (float(part) for part in (model.ratio, model.variance, model.share))
    length, position = len(source), len(before)

    expected = min(position / ratio, length - 1)
    weights = np.exp([-model.config.tension * abs(i - expected) for i in range(length)])
    weights *= length / (length + 1) / weights.sum()
    lexical = np.zeros(SIZES.target)
    for cause, weight in zip([BOS, *source], [1 / (length + 1), *weights], strict=True):
        entries = slice(int(table.start[cause]), int(table.start[cause + 1]))
        np.add.at(lexical, table.word[entries].numpy(), weight * table.prob[entries].numpy())
    words = share * lexical + (1 - share) * model.unigram_V.numpy()

    def longer(than: float) -> float:
        return 0.5 * math.erfc((than - ratio * length) / math.sqrt(2 * variance * length))

    all_lengths = longer(position - 0.5) if position else 1.0
    words *= longer(position + 0.5) / all_lengths
    words[EOS] = 1 - longer(position + 0.5) / all_lengths

    last = [BOS, *before][-1]
    bigram = model.backoff_V.numpy()[last] * model.unigram_V.numpy()
    entries = slice(int(model.bigrams.start[last]), int(model.bigrams.start[last + 1]))
    np.add.at(bigram, model.bigrams.word[entries].numpy(), model.bigrams.prob[entries].numpy())
    with np.errstate(divide="ignore"):
        scores = np.log(words)
        if model.config.bigram:
            scores += model.config.bigram * np.log(bigram)
    return scores - np.logaddexp.reduce(scores)


@settings(max_examples=30)
@given(
    target=st.lists(st.integers(4, 7), max_size=5),
    tension=st.sampled_from([0.0, 0.5, 2.0]),
    bigram=st.sampled_from([0.0, 0.5, 1.0]),
)
@torch.inference_mode()
def test_words_have_the_probabilities_of_the_formula(
    target: list[int], tension: float, bigram: float
) -> None:
    model = built(tension=tension, bigram=bigram)
    model.fit(pairs(ROWS), pairs(ROWS[1:3]), 1)
    fed = torch.tensor([[BOS, *target], [BOS] + [PAD] * len(target)])
    for source in ([4, 5, 8], [7], [6, 6, 4, 5]):
        hidden_BTH = model.hidden(prompt_of(source, [4] * 5, padding=2), fed)
        found_TV = model.project(hidden_BTH[0]).log_softmax(-1).numpy()
        for position in range(len(target) + 1):
            want_V = expected_log_probs(model, source, target[:position])
            is_word = np.arange(SIZES.target) > BOS
            np.testing.assert_allclose(
                np.exp(found_TV[position])[is_word], np.exp(want_V)[is_word], atol=1e-5
            )
            assert np.exp(found_TV[position]).sum() == pytest.approx(1, abs=1e-5)


def test_bigrams_of_a_word_sum_to_one() -> None:
    model = built()
    model.fit(pairs(ROWS), pairs(ROWS), 1)
    sums_V = model.backoff_V.clone()
    for given_word in range(SIZES.target):
        start, end = model.bigrams.start[given_word], model.bigrams.start[given_word + 1]
        sums_V[given_word] += model.bigrams.prob[start:end].sum()
    torch.testing.assert_close(sums_V, torch.ones(SIZES.target))
    torch.testing.assert_close(model.unigram_V.sum(), torch.tensor(1.0))


def test_validation_loss_is_that_of_the_task() -> None:
    model = built()
    valid = pairs([([4, 8], [5, 7, 7]), ([7, 6], [7, 6]), ([5], [4])])
    loss = model.fit(pairs(ROWS), valid, 1)["loss"]
    nats, count = translation.likelihood(model, valid, None, CPU)
    assert nats.sum() / count.sum() == pytest.approx(loss, rel=1e-5)


def test_lengths_that_never_occurred_are_possible() -> None:
    """Twenty words for one: tens of standard deviations away."""
    model = built()
    model.fit(pairs(ROWS), pairs(ROWS), 1)
    far = pairs([([4], [5] * 60), ([4] * 60, [5])])
    nats, _ = translation.likelihood(model, far, None, CPU)
    assert np.isfinite(nats).all()


def dictionary(count: int, seed: int) -> Rows:
    """Sources of 3 to 7 of 20 words; each word is translated by its own, and the last five by two
    words."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        source = rng.integers(4, 24, rng.integers(3, 8)).tolist()
        target = [[word] if word < 19 else [word, word + 10] for word in source]
        rows.append((source, [word for words in target for word in words]))
    return rows


@pytest.mark.parametrize("width", [1, 4])
def test_a_dictionary_is_learnt(width: int) -> None:
    train, test = dictionary(2000, 1), dictionary(100, 2)
    single = [row for row in train if max(row[0]) < 19]
    model = built(Sizes(24, 34, False), iterations=8, tension=4.0, bigram=0.0)
    model.fit(pairs(single), pairs(single[:50]), 1)
    sources = [source for source, _ in test if max(source) < 19]
    prompt = prompt_of(*sources)
    if width == 1:
        found = [h.ids for [h] in run_greedy(model, prompt, 12)]
    else:
        config = beam_config(width, max_length=12)
        found = [n_best[0].ids for n_best in beam.search(model, prompt, config, noise())]
    assert found == [tuple(source) for source in sources], "each word is its own translation"


def test_words_of_two_words_are_in_the_table() -> None:
    model = built(Sizes(24, 34, False), iterations=20)
    train = dictionary(2000, 1)
    model.fit(pairs(train), pairs(train[:50]), 1)
    table = model.translations
    for source in range(19, 24):
        entries = slice(int(table.start[source]), int(table.start[source + 1]))
        found = dict(zip(table.word[entries].tolist(), table.prob[entries].tolist(), strict=True))
        assert found[source] == pytest.approx(0.5, abs=0.05)
        assert found[source + 10] == pytest.approx(0.5, abs=0.05)


def test_the_table_adds_the_weighted_probabilities_of_words() -> None:
    table = ibm1.Table(4)
    table.set(np.array([0, 0, 2]), np.array([1, 3, 0]), np.array([0.25, 0.75, 1.0]))
    weights = torch.tensor([[1.0, 0.5], [0.0, 2.0]])
    found = table.add(torch.zeros(2, 4), torch.tensor([[0, 2], [0, 3]]), weights)
    assert found.tolist() == [[0.5, 0.25, 0.0, 0.75], [0.0] * 4]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"iterations": 0}, "settings.x.model.iterations: got 0; expected at least 1."),
        ({"tension": -1}, "settings.x.model.tension: got -1.0; expected at least 0, such as 1.0."),
        ({"bigram": -0.5}, "settings.x.model.bigram: got -0.5; expected at least 0, such as 1.0."),
    ],
)
def test_settings_that_make_no_model_are_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as error:
        built(**changes)
    assert str(error.value) == line


def test_a_corpus_without_pairs_is_refused() -> None:
    with pytest.raises(UserError, match="corpus: got no training pairs; expected pairs"):
        built().fit(pairs([]), pairs([]), 1)
