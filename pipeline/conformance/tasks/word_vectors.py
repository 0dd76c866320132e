"""Checks of word vectors: pairs of words stand for each other among the words of a topic."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.conformance import Case, Check, expect, expect_shape
from pipeline.conformance.rows import text_table
from pipeline.contracts import ComposedVectors, GloveVectors, Sizes
from pipeline.tasks import word_vectors
from pipeline.training import families

_TOPICS = 8
EXAMPLE = "pipeline.models.word2vec"
SIZES = Sizes(4 + 5 * _TOPICS, 4 + 5 * _TOPICS, True)
OPTIM = {
    "name": "adagrad",
    "weight_decay": 0.0,
    "clip_norm": None,
    "schedule": {"name": "cosine", "warmup_steps": 0},
}
RATES = (0.3, 0.1, 0.03)
EPOCHS = 8
_LEAST = 0.7  # share of the words whose partner is the nearest


def training(model: Any) -> tuple[pa.Table, pa.Table, Any]:
    """Sentences of one topic each, and the objective of the model."""
    if families.supports(type(model), (GloveVectors,)):
        objective: Any = word_vectors.GloveConfig(
            method="glove", window=4, most=100.0, power=0.75, batch_size=16
        )
    else:
        objective = word_vectors.Config(
            method="skip_gram",
            window=4,
            negatives=5,
            subsample=None,
            batch_size=64,
            block_size=8,
            noise_words=8,
        )
    return _rows(2000, 1), _rows(100, 2), objective


def outputs(model: Any) -> Tensor:
    """The vectors VD of all words."""
    with torch.inference_mode():
        if isinstance(model, ComposedVectors):
            return model.vectors()
        vector_VD: Tensor = model.input(torch.arange(SIZES.source))
        return vector_VD


def learned(model: Any) -> tuple[bool, str]:
    """By the nearest words of those with a partner."""
    pairs = 2 * _TOPICS
    unit = torch.nn.functional.normalize(outputs(model)[4 : 4 + pairs].float(), dim=1)
    nearest = (unit @ unit.T - 2 * torch.eye(pairs)).argmax(1).tolist()
    right = sum(word == number ^ 1 for number, word in enumerate(nearest))
    line = f"{right} of {pairs} words near their partner; expected {_LEAST * pairs:.0f}"
    return right >= _LEAST * pairs, line


def shapes(case: Case) -> None:
    """Vectors have one more dimension than the ids, the same in both tables."""
    model = case.model()
    ids = torch.tensor([[4, 5, 6], [7, 8, 9]])
    with torch.inference_mode():
        inputs, outputs = model.input(ids), model.output(ids)
    expect(inputs.dim() == 3, f"input: got shape {tuple(inputs.shape)}; expected ids and D.")
    expect_shape("output", outputs, inputs.shape, "as of `input`")


CHECKS: tuple[Check, ...] = (shapes,)


def _rows(count: int, seed: int) -> pa.Table:
    """Words 2 i and 2 i + 1 after the specials stand for each other among three of topic i."""
    rng = np.random.default_rng(seed)
    rows = []
    for topic in rng.integers(0, _TOPICS, count):
        first, second, third, fourth = (
            4 + 2 * _TOPICS + 3 * topic + rng.integers(0, 3, 4)
        ).tolist()
        word = int(4 + 2 * topic + rng.integers(2))
        rows.append([first, second, word, third, fourth])
    return text_table(rows)
