"""Every family: masks proven by perturbation, cached decoding against teacher forcing, and that it
can learn."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from family_cases import LANGUAGE_MODELS, TRANSFORMER, TRANSLATORS
from fitting import fit
from long_cases import mostly_long
from torch import nn

from pipeline.contracts import EOS, PAD, Prompt, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.nn import stream_likelihood
from pipeline.nn.attention_scores import masked_softmax
from pipeline.nn.positional import sinusoidal_TH
from pipeline.tasks import language_model, translation
from pipeline.training import checkpoint

CPU = torch.device("cpu")
SIZES = Sizes(14, 14, True)


def language_model_called(name: str) -> Any:
    torch.manual_seed(1)
    family, block = LANGUAGE_MODELS[name]
    return checkpoint.build(family, block, Sizes(10, 10, True), "model").eval()


def pairs(rows: list[tuple[list[int], list[int]]]) -> pa.Table:
    source, target = zip(*rows, strict=True)
    return pa.table(
        {"row": range(len(rows)), "source": source, "target": target}, schema=tables.ENCODED_PAIR
    )


def reversals(count: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    digits = [[int(d) for d in rng.integers(4, 14, rng.integers(2, 5))] for _ in range(count)]
    return pairs([(row, row[::-1]) for row in digits])


def texts(rows: list[list[int]]) -> pa.Table:
    return pa.table(
        {"row": range(len(rows)), "ids": rows, "paragraph": [0] * len(rows)},
        schema=tables.ENCODED_TEXT,
    )


def prompt_of(*rows: list[int], width: int = 0) -> Prompt:
    width = max(width, *(len(row) for row in rows))
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    return Prompt(ids, torch.tensor([len(row) for row in rows]))


def translation_config(**changes: Any) -> translation.Config:
    given: dict[str, Any] = {"batch_tokens": 400, "label_smoothing": 0.0, "max_length": 40}
    given |= {"scheduled_sampling": None, "padding_in_loss": False}
    return translation.Config(**(given | changes))


@pytest.mark.parametrize(
    "name",
    mostly_long(
        [
            "additive attention",
            "pre-norm transformer",
            "scaled dot attention",
            "seq2seq gru",
            "convolutions",
            "relative positions",
            "rotary positions",
            "averaged heads without scales",
        ],
        1,
    ),
)
def test_every_translator_learns_to_reverse_digits(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    family, block = TRANSLATORS[name]
    if family == "seq2seq":  # all of the sentence must fit into one vector
        block = block | {"hidden": 64}
    model: Any = checkpoint.build(family, block, SIZES, "model")
    task = translation.Task(
        reversals(1500, 1), reversals(20, 2), translation_config(batch_tokens=120), 1, CPU
    )
    fit(model, task, 0.005, 10, tmp_path)
    test = reversals(100, 3)
    right = 0
    for rows, prompt in translation.prompts(test, CPU):
        said_BT = greedy(model, prompt, 6)
        for row, said in zip(rows, said_BT.tolist(), strict=True):
            want = [*test["target"][int(row)].as_py(), EOS]
            right += said[: len(want)] == want
    assert right > 80


@torch.inference_mode()
def greedy(model: Any, prompt: Prompt, steps: int) -> torch.Tensor:
    state, last = model.begin(prompt)
    said = []
    for _ in range(steps):
        log_probs, state = model.step(state, last)
        last = log_probs.argmax(-1)
        said.append(last)
    return torch.stack(said, 1)


@torch.inference_mode()
@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_the_window_of_scoring_changes_no_likelihood(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = language_model_called(name)
    table = texts([[4, 5, 6], [], [7], [8, 9] * 10])
    objective = language_model.Config(
        batch_size=1, steps=2, sampling="random", max_train_tokens=None, softmax_words=None
    )
    whole, count = language_model.likelihood(model, table, objective, CPU)
    monkeypatch.setattr(stream_likelihood, "STEPS", 3)
    pieces, _ = language_model.likelihood(model, table, objective, CPU)
    np.testing.assert_allclose(pieces, whole, rtol=1e-5)
    assert count.tolist() == [4, 1, 2, 21]


@pytest.mark.parametrize("name", [*LANGUAGE_MODELS, *TRANSLATORS])
def test_a_uniform_model_has_the_vocabulary_as_its_perplexity(name: str) -> None:
    translates = name in TRANSLATORS
    family, block = (TRANSLATORS if translates else LANGUAGE_MODELS)[name]
    model: Any = checkpoint.build(family, block, SIZES, "model").eval()
    nn.init.zeros_(model.output.weight)
    nn.init.zeros_(model.output.bias)
    if translates:
        nats, count = translation.likelihood(
            model, pairs([([4, 5], [6, 7, 8]), ([9], [5])]), translation_config(), CPU
        )
    else:
        objective = language_model.Config(
            batch_size=1, steps=2, sampling="random", max_train_tokens=None, softmax_words=None
        )
        nats, count = language_model.likelihood(model, texts([[4, 5, 6], [7]]), objective, CPU)
    assert count.tolist() == [4, 2], "each row and its end"
    assert math.exp(nats.sum() / count.sum()) == pytest.approx(SIZES.target)


def test_label_smoothing_keeps_1_minus_s_and_is_training_only() -> None:
    family, block = TRANSLATORS["additive attention"]
    model: Any = checkpoint.build(family, block, SIZES, "model").eval()
    table = reversals(30, 1)
    plain, smooth = (
        translation.Task(table, table, translation_config(label_smoothing=s), 1, CPU)
        for s in (0.0, 0.2)
    )
    batch = plain.batch(np.arange(30))
    real_BT = batch.label_BT != PAD
    assert not real_BT.all()
    with torch.no_grad():
        log_probs_NV = model.project(
            model.hidden(batch.prompt, batch.input_BT)[real_BT]
        ).log_softmax(-1)
        true_N = log_probs_NV.gather(1, batch.label_BT[real_BT][:, None]).squeeze(1)
        loss, _ = smooth.loss(model, batch, None)
        torch.testing.assert_close(loss.total, -(0.8 * true_N + 0.2 * log_probs_NV.mean(1)).sum())
    assert loss.tokens == real_BT.sum()
    assert float(smooth.validate(model)[0].total) == pytest.approx(
        float(plain.validate(model)[0].total)
    )


def test_masked_softmax_of_fully_masked_row_is_zero() -> None:
    mask = torch.tensor([[True, False, True], [False, False, False]])
    weights = masked_softmax(torch.randn(2, 3), mask)
    assert weights[0].sum() == pytest.approx(1)
    assert not weights[~mask].any()


def test_sinusoids_match_the_paper_term_by_term() -> None:
    table = sinusoidal_TH(7, 6)
    for position, i in np.ndindex(7, 3):
        angle = position / 10000 ** (2 * i / 6)
        assert table[position, 2 * i] == pytest.approx(math.sin(angle), abs=1e-5)
        assert table[position, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-5)


def test_sentences_longer_than_the_position_table_are_read() -> None:
    family, block = TRANSLATORS["pre-norm transformer"]
    model: Any = checkpoint.build(family, block, SIZES, "model").eval()
    with torch.inference_mode():
        assert model.hidden(prompt_of([5] * 700), torch.full((1, 600), 6)).shape == (1, 600, 32)


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        (
            "transformer",
            {"heads": 5},
            "settings.x.model.heads: got 5 with width 32; expected a divisor of width",
        ),
        ("seq2seq", {"cell": "gruu"}, "settings.x.model.cell: got 'gruu'"),
        ("attention_seq2seq", {"score": "cosine"}, "expected one of additive, dot, scaled_dot"),
        ("seq2seq", {"dropout": 1.0}, "settings.x.model.dropout: got 1.0"),
        ("transformer", {"tied": "all"}, "vocab.share: true"),
        (
            "transformer",
            {"variants": ["relative_positions", "rotary_positions"]},
            "variants: got relative_positions and rotary_positions; expected one kind of positions",
        ),
        (
            "transformer",
            {"variants": ["rotary_positions"], "learned_positions": 9},
            "learned_positions: got 9 with rotary_positions; expected null",
        ),
        (
            "transformer",
            {"variants": ["rotary_positions"], "heads": 32},
            "heads: got 32 with width 32 and rotary_positions; expected an even width",
        ),
        ("transformer", {"variants": ["average_heads"] * 2}, "expected each variant once"),
        ("transformer", {"variants": ["relu"]}, "settings.x.model.variants[0]: got 'relu'"),
        (
            "seq2seq",
            {"cell": "reset_gru"},
            "implementation: got fused with cell reset_gru; expected equations",
        ),
        ("transformer", {"cell": "relu_rnn"}, "model.cell: got an unknown key"),
        ("seq2seq", {"variants": ["average_heads"]}, "model.variants: got an unknown key"),
    ],
)
def test_a_model_block_that_cannot_be_is_refused(
    family: str, change: dict[str, Any], said: str
) -> None:
    block = next(b for f, b in TRANSLATORS.values() if f == family) | change
    with pytest.raises(UserError) as refused:
        checkpoint.build(family, block, Sizes(14, 15, False), "settings.x.model")
    assert said.replace("'", "") in str(refused.value).replace("'", "")


@pytest.mark.parametrize("tied", ["none", "output", "all"])
def test_transformer_ties_embeddings_as_configured(tied: str) -> None:
    model: Any = checkpoint.build(
        "transformer", TRANSFORMER | {"norm_first": True, "tied": tied}, SIZES, "model"
    )
    assert (model.output.weight is model.target.weight) == (tied != "none")
    assert (model.source is model.target) == (tied == "all")
