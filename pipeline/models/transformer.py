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
from pipeline.nn.multihead_attention import KeysValues, MultiHeadAttention, Variant
from pipeline.nn.positional import positions
from pipeline.nn.transformer import EncoderBlock, FeedForward, Norm, Residual, SelfAttention, Stack


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    `norm_first`: pre-norm, or post-norm as in the paper. `learned_positions`: their number, or null
    for sinusoidal ones. `tied`: which tables share weights: none; output and target embedding; or
    these two and the source embedding (Press & Wolf 2017).

    `variants`: departures from the paper, for the book's exercises. `relative_positions` (Shaw et
    al. 2018) and `rotary_positions` (Su et al. 2021) act on the scores of self-attention and
    replace the encodings; `average_heads`, not concatenated ones; `unscaled_scores`, without 1 /
    sqrt(D); `unscaled_embeddings`, without sqrt(H)."""

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
    variants: tuple[Variant, ...]
    implementation: Implementation

    def __post_init__(self) -> None:
        transformer.check(self)
        transformer.check_variants(self)
        at_least_one(encoder_layers=self.encoder_layers, decoder_layers=self.decoder_layers)


class DecoderBlock(nn.Module):
    """Masked self-attention, cross-attention over the source, then feed-forward (d2l section
    11.7.5)."""

    def __init__(self, config: transformer.BlockConfig) -> None:
        super().__init__()
        # Self-attention. Saved weights contain the name `own`.
        self.own = SelfAttention(config)
        self.cross = MultiHeadAttention(
            config.width, config.heads, config.implementation, config.variants
        )
        self.cross_residual = Residual(config)
        self.feed_forward = FeedForward(config)

    def forward(
        self,
        x_BTH: Tensor,
        source_kv: KeysValues,
        source_mask: Tensor,
        kv_cache: KeysValues | None,
        mask: Tensor | None,
    ) -> tuple[Tensor, KeysValues]:
        """Output BTH of the block, and its self-attention's cache extended by x."""
        x_BTH, kv = self.own(x_BTH, kv_cache, mask)

        # Queries from the decoder, keys and values from the encoder's output.
        normed_BTH = self.cross_residual.pre_norm(x_BTH)
        context_BTH = self.cross(normed_BTH, source_kv, source_mask)
        x_BTH = self.cross_residual.add_norm(x_BTH, context_BTH)

        return self.feed_forward(x_BTH), kv

    def attention_weights(
        self,
        x_BTH: Tensor,
        source_kv: KeysValues,
        source_mask: Tensor,
        kv_cache: KeysValues | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Cross-attention weights_BNTS of `forward`, which takes the same arguments."""
        x_BTH, _ = self.own(x_BTH, kv_cache, mask)
        return self.cross.weights(self.cross_residual.pre_norm(x_BTH), source_kv, source_mask)


class State(NamedTuple):
    """KV caches of the decoder blocks, for the source (fixed) and for the target so far (empty
    before the first step); and source_mask_B11S, True at real source positions."""

    source_kv: tuple[KeysValues, ...]
    kv_cache: tuple[KeysValues, ...]
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
        scaled = "unscaled_embeddings" not in config.variants
        self.embedding_scale = math.sqrt(config.width) if scaled else 1.0
        block = transformer.block_config(config, activation="relu")

        self.source = nn.Embedding(sizes.source, config.width)
        self.target = (
            self.source if config.tied == "all" else nn.Embedding(sizes.target, config.width)
        )
        # Relative and rotary positions are part of self-attention.
        self.positions = (
            None
            if {"relative_positions", "rotary_positions"} & set(config.variants)
            else positions(config.learned_positions, config.width)
        )
        self.dropout = Dropout(config.dropout)

        # N identical blocks each (Vaswani et al. 2017, section 3.1).
        self.encoder = Stack[EncoderBlock](
            EncoderBlock(block) for _ in range(config.encoder_layers)
        )
        self.decoder = Stack[DecoderBlock](
            DecoderBlock(block) for _ in range(config.decoder_layers)
        )

        # The last block of a pre-norm stack leaves its sum unnormalised (Xiong et al. 2020).
        self.encoder_norm, self.decoder_norm = (
            transformer.normalisation(config.norm, config.width)
            if config.norm_first
            else nn.Identity()
            for _ in range(2)
        )
        self.output = nn.Linear(config.width, sizes.target)

        # Tie after the initialisation: the embedding's values are the shared ones.
        transformer.initialise(self, config.width)
        if config.tied != "none":
            self.output.weight = self.target.weight

    def embed(self, table: nn.Module, ids_BT: Tensor, first: int) -> Tensor:
        """Embeddings times sqrt(H) plus the encodings of positions first, first+1, ... (Vaswani et
        al. 2017, sections 3.4 and 3.5; d2l section 11.7.4)."""
        x_BTH = table(ids_BT) * self.embedding_scale
        if self.positions is not None:
            x_BTH = x_BTH + self.positions(first, first + ids_BT.shape[1])
        embedded_BTH: Tensor = self.dropout(x_BTH)
        return embedded_BTH

    def encode(self, prompt: Prompt) -> State:
        """Run the encoder; cache each decoder block's keys and values of its output."""
        # One mask for all heads and queries: no position attends to padding.
        mask_B11S = real_BS(prompt.length_B, prompt.ids_BS.shape[1])[:, None, None, :]
        x_BSH = self.embed(self.source, prompt.ids_BS, 0)
        for block in self.encoder:
            x_BSH = block(x_BSH, mask_B11S)
        x_BSH = self.encoder_norm(x_BSH)

        # The source does not change while decoding: project it once, not at every step.
        source_kv = tuple(block.cross.project_kv(x_BSH) for block in self.decoder)
        return State(source_kv, (), mask_B11S)

    def decode(self, target_BT: Tensor, state: State) -> tuple[Tensor, State]:
        """hidden_BTH after target_BT, which follows the cached positions: any number of steps with
        an empty cache, else one."""
        [*_, x_BTH], after = self.decoder_layers(target_BT, state)
        return self.decoder_norm(x_BTH), after

    def decoder_layers(self, target_BT: Tensor, state: State) -> tuple[list[Tensor], State]:
        """Input of each decoder block and, last, output of the top one, each BTH; and the state
        after."""
        # A step with a cache needs no mask: one query attends to every earlier position.
        first = state.kv_cache[0].keys.shape[2] if state.kv_cache else 0
        assert not (state.kv_cache and target_BT.shape[1] > 1)
        mask = None if state.kv_cache else causal_TK(target_BT.shape[1], 0, target_BT.device)

        layers = [self.embed(self.target, target_BT, first)]
        kv_cache = []
        for i, block in enumerate(self.decoder):
            # layers[i] is the output of block i-1.
            x_BTH, kv = block(
                layers[i],
                state.source_kv[i],
                state.source_mask,
                state.kv_cache[i] if state.kv_cache else None,
                mask,
            )
            layers.append(x_BTH)
            kv_cache.append(kv)
        return layers, State(state.source_kv, tuple(kv_cache), state.source_mask)

    def hidden(self, prompt: Prompt, target_BT: Tensor) -> Tensor:
        return self.decode(target_BT, self.encode(prompt))[0]

    def project(self, hidden_NH: Tensor) -> Tensor:
        logits_NV: Tensor = self.output(hidden_NH)
        return logits_NV

    def attention(self, prompt: Prompt, target_BT: Tensor) -> dict[str, Tensor]:
        """Cross-attention weights BTS of every decoder block and head."""
        state = self.encode(prompt)
        layers, _ = self.decoder_layers(target_BT, state)
        mask = causal_TK(target_BT.shape[1], 0, target_BT.device)

        weights_by_head: dict[str, Tensor] = {}
        for i, (block, x_BTH) in enumerate(zip(self.decoder, layers[:-1], strict=True)):
            # The fused kernel returns no weights: recompute them from the block's input.
            weights_BNTS = block.attention_weights(
                x_BTH, state.source_kv[i], state.source_mask, None, mask
            )
            for n, weights_BTS in enumerate(weights_BNTS.unbind(1)):
                weights_by_head[f"layer {i + 1} head {n + 1}"] = weights_BTS
        return weights_by_head

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        return self.encode(prompt), torch.full_like(prompt.length_B, BOS)

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        hidden_B1H, after = self.decode(last_B[:, None], state)
        return self.project(hidden_B1H.squeeze(1)).float().log_softmax(-1), after

    def step_with_attention(self, state: State, last_B: Tensor) -> tuple[Tensor, State, Tensor]:
        """As `step`, with weights_BS: the mean over the heads of the top block."""
        [*_, below_B1H, x_B1H], after = self.decoder_layers(last_B[:, None], state)
        log_probs_BV = self.project(self.decoder_norm(x_B1H).squeeze(1)).float().log_softmax(-1)

        # Recompute the weights from the top block's input and the cache before this step.
        [*_, top] = self.decoder
        kv_cache = state.kv_cache[-1] if state.kv_cache else None
        weights_BN1S = top.attention_weights(
            below_B1H, state.source_kv[-1], state.source_mask, kv_cache, None
        )
        return log_probs_BV, after, weights_BN1S.mean(1).squeeze(1)

    def reorder(self, state: State, rows_B: Tensor) -> State:
        # All caches are batched on dimension 0.
        def select(layers: tuple[KeysValues, ...]) -> tuple[KeysValues, ...]:
            return tuple(
                KeysValues(kv.keys.index_select(0, rows_B), kv.values.index_select(0, rows_B))
                for kv in layers
            )

        return State(
            select(state.source_kv),
            select(state.kv_cache),
            state.source_mask.index_select(0, rows_B),
        )
