"""The Transformer (Vaswani et al. 2017; d2l section 11.7): attention alone, in an encoder and a decoder.

Shapes: B batch, S source, T target, Q queries, K keys, H width, N heads, D width of a head, V vocabulary.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import BOS, Prompt, Sizes
from pipeline.errors import refuse
from pipeline.nn.attention import masked_softmax
from pipeline.nn.masks import causal_TT, real_BS
from pipeline.nn.positional import sinusoidal_TH


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `tied`: no weights shared; output with target embedding; or all three with the source's."""

    width: int
    heads: int
    feed_forward: int
    encoder_layers: int
    decoder_layers: int
    dropout: float
    norm: Literal["pre", "post"]
    tied: Literal["none", "output", "all"]

    def __post_init__(self) -> None:
        if min(self.width, self.heads, self.feed_forward, self.encoder_layers, self.decoder_layers) < 1:
            raise refuse("width", f"{self.width} beside another size below 1", "every size at least 1")
        if self.width % self.heads:
            raise refuse("heads", f"{self.heads} with width {self.width}", "a divisor of width", "Change either.")
        if not 0 <= self.dropout < 1:
            raise refuse("dropout", self.dropout, "a share from 0 to below 1")


class KeysValues(NamedTuple):
    """What attention looks at, split over heads: each BNKD."""

    keys: Tensor
    values: Tensor


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2; d2l section 11.5)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key_value = nn.Linear(config.width, 2 * config.width)
        self.output = nn.Linear(config.width, config.width)

    def split(self, x_BQH: Tensor) -> Tensor:
        batch, size, width = x_BQH.shape
        return x_BQH.view(batch, size, self.heads, width // self.heads).transpose(1, 2)

    def remember(self, x_BKH: Tensor) -> KeysValues:
        """The keys and values of x, to be looked at now or, kept, at later steps."""
        keys, values = self.key_value(x_BKH).chunk(2, dim=-1)
        return KeysValues(self.split(keys), self.split(values))

    def forward(self, x_BQH: Tensor, seen: KeysValues, mask: Tensor | None) -> Tensor:
        """`mask` (broadcast to BNQK) is True where may be looked; None looks everywhere."""
        found_BNQD = F.scaled_dot_product_attention(self.split(self.query(x_BQH)), seen.keys, seen.values, mask)
        joined: Tensor = self.output(found_BNQD.transpose(1, 2).flatten(2))
        return joined

    def weights(self, x_BQH: Tensor, seen: KeysValues, mask: Tensor) -> Tensor:
        """weights_BNQK, written out: what `forward` looks at."""
        query_BNQD = self.split(self.query(x_BQH))
        scores_BNQK = query_BNQD @ seen.keys.transpose(-1, -2) / math.sqrt(query_BNQD.shape[-1])
        return masked_softmax(scores_BNQK, mask)


class Residual(nn.Module):
    """x + sublayer(x) with layer norm before (pre) or after (post) and dropout on the sublayer's output."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def before(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x) if self.pre else x
        return normed

    def after(self, x: Tensor, sublayer: Tensor) -> Tensor:
        total: Tensor = x + self.dropout(sublayer)
        return total if self.pre else cast(Tensor, self.norm(total))


def feed_forward(config: Config) -> nn.Sequential:
    """The same two-layer perceptron at every position (Vaswani et al. 2017, equation 2)."""
    return nn.Sequential(
        nn.Linear(config.width, config.feed_forward),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.feed_forward, config.width),
    )


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention, self.attention_residual = Attention(config), Residual(config)
        self.feed_forward, self.feed_forward_residual = feed_forward(config), Residual(config)

    def forward(self, x_BSH: Tensor, mask: Tensor) -> Tensor:
        inner = self.attention_residual.before(x_BSH)
        x_BSH = self.attention_residual.after(x_BSH, self.attention(inner, self.attention.remember(inner), mask))
        inner = self.feed_forward_residual.before(x_BSH)
        return self.feed_forward_residual.after(x_BSH, self.feed_forward(inner))


class DecoderBlock(nn.Module):
    """Masked self-attention, attention over the source, then feed-forward."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.own, self.own_residual = Attention(config), Residual(config)
        self.cross, self.cross_residual = Attention(config), Residual(config)
        self.feed_forward, self.feed_forward_residual = feed_forward(config), Residual(config)

    def look_back(self, x_BTH: Tensor, past: KeysValues | None, mask: Tensor | None) -> tuple[Tensor, KeysValues]:
        """The self-attention part over the past's keys and values and x's own, which are returned together."""
        inner = self.own_residual.before(x_BTH)
        seen = self.own.remember(inner)
        if past is not None:
            seen = KeysValues(torch.cat([past.keys, seen.keys], 2), torch.cat([past.values, seen.values], 2))
        return self.own_residual.after(x_BTH, self.own(inner, seen, mask)), seen

    def forward(
        self, x_BTH: Tensor, source: KeysValues, source_mask: Tensor, past: KeysValues | None, mask: Tensor | None
    ) -> tuple[Tensor, KeysValues]:
        x_BTH, seen = self.look_back(x_BTH, past, mask)
        inner = self.cross_residual.before(x_BTH)
        x_BTH = self.cross_residual.after(x_BTH, self.cross(inner, source, source_mask))
        inner = self.feed_forward_residual.before(x_BTH)
        return self.feed_forward_residual.after(x_BTH, self.feed_forward(inner)), seen

    def looked(
        self, x_BTH: Tensor, source: KeysValues, source_mask: Tensor, past: KeysValues | None, mask: Tensor | None
    ) -> Tensor:
        """weights_BNTS that `forward`, called alike, gives to the source."""
        x_BTH, _ = self.look_back(x_BTH, past, mask)
        return self.cross.weights(self.cross_residual.before(x_BTH), source, source_mask)


Block = TypeVar("Block", bound=nn.Module)


class Stack(nn.ModuleList, Generic[Block]):
    """Blocks of one kind, one above the other."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Block]: ...


class State(NamedTuple):
    """Each decoder block's keys and values of the source and of the target so far; and which source positions are real."""

    source: tuple[KeysValues, ...]
    past: tuple[KeysValues, ...]
    source_mask: Tensor


class Model(nn.Module):
    """p(target | source). Initialisation: embeddings N(0, 1/width), linear layers Xavier-uniform with zero bias."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        if config.tied == "all" and not sizes.shared:
            raise refuse("tied", "all", "none or output", "Or give the corpus one vocabulary: `vocab.share: true`.")
        self.width = config.width
        self.source = nn.Embedding(sizes.source, config.width)
        self.target = self.source if config.tied == "all" else nn.Embedding(sizes.target, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Stack[EncoderBlock](EncoderBlock(config) for _ in range(config.encoder_layers))
        self.decoder = Stack[DecoderBlock](DecoderBlock(config) for _ in range(config.decoder_layers))
        last = nn.LayerNorm if config.norm == "pre" else nn.Identity
        self.encoder_norm, self.decoder_norm = last(config.width), last(config.width)
        self.output = nn.Linear(config.width, sizes.target)
        self.register_buffer("positions_TH", sinusoidal_TH(512, config.width), persistent=False)
        self.positions_TH: Tensor
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=config.width**-0.5)
        if config.tied != "none":
            self.output.weight = self.target.weight

    def embed(self, table: nn.Module, ids_BT: Tensor, first: int) -> Tensor:
        """Scaled embeddings plus the encodings of positions first, first+1, ... (Vaswani et al. 2017, 3.4, 3.5)."""
        last = first + ids_BT.shape[1]
        if last > self.positions_TH.shape[0]:
            self.positions_TH = sinusoidal_TH(2 * last, self.width).to(self.positions_TH)
        embedded: Tensor = self.dropout(table(ids_BT) * math.sqrt(self.width) + self.positions_TH[first:last])
        return embedded

    def encode(self, prompt: Prompt) -> State:
        """Read the source, and keep each decoder block's keys and values of it."""
        mask = real_BS(prompt.length_B, prompt.ids_BS.shape[1])[:, None, None, :]
        x_BSH = self.embed(self.source, prompt.ids_BS, 0)
        for block in self.encoder:
            x_BSH = block(x_BSH, mask)
        x_BSH = self.encoder_norm(x_BSH)
        return State(tuple(block.cross.remember(x_BSH) for block in self.decoder), (), mask)

    def decode(self, target_BT: Tensor, state: State) -> tuple[Tensor, State]:
        """hidden_BTH after target_BT, which follows the state's past: many steps from no past, or one from any."""
        [*_, x_BTH], after = self.climb(target_BT, state)
        return self.decoder_norm(x_BTH), after

    def climb(self, target_BT: Tensor, state: State) -> tuple[list[Tensor], State]:
        """What enters each decoder block and, last, what leaves the top one, each BTH; and the state after."""
        first = state.past[0].keys.shape[2] if state.past else 0
        assert not (state.past and target_BT.shape[1] > 1)
        mask = None if state.past else causal_TT(target_BT.shape[1], target_BT.device)
        through, seen = [self.embed(self.target, target_BT, first)], []
        for i, block in enumerate(self.decoder):
            x_BTH, own = block(through[i], state.source[i], state.source_mask, state.past[i] if state.past else None, mask)
            through.append(x_BTH)
            seen.append(own)
        return through, State(state.source, tuple(seen), state.source_mask)

    def hidden(self, prompt: Prompt, target_BT: Tensor) -> Tensor:
        return self.decode(target_BT, self.encode(prompt))[0]

    def project(self, hidden_NH: Tensor) -> Tensor:
        logits_NV: Tensor = self.output(hidden_NH)
        return logits_NV

    def attention(self, prompt: Prompt, target_BT: Tensor) -> dict[str, Tensor]:
        """Every decoder block's attention over the source, by head."""
        state = self.encode(prompt)
        through, _ = self.climb(target_BT, state)
        mask = causal_TT(target_BT.shape[1], target_BT.device)
        named: dict[str, Tensor] = {}
        for i, (block, x_BTH) in enumerate(zip(self.decoder, through[:-1], strict=True)):
            weights_BNTS = block.looked(x_BTH, state.source[i], state.source_mask, None, mask)
            named |= {f"layer {i + 1} head {n + 1}": weights for n, weights in enumerate(weights_BNTS.unbind(1))}
        return named

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        return self.encode(prompt), torch.full_like(prompt.length_B, BOS)

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        hidden_B1H, after = self.decode(last_B[:, None], state)
        return self.project(hidden_B1H.squeeze(1)).float().log_softmax(-1), after

    def step_and_look(self, state: State, last_B: Tensor) -> tuple[Tensor, State, Tensor]:
        """The weights are the last block's, the mean of its heads."""
        [*_, below_B1H, x_B1H], after = self.climb(last_B[:, None], state)
        log_probs_BV = self.project(self.decoder_norm(x_B1H).squeeze(1)).float().log_softmax(-1)
        [*_, top], past = self.decoder, state.past[-1] if state.past else None
        weights_BN1S = top.looked(below_B1H, state.source[-1], state.source_mask, past, None)
        return log_probs_BV, after, weights_BN1S.mean(1).squeeze(1)

    def reorder(self, state: State, rows_B: Tensor) -> State:
        def pick(kept: tuple[KeysValues, ...]) -> tuple[KeysValues, ...]:
            return tuple(KeysValues(*(part.index_select(0, rows_B) for part in one)) for one in kept)

        return State(pick(state.source), pick(state.past), state.source_mask.index_select(0, rows_B))
