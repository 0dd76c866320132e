"""Blocks of Transformers: multi-head attention, the feed-forward layer, residual connections and
their norms (d2l sections 11.5 and 11.7).

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
    """Hyperparameters of one block. `norm_first`: normalise before each sublayer (pre-norm), else
    after it (post-norm, as in the paper)."""

    width: int
    heads: int
    feed_forward: int
    dropout: float
    norm: Norm
    norm_first: bool
    activation: Literal["relu", "gelu"]
    implementation: Implementation


def check(config: Any) -> None:
    """Check a family's width, heads, feed_forward and dropout; call it in `Config.__post_init__`.

    Raise UserError if one is out of range, or if `heads` does not divide `width`."""
    at_least_one(width=config.width, heads=config.heads, feed_forward=config.feed_forward)
    if config.width % config.heads:
        raise refuse(
            "heads",
            f"{config.heads} with width {config.width}",
            "a divisor of width",
            "Change either.",
        )
    share(dropout=config.dropout)


def block_config(config: Any, **constants: Any) -> BlockConfig:
    """BlockConfig of a family's Config; `constants` are the fields that the Config lacks."""
    from_config = {
        field.name: getattr(config, field.name)
        for field in fields(BlockConfig)
        if field.name not in constants
    }
    return BlockConfig(**from_config, **constants)


class KeysValues(NamedTuple):
    """Keys and values of attention, split over heads, each BNKD: a layer's KV cache."""

    keys: Tensor
    values: Tensor

    def concat(self, new: "KeysValues") -> "KeysValues":
        """These positions followed by the `new` ones."""
        return KeysValues(
            torch.cat([self.keys, new.keys], 2), torch.cat([self.values, new.values], 2)
        )


def fused_attention(query_BNQD: Tensor, kv: KeysValues, mask: Tensor | None) -> Tensor:
    """Attention BNQD by torch's kernel.

    On a CPU bfloat16 is computed in float32: the kernel's bfloat16 gradient is six times slower."""
    keys, values = kv
    # The kernel scales by 1 / sqrt(D) and applies the mask before its softmax.
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
        self.heads = heads
        self.use_equations = implementation == "equations"
        self.query = nn.Linear(width, width)
        # W_k and W_v of all heads in one matrix: one product instead of two.
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

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
        # Each head attends with its own projections (d2l equation 11.5.1).
        if self.use_equations:
            heads_BNQD = self.weights(x_BQH, kv, mask) @ kv.values
        else:
            heads_BNQD = fused_attention(self.split(self.query(x_BQH)), kv, mask)

        # Concatenate the heads and project them by W_o (d2l equation 11.5.2).
        output_BQH: Tensor = self.output(heads_BNQD.transpose(1, 2).flatten(2))
        return output_BQH

    def weights(self, x_BQH: Tensor, kv: KeysValues, mask: Tensor | None) -> Tensor:
        """Attention weights_BNQK of `forward`: softmax(Q K^T / sqrt(D)) (Vaswani et al. 2017,
        equation 1; d2l equation 11.3.6)."""
        query_BNQD = self.split(self.query(x_BQH))
        # BNQD @ BNDK -> BNQK. Scaling keeps the variance of the scores at 1 (d2l section 11.3.1).
        scores_BNQK = query_BNQD @ kv.keys.transpose(-1, -2) / math.sqrt(query_BNQD.shape[-1])
        if mask is None:
            return scores_BNQK.softmax(-1)
        return masked_softmax(scores_BNQK, mask)


