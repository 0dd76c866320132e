"""Classifiers of pictures against others, with every weight drawn at random, in value and in
gradient, in float64: torch's encoder, torch's layers in a row, scikit-learn's neighbours, and
windows that are visited one after another."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from reference_modules import Same, assert_same_gradients, give, module, weighed
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import Sizes
from pipeline.core import tables
from pipeline.nn import windows
from pipeline.nn.transformer import BlockConfig
from pipeline.training import checkpoint

LABELS = 5
VIT: dict[str, Any] = {
    "image_height": 8, "image_width": 12, "patch": 4, "width": 16, "heads": 4, "feed_forward": 24,
    "layers": 2, "dropout": 0.0,
}  # fmt: skip
SWIN: dict[str, Any] = {
    "image_height": 8, "image_width": 4, "patch": 1, "width": 8, "layers": [2, 3], "heads": [2, 4],
    "window": 2, "expansion": 2, "dropout": 0.0,
}  # fmt: skip


def built(family: str, block: dict[str, Any]) -> Any:
    """A model with no parameter at its start: biases of zero and norms that are the identity would
    hide a wrong one."""
    torch.manual_seed(5)
    model: Any = checkpoint.build(family, block, Sizes(0, LABELS, False), "model").double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def pictures(block: dict[str, Any], count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    size = (count, block["image_height"], block["image_width"])
    return torch.rand(size, generator=generator, dtype=torch.float64).requires_grad_()


# Vision Transformer


def by_hand_patches(image_BYX: Tensor, patch: int) -> Tensor:
    """Patches cut out one by one."""
    _, height, width = image_BYX.shape
    cut = [
        image_BYX[:, y : y + patch, x : x + patch].flatten(1)
        for y in range(0, height, patch)
        for x in range(0, width, patch)
    ]
    return torch.stack(cut, 1)


def of_torch(own: nn.TransformerEncoder, model: Any) -> Iterator[Same]:
    for theirs, ours in zip(own.layers, model.encoder, strict=True):
        attention: Any = theirs.self_attn
        mine = ours.own.attention
        yield Same([attention.in_proj_weight], [mine.query.weight, mine.key_value.weight])
        yield Same([attention.in_proj_bias], [mine.query.bias, mine.key_value.bias])
        yield from module(attention.out_proj, mine.output)
        yield from module(theirs.norm1, ours.own.residual.norm)
        yield from module(theirs.norm2, ours.feed_forward.residual.norm)
        yield from module(theirs.linear1, ours.feed_forward.layers[0])
        yield from module(theirs.linear2, ours.feed_forward.layers[2])
    yield from module(own.norm, model.norm)  # type: ignore[arg-type]


@pytest.mark.parametrize("implementation", ["fused", "equations"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_vision_transformer_is_torchs_encoder_over_patches_in_value_and_gradient(
    pooling: str, implementation: str
) -> None:
    block = VIT | {"pooling": pooling, "implementation": implementation}
    model = built("vision_transformer", block)
    layer = nn.TransformerEncoderLayer(
        16, 4, 24, 0.0, F.gelu, batch_first=True, norm_first=True
    ).double()
    own = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16).double(), enable_nested_tensor=False)
    pairs = list(of_torch(own, model))
    give(pairs, own, nn.ModuleList([model.encoder, model.norm]))
    outer = [p for name, p in model.named_parameters() if not name.startswith(("encoder", "norm"))]
    image_BYX = pictures(block)

    x_BPH = by_hand_patches(image_BYX, 4) @ model.embedding.weight.T + model.embedding.bias
    if pooling == "cls":
        x_BPH = torch.stack([torch.cat([model.cls_H[None], row_PH]) for row_PH in x_BPH])
    read = own(x_BPH + model.positions.weight)
    vector_BH = read[:, 0] if pooling == "cls" else read.sum(1) / 6
    want = vector_BH @ model.output.weight.T + model.output.bias
    wanted = torch.autograd.grad(weighed(want), [*outer, image_BYX], retain_graph=True)
    weighed(want).backward()
    model.zero_grad()
    image_BYX.grad = None

    found = model.classify(image_BYX)
    weighed(found).backward()
    torch.testing.assert_close(found, want)
    assert_same_gradients(pairs)
    for parameter, gradient in zip([*outer, image_BYX], wanted, strict=True):
        assert gradient.any()
        torch.testing.assert_close(parameter.grad, gradient)


# Swin Transformer


def attended(attention: Any, x_TH: Tensor, places: list[tuple[int, int]], window: int) -> Tensor:
    """One window's attention, query by query and key by key, with the bias of each difference of
    places."""
    width = x_TH.shape[1]
    size = width // attention.heads
    query_TH, key_TH, value_TH = (
        x_TH @ W.T + b
        for W, b in zip(
            attention.query_key_value.weight.split(width),
            attention.query_key_value.bias.split(width),
            strict=True,
        )
    )
    rows = []
    for q, (y, x) in enumerate(places):
        heads = []
        for head in range(attention.heads):
            part = slice(head * size, (head + 1) * size)
            scores = []
            for k, (other_y, other_x) in enumerate(places):
                number = (y - other_y + window - 1) * (2 * window - 1) + x - other_x + window - 1
                product = query_TH[q, part] @ key_TH[k, part] / math.sqrt(size)
                scores.append(product + attention.bias_RN[number, head])
            heads.append(torch.stack(scores).softmax(0) @ value_TH[:, part])
        rows.append(torch.cat(heads))
    return torch.stack(rows) @ attention.output.weight.T + attention.output.bias


def tiles(side: int, window: int, shift: int) -> list[range]:
    """The positions of one direction, cut before `shift` and after every window from there on."""
    cuts = sorted({0, *range(shift, side, window), side})
    return [range(a, b) for a, b in pairwise(cuts)]


def by_hand_block(block: Any, x_YXH: Tensor, window: int, shift: int) -> Tensor:
    """A block without roll and mask: shifted windows are smaller at the edges."""
    rows, columns, _ = x_YXH.shape
    normed_YXH = block.residual.norm(x_YXH)
    added = {}
    for tile_y in tiles(rows, window, shift):
        for tile_x in tiles(columns, window, shift):
            places = [(y, x) for y in tile_y for x in tile_x]
            inside_TH = torch.stack([normed_YXH[place] for place in places])
            out_TH = attended(block.attention, inside_TH, places, window)
            added |= dict(zip(places, out_TH, strict=True))
    x_YXH = x_YXH + torch.stack(
        [torch.stack([added[y, x] for x in range(columns)]) for y in range(rows)]
    )
    first, _, second = block.feed_forward.layers
    inner = F.gelu(first(block.feed_forward.residual.norm(x_YXH)))
    return x_YXH + second(inner)


def by_hand_merging(merging: Any, x_YXH: Tensor) -> Tensor:
    rows, columns, _ = x_YXH.shape
    squares = [
        [torch.cat([x_YXH[y, x], x_YXH[y, x + 1], x_YXH[y + 1, x], x_YXH[y + 1, x + 1]])
         for x in range(0, columns, 2)]
        for y in range(0, rows, 2)
    ]  # fmt: skip
    merged = torch.stack([torch.stack(row) for row in squares])
    return merging.norm(merged) @ merging.reduction.weight.T


def by_hand_swin(model: Any, image_YX: Tensor, shifts: list[int], window: int) -> Tensor:
    x_YXH = model.embedding_norm(
        image_YX[:, :, None] @ model.embedding.weight.T + model.embedding.bias
    )
    remaining = iter(shifts)
    for part in model.stages:
        if isinstance(part, windows.PatchMerging):
            x_YXH = by_hand_merging(part, x_YXH)
        else:
            x_YXH = by_hand_block(part, x_YXH, window, next(remaining))
    assert next(remaining, None) is None
    vector_H = model.norm(x_YXH).sum((0, 1)) / (x_YXH.shape[0] * x_YXH.shape[1])
    return vector_H @ model.output.weight.T + model.output.bias


def test_swin_is_a_loop_over_windows_in_value_and_gradient() -> None:
    """Maps of 8 x 4, whose second block has shifted windows, and of 4 x 2, one side of which is a
    window, so that no block is shifted."""
    model = built("swin_transformer", SWIN)
    parameters = list(model.parameters())
    image_BYX = pictures(SWIN, 1)
    found = model.classify(image_BYX)
    gradients = torch.autograd.grad(weighed(found), [*parameters, image_BYX])

    want = by_hand_swin(model, image_BYX[0], [0, 1, 0, 0, 0], 2)[None]
    wanted = torch.autograd.grad(weighed(want), [*parameters, image_BYX])
    torch.testing.assert_close(found, want)
    for gradient, expected in zip(gradients, wanted, strict=True):
        assert expected.any()
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(
    ("size", "window", "shift"), [((4, 6), 2, 1), ((9, 6), 3, 1), ((8, 8), 4, 3)]
)
def test_a_shifted_window_block_is_its_loop_for_every_shift(
    size: tuple[int, int], window: int, shift: int
) -> None:
    torch.manual_seed(2)
    config = BlockConfig(
        width=6, heads=3, feed_forward=8, dropout=0.0, norm="layer", norm_first=True,
        activation="gelu", implementation="equations",
    )  # fmt: skip
    block = windows.WindowBlock(config, size, window, shift).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter))
    x_BYXH = torch.randn(2, *size, 6, dtype=torch.float64)
    want = torch.stack([by_hand_block(block, x_YXH, window, shift) for x_YXH in x_BYXH])
    torch.testing.assert_close(block(x_BYXH), want)


def test_without_a_shift_windows_never_see_each_other() -> None:
    """The reason for shifting: a pixel changes its own window alone, then the neighbours' too."""
    torch.manual_seed(2)
    config = BlockConfig(
        width=4, heads=2, feed_forward=8, dropout=0.0, norm="layer", norm_first=True,
        activation="gelu", implementation="equations",
    )  # fmt: skip
    x_BYXH = torch.randn(1, 8, 8, 4)
    changed = x_BYXH.clone()
    changed[0, 3, 3] = torch.randn(4)
    reached = []
    for shift in (0, 2):
        block = windows.WindowBlock(config, (8, 8), 4, shift)
        moved = (block(changed) - block(x_BYXH)).abs().amax((0, 3)) > 0
        reached.append({tuple(place) for place in moved.nonzero().tolist()})
    assert reached[0] == {(y, x) for y in range(4) for x in range(4)}
    assert reached[1] == {(y, x) for y in range(2, 6) for x in range(2, 6)}


