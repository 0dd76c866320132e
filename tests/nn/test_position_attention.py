"""Attention with relative and rotary positions, averaged heads and no score scale, against the
papers' equations for one pair of positions at a time, in value and in the gradient of every
weight."""

import cmath
import math
from typing import Any

import pytest
import torch
from reference_modules import weighed
from torch import Tensor

from pipeline.nn import position_attention
from pipeline.nn.masks import causal_TK
from pipeline.nn.multihead_attention import KeysValues, Variant
from pipeline.nn.position_attention import DISTANCE, rotated, self_attention

WIDTH, HEADS = 12, 3
D = WIDTH // HEADS
each_implementation = pytest.mark.parametrize("implementation", ["fused", "equations"])
VARIANTS: list[tuple[Variant, ...]] = [
    ("relative_positions",),
    ("rotary_positions",),
    ("average_heads",),
    ("unscaled_scores",),
    ("rotary_positions", "average_heads", "unscaled_scores"),
    ("relative_positions", "average_heads", "unscaled_scores"),
]
each_variant = pytest.mark.parametrize("variants", VARIANTS, ids="-".join)


def built(variants: tuple[Variant, ...], implementation: Any = "fused") -> Any:
    torch.manual_seed(6)
    attention = self_attention(WIDTH, HEADS, implementation, variants).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return attention


def turned(x_D: Tensor, position: int) -> Tensor:
    """x_2j + i x_2j+1 times e^(i p theta_j), theta_j = 10000^(-2j / D) (Su et al. 2021, section
    3.2.2)."""
    pairs = [complex(0, position * 10000 ** (-2 * j / D)) for j in range(D // 2)]
    factors = torch.tensor([cmath.exp(angle) for angle in pairs], dtype=torch.complex128)
    return torch.view_as_real(torch.view_as_complex(x_D.view(-1, 2)) * factors).flatten()


def by_equations(attention: Any, variants: tuple[str, ...], x_TH: Tensor) -> Tensor:
    """Output TH of causal attention over one row, head by head and query by query."""
    query_TH = attention.query(x_TH)
    key_TH, value_TH = attention.key_value(x_TH).chunk(2, -1)
    rows = []
    for i in range(len(x_TH)):
        heads = []
        for n in range(HEADS):
            part = slice(n * D, (n + 1) * D)
            scores, values = [], []
            for j in range(i + 1):
                query, key, value = query_TH[i, part], key_TH[j, part], value_TH[j, part]
                if "rotary_positions" in variants:
                    query, key = turned(query, i), turned(key, j)
                if "relative_positions" in variants:
                    row = max(-DISTANCE, min(DISTANCE, j - i)) + DISTANCE
                    key = key + attention.key_offsets.weight[row]
                    value = value + attention.value_offsets.weight[row]
                scale = 1.0 if "unscaled_scores" in variants else 1 / math.sqrt(D)
                scores.append(query.dot(key) * scale)
                values.append(value)
            heads.append(torch.stack(scores).softmax(0) @ torch.stack(values))
        joined = sum(heads) / HEADS if "average_heads" in variants else torch.cat(heads)
        rows.append(attention.output(joined))
    return torch.stack(rows)


@each_variant
@each_implementation
def test_attention_is_that_of_its_paper_in_value_and_gradient(
    variants: tuple[Variant, ...], implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seven positions reach beyond a distance of 3, so that offsets are clipped.
    monkeypatch.setattr(position_attention, "DISTANCE", 3)
    monkeypatch.setitem(globals(), "DISTANCE", 3)
    attention = built(variants, implementation)
    x_BTH = torch.randn(2, 7, WIDTH, dtype=torch.float64, requires_grad=True)
    mask_TK = causal_TK(7, 0, torch.device("cpu"))
    ours = attention(x_BTH, attention.project_kv(x_BTH), mask_TK)
    theirs = torch.stack([by_equations(attention, variants, x_TH) for x_TH in x_BTH])
    torch.testing.assert_close(ours, theirs)
    inputs = [x_BTH, *attention.parameters()]
    found, wanted = (torch.autograd.grad(weighed(out), inputs) for out in (ours, theirs))
    for our, their in zip(found, wanted, strict=True):
        torch.testing.assert_close(our, their)


@each_variant
@torch.inference_mode()
def test_cached_steps_equal_the_whole_row(variants: tuple[Variant, ...]) -> None:
    attention, x_BTH = built(variants), torch.randn(2, DISTANCE + 4, WIDTH, dtype=torch.float64)
    mask_TK = causal_TK(x_BTH.shape[1], 0, torch.device("cpu"))
    whole = attention(x_BTH, attention.project_kv(x_BTH), mask_TK)
    cache: KeysValues | None = None
    for t, x_B1H in enumerate(x_BTH.split(1, 1)):
        kv = attention.project_kv(x_B1H)
        cache = kv if cache is None else cache.concat(kv)
        torch.testing.assert_close(attention(x_B1H, cache, None), whole[:, t : t + 1])


@pytest.mark.parametrize("name", ["relative_positions", "rotary_positions"])
def test_a_score_depends_on_the_distance_alone(name: Variant) -> None:
    attention = built((name,))
    x_BTH = torch.randn(1, 1, WIDTH, dtype=torch.float64).expand(1, 6, -1)
    scores_NQK = attention.scores(x_BTH, attention.project_kv(x_BTH))[0]
    for offset in range(-5, 6):
        same_NI = scores_NQK.diagonal(offset, 1, 2)
        torch.testing.assert_close(same_NI, same_NI[:, :1].expand_as(same_NI))
    assert not torch.allclose(scores_NQK[:, 0, 1], scores_NQK[:, 0, 2])


def test_rotation_is_that_of_the_transformers_library() -> None:
    """GPT-J's, which pairs neighbouring columns as the paper does."""
    from transformers.models.gptj import modeling_gptj

    x_BNTD = torch.randn(2, 3, 9, 8)
    table_TD = modeling_gptj.create_sinusoidal_positions(9, 8)
    sin, cos = table_TD[None].chunk(2, -1)
    want = modeling_gptj.apply_rotary_pos_emb(x_BNTD.transpose(1, 2), sin, cos).transpose(1, 2)
    torch.testing.assert_close(rotated(x_BNTD, 0), want)
    torch.testing.assert_close(rotated(x_BNTD[:, :, 4:], 4), want[:, :, 4:])