class BatchNorm(nn.Module):
    """Batch norm over every position of the batch, padding included (Ioffe & Szegedy 2015); d2l
    section 11.7.3 warns of it.

    In training, a position's statistics include the positions after it and the other rows.
    `docs/results.md` shows the cost."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kernel = nn.BatchNorm1d(width)

    def forward(self, x_BTH: Tensor) -> Tensor:
        # Flatten B and T: every position of every row is an example.
        normed: Tensor = self.kernel(x_BTH.flatten(0, 1)).view_as(x_BTH)
        return normed


def normalisation(norm: Norm, width: int) -> nn.Module:
    """Norm layer called `norm` for vectors of this width."""
    return nn.LayerNorm(width) if norm == "layer" else BatchNorm(width)


class Residual(nn.Module):
    """x + dropout(sublayer(x)) with the norm before or after: "add & norm" (d2l section 11.7.3).

    Call `add_norm(x, sublayer(pre_norm(x)))`."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.norm = normalisation(config.norm, config.width)
        self.dropout = Dropout(config.dropout)

    def pre_norm(self, x: Tensor) -> Tensor:
        """Input of the sublayer: normalised in a pre-norm block, x itself in a post-norm one."""
        normed: Tensor = self.norm(x) if self.norm_first else x
        return normed

    def add_norm(self, x: Tensor, sublayer: Tensor) -> Tensor:
        """Add x and the sublayer's output; normalise the sum in a post-norm block."""
        total: Tensor = x + self.dropout(sublayer)
        return total if self.norm_first else cast(Tensor, self.norm(total))


class FeedForward(nn.Module):
    """Positionwise feed-forward network in its residual connection: the same two-layer perceptron
    at every position (Vaswani et al. 2017, equation 2; d2l section 11.7.2)."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.residual = Residual(config)
        # ReLU as in the paper; GELU as in GPT and BERT (Hendrycks & Gimpel 2016).
        self.layers = nn.Sequential(
            nn.Linear(config.width, config.feed_forward),
            nn.ReLU() if config.activation == "relu" else nn.GELU(),
            nn.Linear(config.feed_forward, config.width),
        )

    def forward(self, x_BTH: Tensor) -> Tensor:
        return self.residual.add_norm(x_BTH, self.layers(self.residual.pre_norm(x_BTH)))


class SelfAttention(nn.Module):
    """Self-attention in its residual connection (d2l section 11.6.1), with an optional KV cache."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.residual = Residual(config)
        self.attention = Attention(config.width, config.heads, config.implementation)

    def forward(
        self, x_BTH: Tensor, kv_cache: KeysValues | None, mask: Tensor | None
    ) -> tuple[Tensor, KeysValues]:
        """Attend from x to the cached positions and to x: the output BTH, and the cache extended
        by x."""
        normed_BTH = self.residual.pre_norm(x_BTH)
        kv = self.attention.project_kv(normed_BTH)
        # The cached positions precede x, and a causal model never changes their keys and values.
        if kv_cache is not None:
            kv = kv_cache.concat(kv)
        return self.residual.add_norm(x_BTH, self.attention(normed_BTH, kv, mask)), kv


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward (d2l section 11.7.4).

    With a causal mask and a KV cache it is the block of a language model."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        # Self-attention. Saved weights contain the name `own`.
        self.own = SelfAttention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x_BTH: Tensor, mask: Tensor | None) -> Tensor:
        return self.extend(x_BTH, None, mask)[0]

    def extend(
        self, x_BTH: Tensor, kv_cache: KeysValues | None, mask: Tensor | None
    ) -> tuple[Tensor, KeysValues]:
        """Output BTH of the block for x, whose positions follow the cached ones; and the cache
        extended by x."""
        x_BTH, kv = self.own(x_BTH, kv_cache, mask)
        return self.feed_forward(x_BTH), kv


Block = TypeVar("Block", bound=nn.Module)


class Stack(nn.ModuleList, Generic[Block]):
    """ModuleList of blocks of one type, which type checkers know when they iterate."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Block]: ...


def initialise(model: nn.Module, width: int) -> None:
    """Initialise embeddings from N(0, 1/width) and linear layers Xavier-uniform with zero bias
    (Glorot & Bengio 2010; d2l section 5.4.2)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            # Models that multiply embeddings by sqrt(width) so begin with inputs of variance 1.
            nn.init.normal_(module.weight, std=width**-0.5)
