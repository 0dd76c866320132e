"""Multi-head attention with keys and values that can be cached (d2l section 11.5).

Shapes: B batch, Q queries, K keys, H width, N heads, D width of a head.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.nn.attention_scores import masked_softmax
from pipeline.nn.cells import Implementation

Variant = Literal[
    "relative_positions",
    "rotary_positions",
    "average_heads",
    "unscaled_scores",
    "unscaled_embeddings",
]
"""Departures from the Transformer of Vaswani et al. 2017, for the book's exercises."""


class KeysValues(NamedTuple):
    """Keys and values of attention, split over heads, each BNKD: a layer's KV cache."""

    keys: Tensor
    values: Tensor

    def concat(self, new: "KeysValues") -> "KeysValues":
        """These positions followed by the `new` ones."""
        return KeysValues(
            torch.cat([self.keys, new.keys], 2), torch.cat([self.values, new.values], 2)
        )


def fused_attention(
    query_BNQD: Tensor, kv: KeysValues, mask: Tensor | None, scale: float | None = None
) -> Tensor:
    """Attention BNQD by torch's kernel; `scale` of the scores, None for 1 / sqrt(D).

    On a CPU bfloat16 is computed in float32: the kernel's bfloat16 gradient is six times slower."""
    keys, values = kv
    # The kernel applies the mask before its softmax.
    if query_BNQD.device.type != "cpu" or query_BNQD.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query_BNQD, keys, values, mask, scale=scale)

    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(
            query_BNQD.float(), keys.float(), values.float(), mask, scale=scale
        )


class MultiHeadAttention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2; d2l section
    11.5).

    Of the `variants` it has `average_heads`, whose W_o projects the mean of the heads, and
    `unscaled_scores`, without the division by sqrt(D)."""

    def __init__(
        self,
        width: int,
        heads: int,
        implementation: Implementation,
        variants: tuple[Variant, ...] = (),
    ) -> None:
        super().__init__()
        self.heads = heads
        self.use_equations = implementation == "equations"
        self.average_heads = "average_heads" in variants
        self.score_scale = 1.0 if "unscaled_scores" in variants else None
        self.query = nn.Linear(width, width)
        # W_k and W_v of all heads in one matrix: one product instead of two.
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width // heads if self.average_heads else width, width)

    def split(self, x_BQH: Tensor) -> Tensor:
        """Split the width over heads: BQH to BNQD."""
        # BQH -> BQND -> BNQD: the heads become a batch dimension (d2l section 11.5.2).
        batch, size, width = x_BQH.shape
        return x_BQH.view(batch, size, self.heads, width // self.heads).transpose(1, 2)

    def project_kv(self, x_BKH: Tensor) -> KeysValues:
        """Keys and values of x, for this call of `forward` or to be cached for later ones."""
        keys, values = self.key_value(x_BKH).chunk(2, dim=-1)
        return KeysValues(self.split(keys), self.split(values))

    def forward(self, x_BQH: Tensor, kv: KeysValues, mask: Tensor | None) -> Tensor:
        """Attend from x to `kv`: BQH.

        `mask` (broadcast to BNQK) is True where attention is allowed; None allows it everywhere."""
        heads_BNQD = self.attend(x_BQH, kv, mask)

        # Concatenate the heads and project them by W_o (d2l equation 11.5.2).
        joined_BQH = (
            heads_BNQD.mean(1) if self.average_heads else heads_BNQD.transpose(1, 2).flatten(2)
        )
        output_BQH: Tensor = self.output(joined_BQH)
        return output_BQH

    def attend(self, x_BQH: Tensor, kv: KeysValues, mask: Tensor | None) -> Tensor:
        """Each head's attention with its own projections, BNQD (d2l equation 11.5.1)."""
        if self.use_equations:
            return self.weights(x_BQH, kv, mask) @ kv.values
        query_BNQD, keys_BNKD = self.queries_keys(x_BQH, kv)
        return fused_attention(query_BNQD, KeysValues(keys_BNKD, kv.values), mask, self.score_scale)

    def queries_keys(self, x_BQH: Tensor, kv: KeysValues) -> tuple[Tensor, Tensor]:
        """Queries BNQD and keys BNKD, whose products are the scores."""
        return self.split(self.query(x_BQH)), kv.keys

    def scores(self, x_BQH: Tensor, kv: KeysValues) -> Tensor:
        """Products of queries and keys before their scaling, BNQK."""
        query_BNQD, keys_BNKD = self.queries_keys(x_BQH, kv)
        return query_BNQD @ keys_BNKD.transpose(-1, -2)

    def weights(self, x_BQH: Tensor, kv: KeysValues, mask: Tensor | None) -> Tensor:
        """Attention weights_BNQK of `forward`: softmax(Q K^T / sqrt(D)) (Vaswani et al. 2017,
        equation 1; d2l equation 11.3.6)."""
        scores_BNQK = self.scores(x_BQH, kv)
        # Scaling keeps the variance of the scores at 1 (d2l section 11.3.1).
        if self.score_scale is None:
            scores_BNQK = scores_BNQK / math.sqrt(kv.keys.shape[-1])
        if mask is None:
            return scores_BNQK.softmax(-1)
        return masked_softmax(scores_BNQK, mask)
