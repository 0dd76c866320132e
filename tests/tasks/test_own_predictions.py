"""Inputs that are the model's own tokens, and padding in the loss, against a loop over the target
positions."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from pipeline.contracts import BOS, EOS, PAD, Prompt, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.tasks import translation
from pipeline.training import checkpoint

CPU = torch.device("cpu")
RECURRENT = {
    "cell": "gru",
    "embedding": 8,
    "hidden": 12,
    "layers": 1,
    "dropout": 0.3,
    "bidirectional": True,
    "implementation": "fused",
}
TRANSFORMER = {
    "width": 12,
    "heads": 2,
    "feed_forward": 8,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "dropout": 0.3,
    "norm": "layer",
    "norm_first": True,
    "learned_positions": None,
    "tied": "none",
    "variants": ["rotary_positions"],
    "implementation": "fused",
}
FAMILIES = {"seq2seq": RECURRENT, "transformer": TRANSFORMER}
ROWS = {"source": [[4, 5], [6], [7, 8, 9]], "target": [[5, 6, 7, 8], [4], [9, 9, 4]]}


def built(family: str) -> Any:
    torch.manual_seed(2)
    model: Any = checkpoint.build(family, FAMILIES[family], Sizes(10, 10, False), "model")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model.train()


def task(**changes: Any) -> translation.Task:
    table = pa.table({"row": range(3), **ROWS}, schema=tables.ENCODED_PAIR)
    given: dict[str, Any] = {"batch_tokens": 40, "label_smoothing": 0.0, "max_length": 9}
    given |= {"scheduled_sampling": None, "padding_in_loss": False}
    return translation.Task(table, table, translation.Config(**(given | changes)), 1, CPU)


@pytest.mark.parametrize("family", FAMILIES)
def test_own_inputs_are_the_likeliest_tokens_after_the_inputs_before(family: str) -> None:
    model = built(family)
    batch = task().batch(np.arange(3))
    mixed_BT = translation.mixed_inputs(model, batch, 0.0)
    assert model.training
    assert mixed_BT.shape == batch.input_BT.shape
    model.eval()
    for row in range(3):
        inputs = [BOS]
        source = [*ROWS["source"][row], EOS]
        for _ in ROWS["target"][row]:
            prompt = Prompt(torch.tensor([source]), torch.tensor([len(source)]))
            logits_1TV = model.project(model.hidden(prompt, torch.tensor([inputs])))
            inputs.append(int(logits_1TV[0, -1].argmax()))
        padding = [PAD] * (mixed_BT.shape[1] - len(inputs))
        assert mixed_BT[row].tolist() == inputs + padding


def test_with_the_references_tokens_alone_the_loss_is_that_of_teacher_forcing() -> None:
    model = built("transformer").eval()
    forced, sampled = task(), task(scheduled_sampling=1e6)
    batch = forced.batch(np.arange(3))
    assert torch.equal(translation.mixed_inputs(model, batch, 1.0), batch.input_BT)
    want, found = forced.loss(model, batch, None)[0], sampled.loss(model, batch, None)[0]
    torch.testing.assert_close(found, want)


def test_the_gradient_is_that_of_the_mixed_inputs() -> None:
    model = built("seq2seq").eval()
    own = task(scheduled_sampling=0.0)
    batch = own.batch(np.arange(3))
    loss, _ = own.loss(model, batch, None)
    found = torch.autograd.grad(loss.total, list(model.parameters()))
    mixed = batch._replace(input_BT=translation.mixed_inputs(model, batch, 0.0))
    want, _ = task().loss(model, mixed, None)
    for our, their in zip(
        found, torch.autograd.grad(want.total, list(model.parameters())), strict=True
    ):
        torch.testing.assert_close(our, their)


def test_the_share_of_reference_tokens_decays_by_epoch() -> None:
    shares = [translation.reference_share(2.0, epoch) for epoch in range(4)]
    assert shares == pytest.approx([2 / (2 + math.exp(epoch / 2)) for epoch in range(4)])
    assert translation.reference_share(0.0, 0) == 0
    assert translation.reference_share(0.001, 50) == pytest.approx(0)

    model = built("seq2seq")
    made = task(scheduled_sampling=1.0)
    batch = made.batch(np.repeat(np.arange(3), 2000))
    mixed_BT = translation.mixed_inputs(model, batch, 0.25)
    own_BT = translation.mixed_inputs(model, batch, 0.0)
    # The second input depends on the draw alone: it follows BOS, which is never replaced.
    differs_B = own_BT[:, 1] != batch.input_BT[:, 1]
    assert differs_B.any()
    taken = (mixed_BT[:, 1] == batch.input_BT[:, 1])[differs_B].float().mean()
    assert float(taken) == pytest.approx(0.25, abs=0.05)


def test_the_loss_of_an_epoch_has_the_share_of_its_plan() -> None:
    made = task(scheduled_sampling=1.0)
    made.plan(3)
    assert made.epoch == 3


def test_padding_in_the_loss_counts_every_position() -> None:
    model = built("seq2seq").eval()
    counted = task(padding_in_loss=True)
    batch = counted.batch(np.arange(3))
    loss, _ = counted.loss(model, batch, None)
    logits_BTV = model.project(model.hidden(batch.prompt, batch.input_BT))
    want = F.cross_entropy(logits_BTV.flatten(0, 1), batch.label_BT.flatten(), reduction="sum")
    torch.testing.assert_close(loss.total, want)
    assert loss.tokens == batch.label_BT.numel() > int((batch.label_BT != PAD).sum())
    # Validation leaves padding out, so that losses can be compared.
    assert counted.validate(model)[0].tokens == task().validate(model)[0].tokens == 11


@pytest.mark.parametrize("k", [-1.0, -0.1])
def test_a_negative_decay_is_refused(k: float) -> None:
    with pytest.raises(UserError, match=f"^scheduled_sampling: got {k}; expected 0 or more"):
        task(scheduled_sampling=k)