# Torch's layers in a row


def test_the_cnn_is_torchs_layers_in_a_row_in_value_and_gradient() -> None:
    block = {
        "image_height": 12, "image_width": 8, "filters": [3, 4], "kernel": 3, "hidden": 6,
        "dropout": 0.0,
    }  # fmt: skip
    own = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4 * 3 * 2, 6), nn.ReLU(), nn.Linear(6, LABELS),
    )  # fmt: skip
    same_as_in_a_row(built("image_cnn", block), own.double(), pictures(block)[:, None])


def test_the_perceptron_is_torchs_layers_in_a_row_in_value_and_gradient() -> None:
    block = {"image_height": 4, "image_width": 6, "hidden": 7, "layers": 2, "dropout": 0.0}
    own = nn.Sequential(
        nn.Linear(24, 7), nn.ReLU(), nn.Linear(7, 7), nn.ReLU(), nn.Linear(7, LABELS)
    )
    same_as_in_a_row(built("image_mlp", block), own.double(), pictures(block).flatten(1))


def same_as_in_a_row(model: Any, own: nn.Module, their_input: Tensor) -> None:
    pairs = list(module(own, model))
    give(pairs, own, model)
    image_BYX = their_input.detach().reshape(3, *model.image_size).requires_grad_()
    their_input = their_input.detach().requires_grad_()
    want = own(their_input)
    weighed(want).backward()
    found = model.classify(image_BYX)
    weighed(found).backward()
    torch.testing.assert_close(found, want)
    assert_same_gradients(pairs)
    assert image_BYX.grad is not None
    assert image_BYX.grad.any()
    torch.testing.assert_close(image_BYX.grad.flatten(), their_input.grad.flatten())  # type: ignore[union-attr]


