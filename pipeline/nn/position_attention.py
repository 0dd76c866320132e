"""Self-attention whose scores depend on the distance of two positions: relative positions (Shaw et
al. 2018) and rotary ones (Su et al. 2021). Nothing is added to the embeddings then.

The last of the K positions are those of the Q queries: a cache precedes them. It holds keys without
their positions, so nothing in it changes while it grows.

Shapes: B batch, Q queries, K keys, H width, N heads, D width of a head, O offsets from -DISTANCE to
DISTANCE."""

import math

import torch
from torch import Tensor, nn

from pipeline.nn.cells import Implementation
from pipeline.nn.multihead_attention import KeysValues, MultiHeadAttention, Variant

DISTANCE = 8
"""Offsets beyond this one count as it: k of Shaw et al. 2018, section 4.1, for their large model.

Sentences have to be longer in training, or the vectors of the largest offsets stay random."""


class RotaryAttention(MultiHeadAttention):
    """Queries and keys turned by an angle that grows with their position, so that their product
    depends on the distance (Su et al. 2021, equation 34)."""

    def queries_keys(self, x_BQH: Tensor, kv: KeysValues) -> tuple[Tensor, Tensor]:
        query_BNQD, keys_BNKD = super().queries_keys(x_BQH, kv)
        cached = keys_BNKD.shape[2] - query_BNQD.shape[2]
        return rotated(query_BNQD, cached), rotated(keys_BNKD, 0)


def rotated(x_BNQD: Tensor, first: int) -> Tensor:
    """Turn each pair of columns (2j, 2j+1) at position p by the angle p / 10000^(2j/D); the
    positions count from `first` (Su et al. 2021, equations 15 and 34)."""
    size, width = x_BNQD.shape[-2:]
    # Angles at least in float32: bfloat16 has too few digits for the positions.
    dtype = torch.promote_types(x_BNQD.dtype, torch.float32)
    position_Q = torch.arange(first, first + size, dtype=dtype, device=x_BNQD.device)
    column = torch.arange(0, width, 2, dtype=dtype, device=x_BNQD.device)
    angle = position_Q[:, None] * torch.exp(column * (-math.log(10000.0) / width))
    cos, sin = angle.cos().to(x_BNQD.dtype), angle.sin().to(x_BNQD.dtype)

    even, odd = x_BNQD[..., 0::2], x_BNQD[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


class RelativeAttention(MultiHeadAttention):
    """Learned vectors a of the offset between query and key, added to keys and to values (Shaw et
    al. 2018, section 3). All heads share them."""

    def __init__(
        self,
        width: int,
        heads: int,
        implementation: Implementation,
        variants: tuple[Variant, ...],
    ) -> None:
        super().__init__(width, heads, implementation, variants)
        self.key_offsets = nn.Embedding(2 * DISTANCE + 1, width // heads)
        self.value_offsets = nn.Embedding(2 * DISTANCE + 1, width // heads)

    def attend(self, x_BQH: Tensor, kv: KeysValues, mask: Tensor | None) -> Tensor:
        """z_i = sum over j of alpha_ij (x_j W_v + a_ij) (equation 3). No kernel of torch has it."""
        weights_BNQK = self.weights(x_BQH, kv, mask)
        offset_QK = offsets(x_BQH.shape[1], kv.keys.shape[2], x_BQH.device)
        value_QKD = self.value_offsets(offset_QK)
        return weights_BNQK @ kv.values + torch.einsum("bnqk,qkd->bnqd", weights_BNQK, value_QKD)

    def scores(self, x_BQH: Tensor, kv: KeysValues) -> Tensor:
        """q_i . (x_j W_k + a_ij) (equation 5)."""
        query_BNQD, keys_BNKD = self.queries_keys(x_BQH, kv)
        offset_QK = offsets(x_BQH.shape[1], keys_BNKD.shape[2], x_BQH.device)
        # One product with all offsets, then a choice: there are fewer offsets than pairs.
        by_offset_BNQO = query_BNQD @ self.key_offsets.weight.T
        index_BNQK = offset_QK.expand(*query_BNQD.shape[:2], -1, -1)
        return query_BNQD @ keys_BNKD.transpose(-1, -2) + by_offset_BNQO.gather(-1, index_BNQK)


def offsets(queries: int, keys: int, device: torch.device) -> Tensor:
    """Row of the tables for each query and key, QK: j - i, clipped, plus DISTANCE (Shaw et al.
    2018, section 3.2)."""
    position_K = torch.arange(keys, device=device)
    offset_QK = position_K[None, :] - position_K[keys - queries :, None]
    return offset_QK.clamp(-DISTANCE, DISTANCE) + DISTANCE


def self_attention(
    width: int, heads: int, implementation: Implementation, variants: tuple[Variant, ...]
) -> MultiHeadAttention:
    """Self-attention with the positions that `variants` name, if any."""
    if "relative_positions" in variants:
        return RelativeAttention(width, heads, implementation, variants)
    if "rotary_positions" in variants:
        return RotaryAttention(width, heads, implementation, variants)
    return MultiHeadAttention(width, heads, implementation, variants)
