"""Checks of language models: each row is the same sequence of words."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.conformance import (
    ADAM,
    CPU,
    Case,
    Check,
    expect,
    expect_different,
    expect_same,
    expect_shape,
    is_trained,
    log_probs,
)
from pipeline.conformance.rows import perplexity, text_table
from pipeline.conformance.searches import check_states, check_step
from pipeline.contracts import EOS, Prompt, Sizes, StreamScorer
from pipeline.nn.stream_likelihood import stream_log_probs
from pipeline.tasks import language_model

EXAMPLE = "pipeline.conformance.template"
SIZES = Sizes(10, 10, True)
OPTIM = ADAM
RATES = (0.01, 0.002, 0.03)
EPOCHS = 8
_SENTENCE = [4, 5, 6, 7, 8, 9]
_MOST = 1.3  # perplexity
_STEPS = (
    "The stream is EOS, then the rows, each with its EOS. `begin` reads the prompt up to its last "
    "id and returns this id, which is fed first."
)


def training(model: Any) -> tuple[pa.Table, pa.Table, language_model.Config]:
    """The sentence, many times."""
    objective = language_model.Config(
        batch_size=4, steps=16, sampling="random", max_train_tokens=None, softmax_words=None
    )
    return text_table([_SENTENCE] * 200), text_table([_SENTENCE] * 5), objective


def outputs(model: Any) -> Tensor:
    """Log-probabilities of a stream."""
    return stream_log_probs(model, _stream())


def learned(model: Any) -> tuple[bool, str]:
    """By the perplexity of the sentence; a fitted model must be better than chance alone."""
    nats, count = language_model.likelihood(model, text_table([_SENTENCE] * 3), None, CPU)
    return perplexity(nats[1:], count[1:], _MOST if is_trained(model) else SIZES.target)


def shapes(case: Case) -> None:
    """Outputs have their shapes and types, and log-probabilities sum to 1."""
    model = case.model()
    ids_T = _stream()
    if isinstance(model, StreamScorer):
        log_probs_T = model.log_probs(ids_T)
        expect_shape("log_probs", log_probs_T, (len(ids_T) - 1,), "T - 1")
        dtype = log_probs_T.dtype
        expect(dtype == torch.float64, f"log_probs: got {dtype}; expected float64.")
    else:
        with torch.inference_mode():
            hidden_1TH, _ = model.hidden(ids_T[None], None)
            expect_shape("hidden", hidden_1TH[..., 0], (1, len(ids_T)), "BT")
            logits_NV = model.project(hidden_1TH[0])
        expect_shape("project", logits_NV, (len(ids_T), SIZES.target), "NV")
    check_step(model, _prompts()[0], SIZES.target)


def causality(case: Case) -> None:
    """No token is predicted from itself or from those after it, and each from those before it."""
    model = case.model()
    ids_T = _stream()
    changed = ids_T.clone()
    changed[6] = 4 if ids_T[6] == 9 else 9
    todo = "Let `hidden` at a position read no later id, for example by a mask."
    what = "predictions before a change of token 6"
    if isinstance(model, StreamScorer):
        # Entry t is the probability of token t + 1: that of token 6 itself must be left out.
        expect_same(what, model.log_probs(changed)[:5], model.log_probs(ids_T)[:5], todo)
        _check_sum(model, ids_T[:6])
        return

    with torch.inference_mode():
        before_TV, after_TV = (
            log_probs(model, model.hidden(ids[None], None)[0])[0] for ids in (ids_T, changed)
        )
    expect_same(what, after_TV[:6], before_TV[:6], todo)
    expect_different("the prediction after it", after_TV[6], before_TV[6], "Read the last token.")


def _check_sum(model: Any, ids_T: Tensor) -> None:
    """Failed unless the probabilities of all tokens after a stream sum to 1."""
    streams = (torch.cat([ids_T, torch.tensor([word])]) for word in range(SIZES.target))
    total = torch.stack([model.log_probs(stream_T)[-1] for stream_T in streams]).exp().sum()
    todo = "Compute each token's probability from those before it."
    expect_same("log_probs, the sum over the last token", total, torch.ones_like(total), todo)


def windows(case: Case) -> None:
    """A stream that is read in pieces, with the state carried on, has the same predictions."""
    model = case.model()
    if isinstance(model, StreamScorer):
        return
    ids_1T = _stream()[None]
    with torch.inference_mode():
        whole, _ = model.hidden(ids_1T, None)
        state: Any = None
        pieces = []
        for start in range(0, ids_1T.shape[1], 3):
            piece, state = model.hidden(ids_1T[:, start : start + 3], state)
            pieces.append(piece)
    todo = "Return the state after the last id, and continue from the state that is given."
    expect_same("hidden of windows", torch.cat(pieces, 1), whole, todo)


def prompts(case: Case) -> None:
    """Prompts of unlike lengths are read and continued as the stream would be."""
    model = case.model()
    prompt, rows = _prompts()
    with torch.inference_mode():
        state, last_B = model.begin(prompt)
        ends = [row[-1] if row else EOS for row in rows]
        expect(
            last_B.tolist() == ends,
            f"begin: got first ids {last_B.tolist()}; expected {ends}, the last of each prompt.",
        )
        for step, following in enumerate([4, 9, EOS, 5, 6]):
            log_probs_BV, state = model.step(state, last_B)
            rows = [[*row, following] for row in rows]
            expected = [stream_log_probs(model, torch.tensor([EOS, *row]))[-1] for row in rows]
            what = f"step {step + 1} after prompts of {', '.join(str(len(r)) for r in rows)} ids"
            expect_same(what, log_probs_BV[:, following], torch.stack(expected), _STEPS)
            last_B = torch.full_like(last_B, following)


def states(case: Case) -> None:
    """A state is a value: rows can be moved, repeated and dropped, and old states stay valid."""
    prompt, _ = _prompts([[4], [5, 6, 7]])
    check_states(case.model(), prompt)


CHECKS: tuple[Check, ...] = (shapes, causality, windows, prompts, states)


def _stream() -> Tensor:
    """A few rows in no order, each with its EOS."""
    generator = torch.Generator().manual_seed(1)
    ids_T = torch.randint(4, SIZES.source, (24,), generator=generator)
    ids_T[[0, 8, 15]] = EOS
    return ids_T


def _prompts(rows: list[list[int]] | None = None) -> tuple[Prompt, list[list[int]]]:
    """Prompts of many lengths, and their ids without the EOS before them."""
    if rows is None:
        rng = np.random.default_rng(1)
        lengths = (0, 1, 3, 7, 8, 9, 12, 21)
        rows = [rng.integers(4, SIZES.source, length).tolist() for length in lengths]
    return language_model.prompt(pa.array(rows, pa.list_(pa.int32())), CPU), rows