# Scikit-learn's neighbours


def table(image_NYX: np.ndarray, labels: list[int]) -> pa.Table:
    count, height, width = image_NYX.shape
    columns = [
        range(count), [image.tobytes() for image in image_NYX], [height] * count, [width] * count,
        labels,
    ]  # fmt: skip
    return pa.table(columns, schema=tables.ENCODED_IMAGE)


def test_neighbours_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    train, valid, test = (rng.integers(0, 256, (n, 4, 5)).astype(np.uint8) for n in (80, 30, 40))
    labels = [rng.integers(0, LABELS, len(part)).tolist() for part in (train, valid)]
    block = {"image_height": 4, "image_width": 5, "neighbours": [1, 4, 9], "smoothing": 1.0}
    model: Any = checkpoint.build("image_neighbours", block, Sizes(0, LABELS, False), "model")
    metrics = model.fit(table(train, labels[0]), table(valid, labels[1]), seed=1)

    def log_probs(neighbours: int, image_NYX: np.ndarray) -> np.ndarray:
        own = KNeighborsClassifier(neighbours, algorithm="brute")
        own.fit(train.reshape(80, -1).astype(float), labels[0])
        share_NC = own.predict_proba(image_NYX.reshape(len(image_NYX), -1).astype(float))
        return np.log((share_NC * neighbours + 1.0 / LABELS) / (neighbours + 1.0))

    losses = {
        number: -np.mean(log_probs(number, valid)[np.arange(30), labels[1]]) for number in (1, 4, 9)
    }
    best = min(losses, key=lambda number: losses[number])
    assert metrics["neighbours"] == best
    assert metrics["loss"] == pytest.approx(losses[best])
    found = model.classify(torch.from_numpy(test).float() / 255).log_softmax(1)
    np.testing.assert_allclose(found.numpy(), log_probs(best, test), rtol=1e-9)


def test_of_two_equal_pictures_the_first_one_counts() -> None:
    block = {"image_height": 1, "image_width": 1, "neighbours": [1], "smoothing": 1.0}
    model: Any = checkpoint.build("image_neighbours", block, Sizes(0, 2, False), "model")
    same = np.full((2, 1, 1), 9, np.uint8)
    model.fit(table(same, [1, 0]), table(same, [0, 1]), seed=1)
    assert model.classify(torch.full((1, 1, 1), 9 / 255)).argmax(1).tolist() == [1]
