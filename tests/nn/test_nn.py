"""The blocks that families share: the written-out forms against torch's kernels, in value and in
gradient."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from reference_modules import weighed
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.core.errors import UserError
from pipeline.nn import attention_scores, multihead_attention, segments, transformer
from pipeline.nn.cells import Cell, Recurrent
from pipeline.nn.masks import causal_TK
from pipeline.nn.positional import positions, sinusoidal_TH

CELLS: tuple[Cell, ...] = ("rnn", "relu_rnn", "gru", "lstm")
SCORES: tuple[attention_scores.Score, ...] = (
    "additive",
    "dot",
    "scaled_dot",
    "general",
    "gaussian",
)


def twins(cell: Cell, layers: int, bidirectional: bool) -> tuple[Recurrent, Recurrent]:
    torch.manual_seed(1)
    fused = Recurrent(cell, 5, 6, layers, 0.0, "fused", bidirectional=bidirectional)
    written = Recurrent(cell, 5, 6, layers, 0.0, "equations", bidirectional=bidirectional)
    written.load_state_dict(fused.state_dict())
    return fused, written


SINGLE_GATES: dict[Cell, tuple[int, float]] = {"reset_gru": (1, -1e9), "update_gru": (0, 1e9)}
"""Of torch's gates reset, update and candidate, the missing one, and its bias that fixes it."""


@pytest.mark.parametrize("cell", SINGLE_GATES)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_single_gate_gru_is_torchs_with_the_other_gate_fixed(
    cell: Cell, layers: int, bidirectional: bool
) -> None:
    torch.manual_seed(1)
    ours = Recurrent(cell, 5, 6, layers, 0.0, "equations", bidirectional=bidirectional)
    theirs = Recurrent("gru", 5, 6, layers, 0.0, "fused", bidirectional=bidirectional)
    missing, bias = SINGLE_GATES[cell]
    kept = [gate for gate in range(3) if gate != missing]
    with torch.no_grad():
        for name, weight in theirs.kernel.named_parameters():
            gates = weight.view(3, 6, -1)
            gates[missing] = bias if name.startswith("bias_ih") else 0.0
            gates[kept] = getattr(ours.kernel, name).view(2, 6, -1)
    x_BTE, length_B = torch.randn(4, 7, 5, requires_grad=True), torch.tensor([7, 1, 4, 6])
    found, wanted = (part.forward_padded(x_BTE, length_B) for part in (ours, theirs))
    torch.testing.assert_close(found, wanted)
    of_torch = gradients(theirs.kernel, [x_BTE], wanted[0], *wanted[1])
    for name, gradient in gradients(ours.kernel, [x_BTE], found[0], *found[1]).items():
        want = of_torch[name]
        if not name.startswith("input"):
            want = want.view(3, 6, -1)[kept].view_as(gradient)
        torch.testing.assert_close(gradient, want)


