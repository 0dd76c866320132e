"""Language models that contain another: the cache against two plain loops, the mixture with an
n-gram model, and decoding against the probabilities of a stream."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contracts import EOS, Fitted, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.nn import stream_likelihood
from pipeline.nn.stream_likelihood import stream_log_probs
from pipeline.nn.token_cache import StreamCache
from pipeline.training import checkpoint

VOCABULARY = 9
SIZES = Sizes(VOCABULARY, VOCABULARY, True)
WORDS = list(range(4, VOCABULARY))
BLOCKS: dict[str, dict[str, Any]] = {
    "recurrent_lm": {
        "cell": "lstm", "embedding": 6, "hidden": 10, "layers": 1, "dropout": 0.3,
        "tied": False, "implementation": "fused",
    },
    "transformer_lm": {
        "width": 8, "heads": 2, "feed_forward": 16, "layers": 1, "context": 6, "dropout": 0.3,
        "norm": "layer", "norm_first": True, "learned_positions": False, "tied": True,
        "implementation": "fused",
    },
}  # fmt: skip
NGRAM = {
    "order": 3,
    "smoothing": "kneser_ney",
    "discounts": "estimated",
    "across_rows": True,
    "adaptive": False,
}


def texts(rows: list[list[int]]) -> pa.Table:
    columns = {"row": range(len(rows)), "ids": rows, "paragraph": [0] * len(rows)}
    return pa.table(columns, schema=tables.ENCODED_TEXT)


def sample(count: int, seed: int) -> list[list[int]]:
    """Rows whose words come in bursts, as those of real text."""
    rng = np.random.default_rng(seed)
    return [rng.choice(rng.choice(WORDS, 2), rng.integers(1, 9)).tolist() for _ in range(count)]


def flat(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor([EOS, *(token for row in rows for token in (*row, EOS))])


def component(family: str) -> Any:
    torch.manual_seed(1)
    model = checkpoint.build(family, BLOCKS[family], SIZES, "model").eval()
    for parameter in model.parameters():  # so that its predictions are no longer uniform
        parameter.data *= 2.0
    return model.requires_grad_(False)


def composed(family: str, inner: str, window: int = 7) -> Any:
    block = {"window": window} if family == "cache_lm" else {"ngrams": {"trigram": NGRAM}}
    model = checkpoint.build(family, block, SIZES, "model", component(inner)).eval()
    assert isinstance(model, Fitted)
    model.fit(texts(sample(30, 1)), texts(sample(20, 2)), 1)
    return model


def naive_cache(
    hidden_TH: list[list[float]], next_T: list[int], window: int, theta: float
) -> list[float]:
    """p_cache of each token from its definition, pair by pair."""
    probabilities = []
    for t, hidden_H in enumerate(hidden_TH):
        total = found = 0.0
        for i in range(max(0, t - window), t):
            weight = math.exp(
                theta * sum(a * b for a, b in zip(hidden_H, hidden_TH[i], strict=True))
            )
            total += weight
            found += weight * (next_T[i] == next_T[t])
        probabilities.append(found / total if total else 0.0)
    return probabilities


@settings(max_examples=30)
@given(st.integers(0, 40), st.integers(1, 30), st.integers(1, 9), st.integers(0, 10**6))
def test_the_cache_is_the_one_of_two_plain_loops(
    tokens: int, window: int, piece: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    hidden = torch.from_numpy(rng.normal(size=(tokens, 5))).float()
    following = torch.from_numpy(rng.integers(0, 4, tokens))
    thetas = [0.25, 1.5]
    cache = StreamCache(window, torch.zeros(5))
    pieces = [
        cache.add(hidden[start : start + piece], following[start : start + piece], thetas)
        for start in range(0, tokens, piece)
    ]
    found = torch.cat([torch.zeros(2, 0), *pieces], 1)
    for theta, row in zip(thetas, found.tolist(), strict=True):
        expected = naive_cache(hidden.tolist(), following.tolist(), window, theta)
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("inner", BLOCKS)
def test_a_cache_mixes_both_probabilities(inner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_likelihood, "STEPS", 4)
    model = composed("cache_lm", inner)
    weight = float(model.weight)
    assert 0 < weight < 1
    ids = flat(sample(6, 3))
    hidden, _ = model.component.hidden(ids[None, :-1], None)
    cached = naive_cache(hidden[0].tolist(), ids[1:].tolist(), 7, float(model.theta))
    alone = stream_log_probs(model.component, ids).exp().tolist()
    expected = [
        (1 - weight) * p + weight * cache if t else p
        for t, (p, cache) in enumerate(zip(alone, cached, strict=True))
    ]
    assert model.log_probs(ids).exp().tolist() == pytest.approx(expected, rel=1e-4)


def test_theta_and_weight_have_the_smallest_validation_loss_of_their_neighbours() -> None:
    model = composed("cache_lm", "recurrent_lm")
    valid = flat(sample(20, 2))

    def loss(theta: float, weight: float) -> float:
        other = composed("cache_lm", "recurrent_lm")
        other.theta.fill_(theta)
        other.weight.fill_(weight)
        return float(-other.log_probs(valid).mean())

    theta, weight = float(model.theta), float(model.weight)
    least = loss(theta, weight)
    assert least < float(-stream_log_probs(model.component, valid).mean())
    for factor in (0.8, 1.25):
        assert loss(theta * factor, weight) > least - 1e-4
        assert loss(theta, weight * factor) > least


@pytest.mark.parametrize("inner", BLOCKS)
def test_an_interpolated_model_mixes_both_probabilities(inner: str) -> None:
    model = composed("interpolated_lm", inner)
    ids = flat(sample(6, 3))
    weights = model.weights.double()
    assert float(weights.sum()) == pytest.approx(1)
    both = torch.stack([model.ngrams[0].log_probs(ids), stream_log_probs(model.component, ids)])
    expected = (weights[:, None] * both.exp()).sum(0)
    torch.testing.assert_close(model.log_probs(ids).exp(), expected)

    # The weights are the best ones for the validation text.
    valid = flat(sample(20, 2))
    least = float(-model.log_probs(valid).mean())
    for change in (-0.02, 0.02):
        moved = (weights[0] + change).clamp(0, 1)
        model.weights.copy_(torch.stack([moved, 1 - moved]))
        assert float(-model.log_probs(valid).mean()) > least - 1e-7


def test_a_window_of_0_is_refused() -> None:
    with pytest.raises(UserError, match=r"model.window: got 0; expected at least 1"):
        checkpoint.build("cache_lm", {"window": 0}, SIZES, "model", component("recurrent_lm"))
