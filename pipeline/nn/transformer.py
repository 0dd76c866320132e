"""Blocks of Transformers: multi-head attention, the feed-forward layer, residual connections and
their norms.

Shapes: B batch, S or T positions, Q queries, K keys, H width, N heads, D width of a head.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.core.errors import at_least_one, refuse, share
from pipeline.nn.attention import masked_softmax
from pipeline.nn.cells import Implementation
from pipeline.nn.dropout import Dropout

Norm = Literal["layer", "batch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockConfig:
    """Of one block: `norm_first` normalises before each sublayer (pre-norm), else after it
    (post-norm, the original)."""

    width: int
    heads: int
    feed_forward: int
    dropout: float
    norm: Norm
    norm_first: bool
    activation: Literal["relu", "gelu"]
    implementation: Implementation


def check(config: Any) -> None:
    """For the `__post_init__` of a family's Config: its width, heads, feed_forward and dropout."""
    at_least_one(width=config.width, heads=config.heads, feed_forward=config.feed_forward)
    if config.width % config.heads:
        raise refuse(
            "heads",
            f"{config.heads} with width {config.width}",
            "a divisor of width",
            "Change either.",
        )
    share(dropout=config.dropout)


def block_config(config: Any, **others: Any) -> BlockConfig:
    """Those of a family's Config, with `others` for what it does not have."""
    own = {
        field.name: getattr(config, field.name)
        for field in fields(BlockConfig)
        if field.name not in others
    }
    return BlockConfig(**own, **others)


class KeysValues(NamedTuple):
    """Keys and values of attention, split over heads: each BNKD."""

    keys: Tensor
    values: Tensor

    def concat(self, more: "KeysValues") -> "KeysValues":
        """These positions and, after them, `more`."""
        return KeysValues(
            torch.cat([self.keys, more.keys], 2), torch.cat([self.values, more.values], 2)
        )


def fused_attention(query_BNQD: Tensor, seen: KeysValues, mask: Tensor | None) -> Tensor:
    """Torch's kernel; on a CPU in float32 instead of bfloat16, whose gradient takes six times as
    long there."""
    keys, values = seen
    if query_BNQD.device.type != "cpu" or query_BNQD.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query_BNQD, keys, values, mask)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(
            query_BNQD.float(), keys.float(), values.float(), mask
        )


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2; d2l section
    11.5)."""

    def __init__(self, width: int, heads: int, implementation: Implementation) -> None:
        super().__init__()
        self.heads, self.use_equations = heads, implementation == "equations"
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def split(self, x_BQH: Tensor) -> Tensor:
        batch, size, width = x_BQH.shape
        return x_BQH.view(batch, size, self.heads, width // self.heads).transpose(1, 2)

    def project_kv(self, x_BKH: Tensor) -> KeysValues:
        """The keys and values of x, to be looked at now or, kept, at later steps."""
        keys, values = self.key_value(x_BKH).chunk(2, dim=-1)
        return KeysValues(self.split(keys), self.split(values))

    def forward(self, x_BQH: Tensor, seen: KeysValues, mask: Tensor | None) -> Tensor:
        """`mask` (broadcast to BNQK) is True where may be looked; None looks everywhere."""
        if self.use_equations:
            found_BNQD = self.weights(x_BQH, seen, mask) @ seen.values
        else:
            found_BNQD = fused_attention(self.split(self.query(x_BQH)), seen, mask)
        joined: Tensor = self.output(found_BNQD.transpose(1, 2).flatten(2))
        return joined

    def weights(self, x_BQH: Tensor, seen: KeysValues, mask: Tensor | None) -> Tensor:
        """weights_BNQK, written out: softmax(Q K^T / sqrt(D)), what `forward` looks at."""
        query_BNQD = self.split(self.query(x_BQH))
        scores_BNQK = query_BNQD @ seen.keys.transpose(-1, -2) / math.sqrt(query_BNQD.shape[-1])
        return scores_BNQK.softmax(-1) if mask is None else masked_softmax(scores_BNQK, mask)


class BatchNorm(nn.Module):
    """Batch norm over every position of the batch (Ioffe & Szegedy 2015), padding included: what
    d2l 11.7.3 warns of.

    In training a position is normalised by the positions after it and by its batch mates';
    `docs/results.md` shows the cost."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kernel = nn.BatchNorm1d(width)

    def forward(self, x_BTH: Tensor) -> Tensor:
        normed: Tensor = self.kernel(x_BTH.flatten(0, 1)).view_as(x_BTH)
        return normed