def gradients(model: nn.Module, inputs: Sequence[Tensor], *outputs: Tensor) -> dict[str, Tensor]:
    """By every weight and every input, of a number that depends on all of the outputs."""
    named = dict(model.named_parameters()) | {
        f"input {number}": part for number, part in enumerate(inputs)
    }
    found = torch.autograd.grad(weighed(*outputs), list(named.values()), allow_unused=True)
    return {
        name: gradient for name, gradient in zip(named, found, strict=True) if gradient is not None
    }


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_equations_equal_torchs_kernels_in_value_and_gradient(
    cell: Cell, layers: int, bidirectional: bool
) -> None:
    fused, written = twins(cell, layers, bidirectional)
    x_BTE, length_B = torch.randn(4, 7, 5, requires_grad=True), torch.tensor([7, 1, 4, 6])
    found, wanted = written.forward_padded(x_BTE, length_B), fused.forward_padded(x_BTE, length_B)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    by_torch = gradients(fused, [x_BTE], wanted[0], *wanted[1])
    torch.testing.assert_close(gradients(written, [x_BTE], found[0], *found[1]), by_torch)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_long_rows_are_read_as_the_packed_kernel_and_the_equations_do(
    cell: Cell, layers: int, bidirectional: bool
) -> None:
    fused, written = twins(cell, layers, bidirectional)
    length_B = torch.tensor([3, segments.LONG + 2, 1, 40, 40, segments.LONG + 2, 3])
    # two positions that no row has
    x_BTE = torch.randn(7, segments.LONG + 4, 5, requires_grad=True)
    packed = pack_padded_sequence(x_BTE, length_B, batch_first=True, enforce_sorted=False)
    (by_torch, by_torch_after), found = fused.kernel(packed), fused.forward_padded(x_BTE, length_B)
    wanted, _ = pad_packed_sequence(by_torch, batch_first=True, total_length=segments.LONG + 4)
    torch.testing.assert_close(found[0], wanted, atol=1e-5, rtol=1e-5)
    of_torch = by_torch_after if cell == "lstm" else (by_torch_after,)
    of_ours = (
        found[1]
        if not bidirectional
        else [torch.stack(part.chunk(2, -1), 1).flatten(0, 1) for part in found[1]]
    )
    torch.testing.assert_close(tuple(of_ours), tuple(of_torch), atol=1e-5, rtol=1e-5)
    by_equations = written.forward_padded(x_BTE, length_B)
    torch.testing.assert_close(by_equations, found, atol=1e-5, rtol=1e-5)
    wanted_gradient = gradients(written, [x_BTE], by_equations[0], *by_equations[1])
    torch.testing.assert_close(
        gradients(fused, [x_BTE], found[0], *found[1]), wanted_gradient, atol=1e-4, rtol=1e-4
    )


def test_long_rows_drop_units_between_layers_in_training_only() -> None:
    layer = Recurrent("gru", 5, 6, 2, 0.5, "fused")
    x_BTE, length_B = torch.randn(2, segments.LONG, 5), torch.tensor([segments.LONG, 9])
    assert not torch.equal(
        layer.forward_padded(x_BTE, length_B)[0], layer.forward_padded(x_BTE, length_B)[0]
    )
    layer.eval()
    assert torch.equal(
        layer.forward_padded(x_BTE, length_B)[0], layer.forward_padded(x_BTE, length_B)[0]
    )


