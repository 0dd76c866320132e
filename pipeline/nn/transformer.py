"""Blocks of Transformers: attention layers, the feed-forward layer, residual connections and their
norms (d2l section 11.7).

Shapes: B batch, S or T positions, Q queries, K keys, H width, N heads, D width of a head.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from torch import Tensor, nn

from pipeline.core.errors import at_least_one, refuse, share
from pipeline.nn.cells import Implementation
from pipeline.nn.dropout import Dropout
from pipeline.nn.multihead_attention import KeysValues, Variant
from pipeline.nn.position_attention import self_attention

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
    variants: tuple[Variant, ...] = ()


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


def check_variants(config: Any) -> None:
    """Raise UserError if two of a family's `variants` exclude each other, or one of them its
    `learned_positions`, or if rotary positions have no pairs of columns to turn."""
    variants = config.variants
    if len(set(variants)) < len(variants):
        raise refuse("variants", list(variants), "each variant once", "Remove one.")
    names = [name for name in variants if name.endswith("_positions")]
    if len(names) > 1:
        raise refuse("variants", " and ".join(names), "one kind of positions", "Remove one.")
    if names and config.learned_positions is not None:
        raise refuse(
            "learned_positions",
            f"{config.learned_positions} with {names[0]}",
            "null: nothing is added to the embeddings",
            "Remove one of both.",
        )
    if "rotary_positions" in names and config.width // config.heads % 2:
        raise refuse(
            "heads",
            f"{config.heads} with width {config.width} and rotary_positions",
            "an even width of each head",
            "Change either.",
        )


def block_config(config: Any, **constants: Any) -> BlockConfig:
    """BlockConfig of a family's Config; `constants` are the fields that the Config lacks, except
    `variants`."""
    from_config = {
        field.name: getattr(config, field.name)
        for field in fields(BlockConfig)
        if field.name not in constants and hasattr(config, field.name)
    }
    return BlockConfig(**from_config, **constants)


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
        self.attention = self_attention(
            config.width, config.heads, config.implementation, config.variants
        )

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
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            # Models that multiply embeddings by sqrt(width) so begin with inputs of variance 1.
            nn.init.normal_(module.weight, std=width**-0.5)
