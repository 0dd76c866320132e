"""The families built of cells and encoder blocks against their formulas, in value and in the
gradient of every weight.

One sequence at a time, without padding, step by step by torch's single cells or through its own
encoder layer, on the very same weights, none of which is at its start; in float64. The Transformer
and BERT stand against other libraries in files of their own."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from reference_modules import weighed
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import EOS, PAD, Prompt, Sizes
from pipeline.training import checkpoint

WORDS, LABELS, HIDDEN = 14, 3, 12
ROWS = [[5, 6, 7, 8, EOS], [9, EOS], [4, 5, 9, 10, 11, EOS]]
TARGETS = [[1, 4, 5, 6], [1, 6, 7, 13], [1, 8, 12, 4]]
CELLS = {nn.RNN: nn.RNNCell, nn.GRU: nn.GRUCell, nn.LSTM: nn.LSTMCell}
RECURRENT = {"embedding": 10, "hidden": HIDDEN, "dropout": 0.0}
BLOCK: dict[str, Any] = {"width": 12, "heads": 3, "feed_forward": 20, "layers": 2, "dropout": 0.0}
each_cell = pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
each_implementation = pytest.mark.parametrize("implementation", ["fused", "equations"])
each_side = pytest.mark.parametrize(
    "bidirectional", [False, True], ids=["forward", "bidirectional"]
)
each_norm = pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])

Parts = tuple[Tensor, ...]
"""A cell's state after a step, each 1H: (hidden,), or an LSTM's (hidden, memory)."""


def built(family: str, block: dict[str, Any], targets: int = WORDS, shared: bool = False) -> Any:
    torch.manual_seed(4)
    model: Any = checkpoint.build(family, block, Sizes(WORDS, targets, shared), "model").double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def prompt() -> Prompt:
    ids = nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in ROWS], batch_first=True, padding_value=PAD
    )
    return Prompt(ids, torch.tensor([len(row) for row in ROWS]))


def assert_same(model: nn.Module, ours: Tensor, theirs: Tensor) -> None:
    """In value and in the gradient of every weight."""
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    named = dict(model.named_parameters())
    found, wanted = (
        torch.autograd.grad(weighed(out), list(named.values())) for out in (ours, theirs)
    )
    for name, our, their in zip(named, found, wanted, strict=True):
        assert our.any(), name
        torch.testing.assert_close(
            our, their, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


# cells, one step at a time


def cell_of(kernel: Any, layer: int, end: str = "") -> Callable[[Tensor, Parts], Parts]:
    """The kernel's layer, of one direction, as torch's single cell with the same weights."""
    inputs = getattr(kernel, f"weight_ih_l{layer}{end}").shape[1]
    cell = CELLS[type(kernel)](inputs, kernel.hidden_size)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        setattr(cell, name, getattr(kernel, f"{name}_l{layer}{end}"))

    def step(x_1E: Tensor, state: Parts) -> Parts:
        after = cell(x_1E, state if isinstance(cell, nn.LSTMCell) else state[0])
        return after if isinstance(after, tuple) else (after,)

    return step


def fresh(kernel: Any) -> Parts:
    zeros = torch.zeros(1, kernel.hidden_size, dtype=torch.float64)
    return (zeros, zeros) if isinstance(kernel, nn.LSTM) else (zeros,)


def walk(
    step: Callable[[Tensor, Parts], Parts], inputs: Sequence[Tensor], state: Parts
) -> tuple[list[Tensor], Parts]:
    hidden = []
    for x_1E in inputs:
        state = step(x_1E, state)
        hidden.append(state[0])
    return hidden, state


def read(kernel: Any, inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Parts]]:
    """The last layer's outputs and every layer's last state, a layer's two directions side by
    side."""
    last = []
    for layer in range(kernel.num_layers):
        outputs, state = walk(cell_of(kernel, layer), inputs, fresh(kernel))
        if kernel.bidirectional:
            back, begin = walk(cell_of(kernel, layer, "_reverse"), inputs[::-1], fresh(kernel))
            outputs = [torch.cat(both, 1) for both in zip(outputs, back[::-1], strict=True)]
            state = tuple(torch.cat(both, 1) for both in zip(state, begin, strict=True))
        inputs = outputs
        last.append(state)
    return list(inputs), last


def embedded(table: nn.Embedding, ids: Sequence[int]) -> list[Tensor]:
    return [table.weight[number][None] for number in ids]


@each_cell
@each_implementation
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_recurrent_language_model(cell: str, implementation: str, tied: bool) -> None:
    block = RECURRENT | {"cell": cell, "layers": 2, "tied": tied, "implementation": implementation}
    model = built("recurrent_lm", block | ({"embedding": HIDDEN} if tied else {}), shared=True)
    assert (model.output.weight is model.embedding.weight) == tied
    ids_BT = torch.tensor(TARGETS)
    first_BTH, state = model.hidden(ids_BT[:, :2], None)
    # as windows that follow one another are read
    second_BTH, _ = model.hidden(ids_BT[:, 2:], state)
    theirs = [
        torch.cat(
            [
                F.linear(h, model.output.weight, model.output.bias)
                for h in read(model.cells.kernel, row)[0]
            ]
        )
        for row in (embedded(model.embedding, ids) for ids in TARGETS)
    ]
    assert_same(model, model.project(torch.cat([first_BTH, second_BTH], 1)), torch.stack(theirs))


@each_cell
@each_implementation
def test_a_bidirectional_language_model(cell: str, implementation: str) -> None:
    """Two stacks that never meet: each word between the ends from the outputs over what stands
    before and after it."""
    model = built(
        "bidirectional_lm",
        RECURRENT | {"cell": cell, "layers": 2, "implementation": implementation},
    )
    text = prompt()
    hidden_BWH, ours, theirs = model.hidden(text.ids_BS, text.length_B), [], []
    for ids, hidden_WH in zip(ROWS, hidden_BWH, strict=True):
        inputs = embedded(model.embedding, ids)
        before, after = (
            read(model.forwards.kernel, inputs)[0],
            read(model.backwards.kernel, inputs[::-1])[0][::-1],
        )
        for word in range(1, len(ids) - 1):
            ours.append(model.project(hidden_WH[word - 1]))
            theirs.append(model.output(torch.cat([before[word - 1], after[word + 1]], 1)[0]))
    assert len(ours) == 7
    assert_same(model, torch.stack(ours), torch.stack(theirs))


def bridged(model: Any, states: list[Parts]) -> list[Parts]:
    return [
        tuple(torch.tanh(b(s)) for b, s in zip(model.bridges, state, strict=True))
        for state in states
    ]


def decoded(
    model: Any, target: Sequence[int], states: list[Parts], context: Callable[[Tensor], Tensor]
) -> Tensor:
    """logits_TV of a decoder of two layers that is fed, with each id, the `context` of its top
    hidden state so far."""
    logits = []
    for x_1E in embedded(model.target, target):
        context_1C = context(states[-1][0])
        below = torch.cat([x_1E, context_1C], 1)
        for layer in range(2):
            states[layer] = cell_of(model.decoder.kernel, layer)(below, states[layer])
            below = states[layer][0]
        logits.append(
            model.output(torch.tanh(model.readout(torch.cat([below, context_1C, x_1E], 1))))
        )
    return torch.cat(logits)


@each_cell
@each_implementation
@each_side
def test_an_encoder_decoder(cell: str, implementation: str, bidirectional: bool) -> None:
    block = RECURRENT | {
        "cell": cell,
        "layers": 2,
        "bidirectional": bidirectional,
        "implementation": implementation,
    }
    model = built("seq2seq", block)
    theirs = []
    for source, target in zip(ROWS, TARGETS, strict=True):
        _, states = read(model.encoder.kernel, embedded(model.source, source))
        states = bridged(model, states) if bidirectional else states
        source_1H = states[-1][0]
        theirs.append(decoded(model, target, states, lambda _, found=source_1H: found))
    assert_same(
        model, model.project(model.hidden(prompt(), torch.tensor(TARGETS))), torch.stack(theirs)
    )


def score(name: str, of: Any, query_H: Tensor, key_C: Tensor) -> Tensor:
    """d2l sections 11.2 and 11.3, and Luong et al. 2015, equation 8: for one query and one key."""
    if name == "dot":
        return query_H.dot(key_C)
    if name == "general":
        return query_H.dot(of.key.weight @ key_C)
    query, key = of.query.weight @ query_H, of.key.weight @ key_C
    if name == "additive":
        return of.weight.weight[0].dot(torch.tanh(query + key))
    if name == "scaled_dot":
        return query.dot(key) / math.sqrt(HIDDEN)
    return -((query - key) ** 2).sum() / 2


@each_cell
@each_implementation
@pytest.mark.parametrize(
    ("name", "bidirectional"),
    [
        *[
            (name, both)
            for name in ("additive", "scaled_dot", "general", "gaussian")
            for both in (False, True)
        ],
        ("dot", False),  # whose keys have to be as wide as the query
    ],
)
def test_an_encoder_decoder_with_attention(
    cell: str, implementation: str, name: str, bidirectional: bool
) -> None:
    block = RECURRENT | {
        "cell": cell,
        "layers": 2,
        "bidirectional": bidirectional,
        "implementation": implementation,
    }
    model = built("attention_seq2seq", block | {"score": name})
    theirs = []
    for source, target in zip(ROWS, TARGETS, strict=True):
        outputs, states = read(model.encoder.kernel, embedded(model.source, source))

        def context(query_1H: Tensor, outputs: list[Tensor] = outputs) -> Tensor:
            scores = torch.stack(
                [score(name, model.score, query_1H[0], key_1C[0]) for key_1C in outputs]
            )
            shares = scores.exp() / scores.exp().sum()
            return torch.stack(
                [share * key_1C for share, key_1C in zip(shares, outputs, strict=True)]
            ).sum(0)

        theirs.append(decoded(model, target, bridged(model, states), context))
    assert_same(
        model, model.project(model.hidden(prompt(), torch.tensor(TARGETS))), torch.stack(theirs)
    )


@each_cell
@each_implementation
def test_a_classifier_that_reads_from_both_sides(cell: str, implementation: str) -> None:
    model = built(
        "birnn_classifier",
        RECURRENT | {"cell": cell, "layers": 2, "implementation": implementation},
        LABELS,
    )
    last = [read(model.cells.kernel, embedded(model.embedding, row))[1][-1][0] for row in ROWS]
    assert_same(model, model.classify(prompt()), model.output(torch.cat(last)))


# classifiers without cells or blocks


def test_a_classifier_of_a_bag_of_words() -> None:
    model = built(
        "mlp_classifier", {"embedding": 10, "hidden": HIDDEN, "layers": 2, "dropout": 0.0}, LABELS
    )
    first, second = (layer for layer in model.layers if isinstance(layer, nn.Linear))
    theirs = []
    for ids in ROWS:
        hidden = torch.stack([model.embedding.weight[number] for number in ids]).sum(0) / len(ids)
        for layer in (first, second):
            hidden = (layer.weight @ hidden + layer.bias).clamp(min=0)
        theirs.append(model.output.weight @ hidden + model.output.bias)
    assert_same(model, model.classify(prompt()), torch.stack(theirs))


def test_a_classifier_of_convolutions() -> None:
    """A window at a time; a filter reaches over both ends of the text, into zeros (d2l section
    16.3)."""
    widths = [1, 3, 5]
    model = built(
        "text_cnn",
        {"embedding": 10, "widths": widths, "filters": HIDDEN, "dropout": 0.0, "max_norm": None},
        LABELS,
    )
    theirs = []
    for ids in ROWS:
        found = []
        for width, convolution in zip(widths, model.convolutions, strict=True):
            nothing = [torch.zeros(10, dtype=torch.float64)] * (width - 1)
            words = [*nothing, *(model.embedding.weight[number] for number in ids), *nothing]
            answers = []
            for start in range(len(ids) + width - 1):
                parts = [convolution.weight[:, :, k] @ words[start + k] for k in range(width)]
                answers.append((torch.stack(parts).sum(0) + convolution.bias).clamp(min=0))
            found.append(torch.stack(answers).amax(0))
        theirs.append(model.output.weight @ torch.cat(found) + model.output.bias)
    assert_same(model, model.classify(prompt()), torch.stack(theirs))


# encoder blocks


def positions(count: int) -> Tensor:
    """P[t, 2i] = sin(t / 10000^(2i / d)), P[t, 2i + 1] the cosine of the same (d2l equation
    11.6.2)."""
    rows = []
    for t in range(count):
        angles = [
            t / 10000 ** (column // 2 * 2 / BLOCK["width"]) for column in range(BLOCK["width"])
        ]
        rows.append(
            [
                math.cos(angle) if column % 2 else math.sin(angle)
                for column, angle in enumerate(angles)
            ]
        )
    return torch.tensor(rows, dtype=torch.float64)


def projections(attention: Any) -> dict[str, Tensor]:
    """Our weights by the names that torch's own layer of attention has for them."""
    return {
        "in_proj_weight": torch.cat([attention.query.weight, attention.key_value.weight]),
        "in_proj_bias": torch.cat([attention.query.bias, attention.key_value.bias]),
        "out_proj.weight": attention.output.weight,
        "out_proj.bias": attention.output.bias,
    }


