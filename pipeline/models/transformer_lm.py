"""Transformer language models (d2l section 11.9.3; Radford et al. 2018): the causal decoder alone.

The state holds the past: its ids and every layer's KV cache, at most `context` tokens. A full cache
is cut to its later half, whose positions count from zero again. So a token's context depends on its
place in the text, never on the windows in which the text is fed.

Shapes: B batch, T new tokens, P past tokens, K both, H width, N heads, D width of a head, V
vocabulary."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.contracts import PAD, Prompt, Sizes
from pipeline.core.errors import at_least_one, refuse
from pipeline.nn import transformer
from pipeline.nn.cells import Implementation
from pipeline.nn.dropout import Dropout
from pipeline.nn.masks import causal_TK
from pipeline.nn.multihead_attention import KeysValues
from pipeline.nn.positional import positions
from pipeline.nn.transformer import EncoderBlock, Norm, Stack

State = tuple[Tensor, ...]
"""ids_BP (PAD on the left of shorter rows), then keys and values BNPD of each layer. The batch is
dimension 0 of every tensor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    `context`: most tokens that a token attends to. In a longer text each attends to at least half
    as many."""

    width: int
    heads: int
    feed_forward: int
    layers: int
    context: int
    dropout: float
    norm: Norm
    norm_first: bool
    learned_positions: bool
    tied: bool
    implementation: Implementation

    def __post_init__(self) -> None:
        transformer.check(self)
        at_least_one(layers=self.layers)
        if self.context < 2 or self.context % 2:
            raise refuse("context", self.context, "an even number from 2")


class Model(nn.Module):
    """p(next token | the tokens before it, up to `context`)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        c = config
        self.width = c.width
        self.context = c.context
        block = transformer.block_config(c, activation="gelu")

        self.embedding = nn.Embedding(sizes.target, c.width)
        self.positions = positions(c.context if c.learned_positions else None, c.width)
        self.dropout = Dropout(c.dropout)
        self.blocks = Stack[EncoderBlock](EncoderBlock(block) for _ in range(c.layers))
        # The last block of a pre-norm stack leaves its sum unnormalised (Xiong et al. 2020).
        self.norm = transformer.normalisation(c.norm, c.width) if c.norm_first else nn.Identity()
        self.output = nn.Linear(c.width, sizes.target)

        # Tie after the initialisation: the embedding's values are the shared ones.
        transformer.initialise(self, c.width)
        if c.tied:
            self.output.weight = self.embedding.weight

    def hidden(self, ids_BT: Tensor, state: State | None) -> tuple[Tensor, State]:
        """hidden_BTH after each id, and the state after the last; `state` None is an empty one."""
        if state is None:
            state = self.empty_state(ids_BT)

        # Feed as many tokens as the cache has room for, cut the cache, and repeat.
        pieces = []
        while ids_BT.shape[1]:
            state = self.make_room(state)
            room = self.context - state[0].shape[1]
            piece_BTH, state = self.extend(ids_BT[:, :room], state)
            pieces.append(piece_BTH)
            ids_BT = ids_BT[:, room:]
        return torch.cat(pieces, 1), state

    def empty_state(self, ids_BT: Tensor) -> State:
        """State before any token, for the batch and device of `ids_BT`."""
        return (ids_BT[:, :0],)

    def make_room(self, state: State) -> State:
        """Cut each row of `context` tokens to its later half if the cache is full."""
        ids_BP = state[0]
        if ids_BP.shape[1] < self.context:
            return state

        # Shorter rows have padding on the left and keep all their tokens.
        is_full_B1 = (ids_BP != PAD).sum(1, keepdim=True) == self.context
        is_first_half_P = torch.arange(self.context, device=ids_BP.device) < self.context // 2
        ids_BP = ids_BP.masked_fill(is_full_B1 & is_first_half_P, PAD)

        # Drop columns of padding only. Compute the caches anew: the positions have changed.
        padding = int((ids_BP == PAD).sum(1).min())
        _, state = self.extend(ids_BP[:, padding:], self.empty_state(ids_BP))
        return state

    def extend(self, ids_BT: Tensor, state: State) -> tuple[Tensor, State]:
        """hidden_BTH of tokens for which the state has room, and the state with them."""
        ids_BP, *caches = state
        ids_BK = torch.cat([ids_BP, ids_BT], 1)
        past, new = ids_BP.shape[1], ids_BT.shape[1]

        # Positions of the new tokens depend on the row's padding, so embed all and keep the new.
        x_BTH = self.embed(ids_BK)[:, past:]
        mask_B1TK = self.mask(ids_BK, new)
        after: list[Tensor] = [ids_BK]
        for i, block in enumerate(self.blocks):
            kv_cache = KeysValues(*caches[2 * i : 2 * i + 2]) if caches else None
            x_BTH, kv_cache = block.extend(x_BTH, kv_cache, mask_B1TK)
            after += kv_cache
        normed_BTH: Tensor = self.norm(x_BTH)
        return normed_BTH, tuple(after)

    def embed(self, ids_BK: Tensor) -> Tensor:
        """Embeddings times sqrt(H) plus positional encodings BKH. A row's positions count from its
        first real token."""
        table_KH = self.positions(0, ids_BK.shape[1])
        position_BK = ((ids_BK != PAD).cumsum(1) - 1).clamp(min=0)
        embedded_BKH: Tensor = self.dropout(
            self.embedding(ids_BK) * math.sqrt(self.width) + table_KH[position_BK]
        )
        return embedded_BKH

    def mask(self, ids_BK: Tensor, new: int) -> Tensor:
        """Causal mask B1TK of the last `new` tokens: True at themselves and at real tokens before
        them."""
        size = ids_BK.shape[1]
        is_before_TK = causal_TK(new, size - new, ids_BK.device)
        # Padding attends to itself: a softmax over nothing would be NaN.
        is_self_TK = torch.eye(size, dtype=torch.bool, device=ids_BK.device)[size - new :]
        return ((is_before_TK & (ids_BK != PAD)[:, None, :]) | is_self_TK)[:, None]

    def project(self, hidden_NH: Tensor) -> Tensor:
        logits_NV: Tensor = self.output(hidden_NH)
        return logits_NV

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        """Read each prompt (which begins with EOS, as the stream does) up to its last id, which is
        fed first."""
        last_B = prompt.ids_BS.gather(1, prompt.length_B[:, None] - 1).squeeze(1)

        # Keep of each row what the cache would hold if its tokens had been fed one by one.
        lengths = (prompt.length_B - 1).tolist()
        rows = [
            ids[length - self.kv_cache_length(length) : length]
            for ids, length in zip(prompt.ids_BS, lengths, strict=True)
        ]
        # Pad on the left: reverse, pad on the right, reverse again.
        past_BP = nn.utils.rnn.pad_sequence(
            [ids.flip(0) for ids in rows], batch_first=True, padding_value=PAD
        ).flip(1)
        _, state = self.extend(past_BP, self.empty_state(past_BP))
        return state, last_B

    def kv_cache_length(self, tokens: int) -> int:
        """Number of tokens that the state holds after `tokens` were fed."""
        if tokens <= self.context:
            return tokens
        # A full cache is cut to `half`; then it grows again by one token a step.
        half = self.context // 2
        return half + 1 + (tokens - self.context - 1) % half

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        hidden_B1H, after = self.extend(last_B[:, None], self.make_room(state))
        return self.project(hidden_B1H.squeeze(1)).float().log_softmax(-1), after

    def reorder(self, state: State, rows_B: Tensor) -> State:
        return tuple(part.index_select(0, rows_B) for part in state)