def normalisation(norm: Norm, width: int) -> nn.Module:
    """The norm called `norm` for vectors of this width."""
    return nn.LayerNorm(width) if norm == "layer" else BatchNorm(width)


class Residual(nn.Module):
    """x + sublayer(x) with the norm before or after, and dropout on the sublayer's output (d2l
    section 11.7.3)."""

    def __init__(self, sizes: BlockConfig) -> None:
        super().__init__()
        self.norm_first = sizes.norm_first
        self.norm = normalisation(sizes.norm, sizes.width)
        self.dropout = Dropout(sizes.dropout)

    def pre_norm(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x) if self.norm_first else x
        return normed

    def add_norm(self, x: Tensor, sublayer: Tensor) -> Tensor:
        total: Tensor = x + self.dropout(sublayer)
        return total if self.norm_first else cast(Tensor, self.norm(total))


class FeedForward(nn.Module):
    """The same two-layer perceptron at every position, in its residual connection (Vaswani et al.
    2017, equation 2)."""

    def __init__(self, sizes: BlockConfig) -> None:
        super().__init__()
        self.residual = Residual(sizes)
        self.layers = nn.Sequential(
            nn.Linear(sizes.width, sizes.feed_forward),
            nn.ReLU() if sizes.activation == "relu" else nn.GELU(),
            nn.Linear(sizes.feed_forward, sizes.width),
        )

    def forward(self, x_BTH: Tensor) -> Tensor:
        return self.residual.add_norm(x_BTH, self.layers(self.residual.pre_norm(x_BTH)))


class SelfAttention(nn.Module):
    """Attention of positions to one another and to a past, in its residual connection."""

    def __init__(self, sizes: BlockConfig) -> None:
        super().__init__()
        self.residual = Residual(sizes)
        self.attention = Attention(sizes.width, sizes.heads, sizes.implementation)

    def forward(
        self, x_BTH: Tensor, past: KeysValues | None, mask: Tensor | None
    ) -> tuple[Tensor, KeysValues]:
        """The sublayer's output over the past's keys and values and x's own, which are returned
        together."""
        inner = self.residual.pre_norm(x_BTH)
        seen = self.attention.project_kv(inner)
        if past is not None:
            seen = past.concat(seen)
        return self.residual.add_norm(x_BTH, self.attention(inner, seen, mask)), seen


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward; with a causal mask and a past it is the block of a
    language model."""

    def __init__(self, sizes: BlockConfig) -> None:
        super().__init__()
        self.own = SelfAttention(sizes)
        self.feed_forward = FeedForward(sizes)

    def forward(self, x_BTH: Tensor, mask: Tensor | None) -> Tensor:
        return self.extend(x_BTH, None, mask)[0]

    def extend(
        self, x_BTH: Tensor, past: KeysValues | None, mask: Tensor | None
    ) -> tuple[Tensor, KeysValues]:
        """x after the block, x following a past; and the keys and values of both."""
        looked_BTH, seen = self.own(x_BTH, past, mask)
        return self.feed_forward(looked_BTH), seen


Block = TypeVar("Block", bound=nn.Module)


class Stack(nn.ModuleList, Generic[Block]):
    """Blocks of one kind, one above the other."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Block]: ...


def initialise(model: nn.Module, width: int) -> None:
    """Embeddings N(0, 1/width); linear layers Xavier-uniform with zero bias (Glorot & Bengio
    2010)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=width**-0.5)
