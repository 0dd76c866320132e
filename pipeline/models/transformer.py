"""The Transformer (Vaswani et al. 2017; d2l section 11.7): attention alone, in an encoder and a
decoder.

Shapes: B batch, S source, T target, H width, N heads, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.contracts import BOS, Prompt, Sizes
from pipeline.core.errors import at_least_one, refuse
from pipeline.nn import transformer
from pipeline.nn.cells import Implementation
from pipeline.nn.dropout import Dropout
from pipeline.nn.masks import causal_TK, real_BS
from pipeline.nn.positional import positions
from pipeline.nn.transformer import (
    Attention,
    EncoderBlock,
    FeedForward,
    KeysValues,
    Norm,
    Residual,
    SelfAttention,
    Stack,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `norm_first`: pre-norm, or post-norm as in the paper. `learned_positions`:
    how many, null for sinusoidal ones. `tied`: no weights shared; output with target embedding; or
    all three with the source's."""

    width: int
    heads: int
    feed_forward: int
    encoder_layers: int
    decoder_layers: int
    dropout: float
    norm: Norm
    norm_first: bool
    learned_positions: int | None
    tied: Literal["none", "output", "all"]
    implementation: Implementation

    def __post_init__(self) -> None:
        transformer.check(self)
        at_least_one(encoder_layers=self.encoder_layers, decoder_layers=self.decoder_layers)


class DecoderBlock(nn.Module):
    """Masked self-attention, attention over the source, then feed-forward."""

    def __init__(self, sizes: transformer.BlockConfig) -> None:
        super().__init__()
        self.own = SelfAttention(sizes)
        self.cross, self.cross_residual = (
            Attention(sizes.width, sizes.heads, sizes.implementation),
            Residual(sizes),
        )
        self.feed_forward = FeedForward(sizes)

    def forward(
        self,
        x_BTH: Tensor,
        source: KeysValues,
        source_mask: Tensor,
        past: KeysValues | None,
        mask: Tensor | None,
    ) -> tuple[Tensor, KeysValues]:
        x_BTH, seen = self.own(x_BTH, past, mask)
        inner = self.cross_residual.pre_norm(x_BTH)
        x_BTH = self.cross_residual.add_norm(x_BTH, self.cross(inner, source, source_mask))
        return self.feed_forward(x_BTH), seen

    def attention_weights(
        self,
        x_BTH: Tensor,
        source: KeysValues,
        source_mask: Tensor,
        past: KeysValues | None,
        mask: Tensor | None,
    ) -> Tensor:
        """weights_BNTS that `forward`, called alike, gives to the source."""
        x_BTH, _ = self.own(x_BTH, past, mask)
        return self.cross.weights(self.cross_residual.pre_norm(x_BTH), source, source_mask)


class State(NamedTuple):
    """Each decoder block's keys and values of the source and of the target so far; and which source
    positions are real."""

    source: tuple[KeysValues, ...]
    past: tuple[KeysValues, ...]
    source_mask: Tensor