@pytest.mark.parametrize("cell", CELLS)
def test_the_equations_go_on_from_a_state_as_the_kernel_does(cell: Cell) -> None:
    fused, written = twins(cell, 2, False)
    x_BTE = torch.randn(3, 9, 5)
    whole, end = fused(x_BTE, None)
    first, state = written(x_BTE[:, :4], None)
    second, after = written(x_BTE[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after, end, atol=1e-5, rtol=1e-5)
    state = tuple(torch.randn(part.shape, requires_grad=True) for part in end)
    given = [torch.randn(3, 4, 5, requires_grad=True), *state]
    (found, found_after), (wanted, wanted_after) = written(given[0], state), fused(given[0], state)
    by_torch = gradients(fused, given, wanted, *wanted_after)
    assert by_torch.keys() > {f"input {number}" for number in range(len(given))}
    torch.testing.assert_close(gradients(written, given, found, *found_after), by_torch)


def test_the_equations_drop_units_between_layers_in_training_only() -> None:
    written = Recurrent("gru", 5, 6, 2, 0.5, "equations")
    x_BTE = torch.randn(2, 3, 5)
    assert not torch.equal(written(x_BTE, None)[0], written(x_BTE, None)[0])
    written.eval()
    assert torch.equal(written(x_BTE, None)[0], written(x_BTE, None)[0])


BLOCK: dict[str, Any] = {
    "width": 8,
    "heads": 2,
    "feed_forward": 16,
    "norm": "layer",
    "norm_first": True,
    "activation": "relu",
    "variants": (),
}


def test_a_written_out_transformer_block_equals_the_fused_one_in_value_and_gradient() -> None:
    torch.manual_seed(3)
    blocks = [
        transformer.EncoderBlock(transformer.BlockConfig(**BLOCK, dropout=0.0, implementation=how))
        for how in ("fused", "equations")
    ]
    blocks[1].load_state_dict(blocks[0].state_dict())
    x_BTH, mask = torch.randn(3, 5, 8), causal_TK(5, 0, torch.device("cpu"))
    fused, written = (block(x_BTH, mask) for block in blocks)
    torch.testing.assert_close(written, fused)
    torch.testing.assert_close(gradients(blocks[1], [], written), gradients(blocks[0], [], fused))


def test_block_applies_dropout_only_to_residual_branches() -> None:
    torch.manual_seed(1)
    block = transformer.EncoderBlock(
        transformer.BlockConfig(**BLOCK, dropout=0.5, implementation="fused")
    )
    x_BTH = torch.randn(3, 5, 8)
    for sublayer in (block.feed_forward, lambda x_BTH: block.own(x_BTH, None, None)[0]):
        block.eval()
        added_BTH = sublayer(x_BTH) - x_BTH
        block.train()
        found_BTH = sublayer(x_BTH) - x_BTH
        keep_BTH = found_BTH != 0
        assert 0.3 < keep_BTH.double().mean() < 0.7
        torch.testing.assert_close(
            found_BTH[keep_BTH], 2 * added_BTH[keep_BTH], atol=1e-5, rtol=1e-5
        )


def test_attention_in_bfloat16_on_a_cpu_is_computed_in_float32() -> None:
    torch.manual_seed(5)
    query, keys, values = torch.randn(3, 3, 2, 5, 8).bfloat16().requires_grad_()
    mask = causal_TK(5, 0, torch.device("cpu"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = multihead_attention.fused_attention(
            query, multihead_attention.KeysValues(keys, values), mask
        )
    wanted = F.scaled_dot_product_attention(query.float(), keys.float(), values.float(), mask)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("implementation", ["fused", "equations"])
def test_attention_in_bfloat16_is_that_of_float32_but_for_rounding(implementation: Any) -> None:
    torch.manual_seed(5)
    block = multihead_attention.MultiHeadAttention(16, 2, implementation)
    x_BTH, mask = torch.randn(3, 5, 16), causal_TK(5, 0, torch.device("cpu"))
    exact = block(x_BTH, block.project_kv(x_BTH), mask)
    wanted = gradients(block, [], exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = block(x_BTH, block.project_kv(x_BTH), mask)
    assert not torch.equal(rounded.float(), exact)
    torch.testing.assert_close(rounded.float(), exact, atol=0.03, rtol=0.03)
    torch.testing.assert_close(gradients(block, [], rounded.float()), wanted, atol=0.2, rtol=0.1)


def reference_score(name: str, score: Any, query: Tensor, key: Tensor) -> Tensor:
    """One query against one key, from the book's formula."""
    if name == "dot":
        return torch.stack([a * b for a, b in zip(query, key, strict=True)]).sum()
    if name == "general":
        return query @ (score.key.weight @ key)
    q, k = score.query.weight @ query, score.key.weight @ key
    if name == "additive":
        return score.weight.weight[0] @ torch.tanh(q + k)
    if name == "scaled_dot":
        return (q @ k) / math.sqrt(len(q))
    return -((q - k) ** 2).sum() / 2


def reference_weights(scores: list[Tensor], looked: list[bool]) -> Tensor:
    """One query's weights: exp(score) over the sum of those that may be looked at, nothing for the
    others."""
    powers = [
        score.exp() if look else score * 0 for score, look in zip(scores, looked, strict=True)
    ]
    total = torch.stack(powers).sum() if any(looked) else torch.ones(())
    return torch.stack([power / total for power in powers])


@pytest.mark.parametrize("name", SCORES)
def test_scores_weights_and_their_gradients_are_those_of_the_books_formula(
    name: attention_scores.Score,
) -> None:
    """Autograd of one query against one key at a time; the second text has padding, the third
    nothing that may be seen."""
    torch.manual_seed(4)
    score = attention_scores.scoring(name, 6, 6, 5)
    query_BQH, key_BSC = (
        torch.randn(3, 2, 6, requires_grad=True),
        torch.randn(3, 4, 6, requires_grad=True),
    )
    mask_B1S = torch.tensor([[[True] * 4], [[True, True, False, False]], [[False] * 4]])
    scores_BQS = score(query_BQH, score.project_keys(key_BSC))
    want = [
        [[reference_score(name, score, q, k) for k in keys] for q in rows]
        for rows, keys in zip(query_BQH, key_BSC, strict=True)
    ]
    torch.testing.assert_close(
        scores_BQS, torch.stack([torch.stack([*map(torch.stack, rows)]) for rows in want])
    )
    weights_BQS = attention_scores.masked_softmax(scores_BQS, mask_B1S)
    wanted_BQS = torch.stack(
        [
            torch.stack([reference_weights(scores, looked) for scores in rows])
            for rows, [looked] in zip(want, mask_B1S.tolist(), strict=True)
        ]
    )
    torch.testing.assert_close(weights_BQS, wanted_BQS)
    inputs, measure_BQS = (query_BQH, key_BSC, *score.parameters()), torch.randn(3, 2, 4)
    found, wanted = (
        torch.autograd.grad((w * measure_BQS).sum(), inputs) for w in (weights_BQS, wanted_BQS)
    )
    for got, expected in zip(found, wanted, strict=True):
        assert expected.any()
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-4)


def test_scaled_dot_product_attention_is_torchs_own_in_value_and_gradient() -> None:
    torch.manual_seed(5)
    score = attention_scores.ScaledDot(6, 7, 5)
    query_BQH, key_BSC, value_BSH = (
        torch.randn(2, size, width, requires_grad=True) for size, width in ((3, 6), (4, 7), (4, 8))
    )
    mask_B1S = torch.tensor([[[True] * 4], [[True, False, True, False]]])
    found_BQH = (
        attention_scores.masked_softmax(score(query_BQH, score.project_keys(key_BSC)), mask_B1S)
        @ value_BSH
    )
    want_BQH = F.scaled_dot_product_attention(
        score.query(query_BQH), score.key(key_BSC), value_BSH, mask_B1S
    )
    torch.testing.assert_close(found_BQH, want_BQH)
    inputs, measure_BQH = (query_BQH, key_BSC, value_BSH, *score.parameters()), torch.randn(2, 3, 8)
    found, wanted = (
        torch.autograd.grad((out * measure_BQH).sum(), inputs) for out in (found_BQH, want_BQH)
    )
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)


@torch.inference_mode()
def test_gaussian_attention_is_nadaraya_watson_regression() -> None:
    """d2l equation 11.2.2: values weighted by exp(-|q - k|^2 / 2), normalised."""
    score = attention_scores.Gaussian(1, 1, 1)
    for layer in (score.query, score.key):
        nn.init.ones_(layer.weight)
    x, values, at = torch.rand(20) * 5, torch.randn(20), torch.linspace(0, 5, 7)
    weights = torch.softmax(score(at[None, :, None], score.project_keys(x[None, :, None])), -1)
    kernel = torch.exp(-((at[:, None] - x) ** 2) / 2)
    torch.testing.assert_close(weights[0] @ values, kernel @ values / kernel.sum(1))


def test_causal_masks_let_a_step_see_the_whole_past_and_itself() -> None:
    mask = causal_TK(3, 2, torch.device("cpu"))
    assert mask.tolist() == [[k <= t + 2 for k in range(5)] for t in range(3)]


def test_sinusoidal_positions_extend_and_learned_ones_refuse() -> None:
    torch.testing.assert_close(positions(None, 8)(600, 700), sinusoidal_TH(700, 8)[600:])
    assert positions(10, 8)(3, 10).shape == (7, 8)
    with pytest.raises(UserError, match="learned_positions: got 10; expected at least 11"):
        positions(10, 8)(0, 11)


def test_batch_norm_depends_on_future_and_padding_unlike_layer_norm() -> None:
    """Why Transformers use layer norm: a position's value must depend neither on later positions
    nor on padding."""
    torch.manual_seed(6)
    x_BTH = torch.randn(2, 5, 8)
    later, padded = x_BTH.clone(), F.pad(x_BTH, (0, 0, 0, 3))
    later[:, 3:] += torch.randn(2, 2, 8)
    layer, batch = (transformer.normalisation(norm, 8).train() for norm in ("layer", "batch"))
    for other in (later, padded):
        assert torch.equal(layer(x_BTH)[:, :3], layer(other)[:, :3])
        assert not torch.allclose(batch(x_BTH)[:, :3], batch(other)[:, :3], atol=1e-3)
