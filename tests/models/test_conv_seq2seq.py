"""The convolutional encoder-decoder against torch's functions, one sentence at a time, in value and
in the gradient of every weight."""

import math
from typing import Any

import pytest
import torch
from reference_modules import weighed
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import EOS, PAD, Prompt, Sizes
from pipeline.core.errors import UserError
from pipeline.training import checkpoint

WORDS = 14
ROWS = [[5, 6, 7, 8, EOS], [9, EOS], [4, 5, 9, 10, 11, EOS]]
TARGETS = [[1, 4, 5, 6], [1, 6, 7, 13], [1, 8, 12, 4]]
BLOCK: dict[str, Any] = {
    "embedding": 6,
    "hidden": 10,
    "kernel": 3,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "dropout": 0.0,
    "learned_positions": 9,
}
HALF = math.sqrt(0.5)


def built(**changes: Any) -> Any:
    torch.manual_seed(4)
    sizes = Sizes(WORDS, WORDS, False)
    model: Any = checkpoint.build("conv_seq2seq", BLOCK | changes, sizes, "model").double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def prompt() -> Prompt:
    length = torch.tensor([len(row) for row in ROWS])
    ids = torch.full((len(ROWS), 8), PAD)
    for row, ids_S in zip(ids, ROWS, strict=True):
        row[: len(ids_S)] = torch.tensor(ids_S)
    return Prompt(ids, length)


def gated(layer: Any, x_TH: Tensor, left: int, right: int) -> Tensor:
    """v([A B]) = A * sigmoid(B) of a convolution with zeros on both sides (section 3.2)."""
    padded = F.pad(x_TH.T[None], (left, right))
    convolved = F.conv1d(padded, layer.convolution.weight, layer.convolution.bias)
    return F.glu(convolved, 1)[0].T


def logits(model: Any, source: list[int], target: list[int], kernel: int) -> Tensor:
    """logits_TV of one pair, without a batch."""
    e_SE = model.source.weight[source] + model.source_positions.table.weight[: len(source)]
    x_SH = model.encoder_input(e_SE)
    for layer in model.encoder:
        x_SH = (x_SH + gated(layer, x_SH, kernel // 2, kernel // 2)) * HALF
    z_SE = model.encoder_output(x_SH)
    # Section 3.4: a third of the encoder's gradients, as there are three attentions.
    z_SE = z_SE / 3 + (z_SE * 2 / 3).detach()

    g_TE = model.target.weight[target] + model.target_positions.table.weight[: len(target)]
    x_TH = model.decoder_input(g_TE)
    for block in model.decoder:
        h_TH = gated(block.gated, x_TH, kernel - 1, 0)
        d_TE = (F.linear(h_TH, block.query.weight, block.query.bias) + g_TE) * HALF
        a_TS = (d_TE @ z_SE.T).softmax(-1)
        c_TE = a_TS @ (z_SE + e_SE) * HALF * len(source) * math.sqrt(1 / len(source))
        h_TH = (h_TH + F.linear(c_TE, block.context.weight, block.context.bias)) * HALF
        x_TH = (x_TH + h_TH) * HALF
    return F.linear(x_TH, model.output.weight, model.output.bias)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_model_is_that_of_its_equations_in_value_and_gradient(kernel: int) -> None:
    model = built(kernel=kernel)
    ours = model.project(model.hidden(prompt(), torch.tensor(TARGETS)))
    theirs = torch.stack(
        [logits(model, row, target, kernel) for row, target in zip(ROWS, TARGETS, strict=True)]
    )
    torch.testing.assert_close(ours, theirs)
    named = dict(model.named_parameters())
    found, wanted = (
        torch.autograd.grad(weighed(out), list(named.values())) for out in (ours, theirs)
    )
    for name, our, their in zip(named, found, wanted, strict=True):
        assert our.any(), name
        torch.testing.assert_close(our, their, msg=lambda text, name=name: f"{name}: {text}")


def test_the_variance_of_a_new_model_does_not_vanish_with_its_depth() -> None:
    torch.manual_seed(1)
    sizes = Sizes(50, 50, False)
    block = BLOCK | {"embedding": 64, "hidden": 64, "learned_positions": 40}
    spread = []
    for layers in (2, 12):
        depth = {"encoder_layers": layers, "decoder_layers": layers}
        model: Any = checkpoint.build("conv_seq2seq", block | depth, sizes, "model").eval()
        ids = torch.randint(4, 50, (20, 30))
        with torch.no_grad():
            hidden_BTH = model.hidden(Prompt(ids, torch.full((20,), 30)), ids)
        spread.append(float(hidden_BTH.std()))
    assert 0.5 < spread[1] / spread[0] < 2


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"kernel": 4}, "settings.x.model.kernel: got 4; expected an odd number"),
        ({"kernel": -1}, "settings.x.model.kernel: got -1; expected an odd number"),
        ({"encoder_layers": 0}, "settings.x.model.encoder_layers: got 0"),
        ({"variants": []}, "settings.x.model.variants: got an unknown key"),
    ],
)
def test_a_block_that_cannot_be_is_refused(change: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as refused:
        checkpoint.build("conv_seq2seq", BLOCK | change, Sizes(9, 9, False), "settings.x.model")
    assert str(refused.value).startswith(line)


def test_a_text_longer_than_the_learned_positions_is_refused() -> None:
    ids = torch.full((1, 10), 5)
    with pytest.raises(UserError, match="learned_positions: got 9; expected at least 10"):
        built().hidden(Prompt(ids, torch.tensor([10])), ids[:, :3])