class Model(nn.Module):
    """p(target | source)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        if config.tied == "all" and not sizes.shared:
            raise refuse(
                "tied",
                "all",
                "none or output",
                "Or give the corpus one vocabulary: `vocab.share: true`.",
            )
        self.width, block = config.width, transformer.block_config(config, activation="relu")
        self.source = nn.Embedding(sizes.source, config.width)
        self.target = (
            self.source if config.tied == "all" else nn.Embedding(sizes.target, config.width)
        )
        self.positions = positions(config.learned_positions, config.width)
        self.dropout = Dropout(config.dropout)
        self.encoder = Stack[EncoderBlock](
            EncoderBlock(block) for _ in range(config.encoder_layers)
        )
        self.decoder = Stack[DecoderBlock](
            DecoderBlock(block) for _ in range(config.decoder_layers)
        )
        last = [
            transformer.normalisation(config.norm, config.width)
            if config.norm_first
            else nn.Identity()
            for _ in range(2)
        ]
        self.encoder_norm, self.decoder_norm = last
        self.output = nn.Linear(config.width, sizes.target)
        transformer.initialise(self, config.width)
        if config.tied != "none":
            self.output.weight = self.target.weight

    def embed(self, table: nn.Module, ids_BT: Tensor, first: int) -> Tensor:
        """Scaled embeddings plus the encodings of positions first, first+1, ... (Vaswani et al.
        2017, 3.4, 3.5)."""
        position_TH = self.positions(first, first + ids_BT.shape[1])
        embedded: Tensor = self.dropout(table(ids_BT) * math.sqrt(self.width) + position_TH)
        return embedded

    def encode(self, prompt: Prompt) -> State:
        """Read the source, and keep each decoder block's keys and values of it."""
        mask = real_BS(prompt.length_B, prompt.ids_BS.shape[1])[:, None, None, :]
        x_BSH = self.embed(self.source, prompt.ids_BS, 0)
        for block in self.encoder:
            x_BSH = block(x_BSH, mask)
        x_BSH = self.encoder_norm(x_BSH)
        return State(tuple(block.cross.project_kv(x_BSH) for block in self.decoder), (), mask)

    def decode(self, target_BT: Tensor, state: State) -> tuple[Tensor, State]:
        """hidden_BTH after target_BT, which follows the state's past: many steps from no past, or
        one from any."""
        [*_, x_BTH], after = self.decoder_layers(target_BT, state)
        return self.decoder_norm(x_BTH), after

    def decoder_layers(self, target_BT: Tensor, state: State) -> tuple[list[Tensor], State]:
        """Input of each decoder block and, last, output of the top one, each BTH; and the state
        after."""
        first = state.past[0].keys.shape[2] if state.past else 0
        assert not (state.past and target_BT.shape[1] > 1)
        mask = None if state.past else causal_TK(target_BT.shape[1], 0, target_BT.device)
        through, seen = [self.embed(self.target, target_BT, first)], []
        for i, block in enumerate(self.decoder):
            x_BTH, own = block(
                through[i],
                state.source[i],
                state.source_mask,
                state.past[i] if state.past else None,
                mask,
            )
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
        through, _ = self.decoder_layers(target_BT, state)
        mask = causal_TK(target_BT.shape[1], 0, target_BT.device)
        named: dict[str, Tensor] = {}
        for i, (block, x_BTH) in enumerate(zip(self.decoder, through[:-1], strict=True)):
            weights_BNTS = block.attention_weights(
                x_BTH, state.source[i], state.source_mask, None, mask
            )
            named |= {
                f"layer {i + 1} head {n + 1}": weights
                for n, weights in enumerate(weights_BNTS.unbind(1))
            }
        return named

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        return self.encode(prompt), torch.full_like(prompt.length_B, BOS)

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        hidden_B1H, after = self.decode(last_B[:, None], state)
        return self.project(hidden_B1H.squeeze(1)).float().log_softmax(-1), after

    def step_with_attention(self, state: State, last_B: Tensor) -> tuple[Tensor, State, Tensor]:
        """The weights are the last block's, the mean of its heads."""
        [*_, below_B1H, x_B1H], after = self.decoder_layers(last_B[:, None], state)
        log_probs_BV = self.project(self.decoder_norm(x_B1H).squeeze(1)).float().log_softmax(-1)
        [*_, top], past = self.decoder, state.past[-1] if state.past else None
        weights_BN1S = top.attention_weights(
            below_B1H, state.source[-1], state.source_mask, past, None
        )
        return log_probs_BV, after, weights_BN1S.mean(1).squeeze(1)

    def reorder(self, state: State, rows_B: Tensor) -> State:
        def pick(kept: tuple[KeysValues, ...]) -> tuple[KeysValues, ...]:
            return tuple(
                KeysValues(*(part.index_select(0, rows_B) for part in one)) for one in kept
            )

        return State(
            pick(state.source), pick(state.past), state.source_mask.index_select(0, rows_B)
        )