def encoded(blocks: Any, x_SH: Tensor, activation: str, norm_first: bool, causal: bool) -> Tensor:
    """By torch's own encoder layer, on our blocks' weights."""
    mask = (
        torch.full((len(x_SH), len(x_SH)), -math.inf, dtype=torch.float64).triu(1)
        if causal
        else None
    )
    width, heads, hidden = (BLOCK[key] for key in ("width", "heads", "feed_forward"))
    for block in blocks:
        attention, layers = block.own.attention, block.feed_forward.layers
        layer = nn.TransformerEncoderLayer(
            width, heads, hidden, 0.0, activation, batch_first=True, norm_first=norm_first
        )
        tensors = {f"self_attn.{name}": value for name, value in projections(attention).items()}
        named = {"linear1": layers[0], "linear2": layers[2]}
        named |= {"norm1": block.own.residual.norm, "norm2": block.feed_forward.residual.norm}
        for name, ours in named.items():
            tensors |= {f"{name}.weight": ours.weight, f"{name}.bias": ours.bias}
        assert tensors.keys() == dict(layer.named_parameters()).keys()
        x_SH = torch.func.functional_call(layer, tensors, (x_SH[None], mask))[0]
    return x_SH


@each_norm
@each_implementation
@pytest.mark.parametrize("learned", [False, True], ids=["sinusoidal", "learned"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_transformer_language_model(
    norm_first: bool, implementation: str, learned: bool, tied: bool
) -> None:
    block = BLOCK | {
        "norm_first": norm_first,
        "implementation": implementation,
        "tied": tied,
        "norm": "layer",
    }
    model = built(
        "transformer_lm", block | {"learned_positions": learned, "context": 4}, shared=True
    )
    assert (model.output.weight is model.embedding.weight) == tied
    table_TH = model.positions.table.weight if learned else positions(4)
    theirs = []
    for ids in TARGETS:
        x_TH = model.embedding.weight[ids] * math.sqrt(BLOCK["width"]) + table_TH
        x_TH = encoded(model.blocks, x_TH, "gelu", norm_first, causal=True)
        theirs.append(model.output(model.norm(x_TH) if norm_first else x_TH))
    assert_same(
        model, model.project(model.hidden(torch.tensor(TARGETS), None)[0]), torch.stack(theirs)
    )


@each_norm
@each_implementation
@pytest.mark.parametrize("learned", [None, 6], ids=["sinusoidal", "learned"])
def test_a_classifier_of_encoder_blocks(
    norm_first: bool, implementation: str, learned: int | None
) -> None:
    block = BLOCK | {
        "norm_first": norm_first,
        "implementation": implementation,
        "learned_positions": learned,
    }
    model = built("transformer_classifier", block, LABELS)
    table_SH = model.positions.table.weight if learned else positions(6)
    theirs = []
    for ids in ROWS:
        x_SH = model.embedding.weight[ids] * math.sqrt(BLOCK["width"]) + table_SH[: len(ids)]
        x_SH = encoded(model.encoder, x_SH, "relu", norm_first, causal=False)
        theirs.append(model.output((model.norm(x_SH) if norm_first else x_SH).mean(0)))
    assert_same(model, model.classify(prompt()), torch.stack(theirs))


def batch_normed(norm: Any, x_BTH: Tensor) -> Tensor:
    """Of all positions of all rows together (Ioffe & Szegedy 2015, algorithm 1; d2l equation
    8.5.1)."""
    mean_H = x_BTH.mean((0, 1))
    variance_H = ((x_BTH - mean_H) ** 2).mean((0, 1))
    return (
        norm.kernel.weight * (x_BTH - mean_H) / (variance_H + norm.kernel.eps).sqrt()
        + norm.kernel.bias
    )


def looked(attention: Any, x_TH: Tensor) -> Tensor:
    """Attention of each position to itself and those before it, by torch's own layer, on our
    weights."""
    layer = nn.MultiheadAttention(BLOCK["width"], BLOCK["heads"], batch_first=True)
    tensors = projections(attention)
    assert tensors.keys() == dict(layer.named_parameters()).keys()
    hidden = torch.ones(len(x_TH), len(x_TH), dtype=torch.bool).triu(1)
    own = {"attn_mask": hidden, "need_weights": False}
    found: Tensor = torch.func.functional_call(layer, tensors, (x_TH[None],) * 3, own)[0][0]
    return found


@each_norm
@each_implementation
def test_a_transformer_language_model_with_batch_norm(
    norm_first: bool, implementation: str
) -> None:
    """In training, where a row is normalised together with the others; and what is kept of it for
    use."""
    block = BLOCK | {
        "norm_first": norm_first,
        "implementation": implementation,
        "tied": False,
        "norm": "batch",
    }
    model = built("transformer_lm", block | {"learned_positions": False, "context": 4}).train()

    def sublayer(x_BTH: Tensor, norm: Any, inner: Callable[[Tensor], Tensor]) -> Tensor:
        if norm_first:
            return x_BTH + inner(batch_normed(norm, x_BTH))
        return batch_normed(norm, x_BTH + inner(x_BTH))

    x_BTH = model.embedding.weight[torch.tensor(TARGETS)] * math.sqrt(BLOCK["width"]) + positions(4)
    first_BTH = x_BTH if norm_first else None
    for block_of in model.blocks:
        own, feed_forward = block_of.own, block_of.feed_forward

        def attend(rows_BTH: Tensor, attention: Any = own.attention) -> Tensor:
            return torch.stack([looked(attention, row_TH) for row_TH in rows_BTH])

        x_BTH = sublayer(x_BTH, own.residual.norm, attend)
        x_BTH = sublayer(x_BTH, feed_forward.residual.norm, feed_forward.layers)
    theirs = model.output(batch_normed(model.norm, x_BTH) if norm_first else x_BTH)
    assert_same(model, model.project(model.hidden(torch.tensor(TARGETS), None)[0]), theirs)
    if first_BTH is not None:
        kept, flat = model.blocks[0].own.residual.norm.kernel, first_BTH.flatten(0, 1)
        torch.testing.assert_close(kept.running_mean, 0.1 * flat.mean(0))
        torch.testing.assert_close(kept.running_var, 0.9 + 0.1 * flat.var(0))
