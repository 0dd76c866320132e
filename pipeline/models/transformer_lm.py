"""Transformer language models (d2l section 11.9.3; Radford et al. 2018): the causal decoder alone.

The past is the state: its ids and every layer's keys and values. It holds at most `context` tokens;
a full one is cut to its later half, whose positions then count from zero again, so what a token
sees depends on its place in the text and never on the windows in which the text is fed. Shapes: B
batch, T new tokens, P past tokens, K both, H width, V vocabulary."""

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
from pipeline.nn.positional import positions
from pipeline.nn.transformer import EncoderBlock, KeysValues, Norm, Stack

State = tuple[Tensor, ...]
"""ids_BP (PAD on the left of shorter rows), then keys and values BNPD of each layer; batched on
dimension 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `context`: tokens seen at most, half of which every token sees for sure
    once there are as many."""

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
        block = transformer.block_config(c, activation="gelu")
        self.width, self.context = c.width, c.context
        self.embedding = nn.Embedding(sizes.target, c.width)
        self.positions = positions(c.context if c.learned_positions else None, c.width)
        self.dropout = Dropout(c.dropout)
        self.blocks = Stack[EncoderBlock](EncoderBlock(block) for _ in range(c.layers))
        self.norm = transformer.normalisation(c.norm, c.width) if c.norm_first else nn.Identity()
        self.output = nn.Linear(c.width, sizes.target)
        transformer.initialise(self, c.width)
        if c.tied:
            self.output.weight = self.embedding.weight

    def hidden(self, ids_BT: Tensor, state: State | None) -> tuple[Tensor, State]:
        """hidden_BTH after each id, and the state after the last; `state` None starts afresh."""
        state = self.empty_state(ids_BT) if state is None else state
        pieces = []
        while ids_BT.shape[1]:
            state = self.make_room(state)
            room = self.context - state[0].shape[1]
            piece_BTH, state = self.extend(ids_BT[:, :room], state)
            pieces.append(piece_BTH)
            ids_BT = ids_BT[:, room:]
        return torch.cat(pieces, 1), state

    def empty_state(self, ids_BT: Tensor) -> State:
        """The state before any token."""
        return (ids_BT[:, :0],)

    def make_room(self, state: State) -> State:
        """The state with each row of `context` tokens cut to its later half, unless there is room
        as it is."""
        ids_BP = state[0]
        if ids_BP.shape[1] < self.context:
            return state
        half = self.context // 2
        full_B1 = (ids_BP != PAD).sum(1, keepdim=True) == self.context
        kept_BP = ids_BP.masked_fill(
            full_B1 & (torch.arange(self.context, device=ids_BP.device) < half), PAD
        )
        return self.extend(
            kept_BP[:, int((kept_BP == PAD).sum(1).min()) :], self.empty_state(ids_BP)
        )[1]

    def extend(self, ids_BT: Tensor, state: State) -> tuple[Tensor, State]:
        """hidden_BTH of tokens for which the state has room, and the state with them."""
        ids_BP, *flat = state
        ids_BK = torch.cat([ids_BP, ids_BT], 1)
        new, past = ids_BT.shape[1], ids_BP.shape[1]
        x_BTH, mask = self.embed(ids_BK)[:, past:], self.mask(ids_BK, new)
        after: list[Tensor] = [ids_BK]
        for i, block in enumerate(self.blocks):
            x_BTH, seen = block.extend(
                x_BTH, KeysValues(*flat[2 * i : 2 * i + 2]) if flat else None, mask
            )
            after += seen
        normed: Tensor = self.norm(x_BTH)
        return normed, tuple(after)

    def embed(self, ids_BK: Tensor) -> Tensor:
        """Scaled embeddings plus the encodings of each row's own positions, which count from its
        first real token."""
        table_KH, real_BK = self.positions(0, ids_BK.shape[1]), ids_BK != PAD
        position_BKH = table_KH[(real_BK.cumsum(1) - 1).clamp(min=0)]
        embedded: Tensor = self.dropout(
            self.embedding(ids_BK) * math.sqrt(self.width) + position_BKH
        )
        return embedded

    def mask(self, ids_BK: Tensor, new: int) -> Tensor:
        """Causal mask of the last `new` tokens: they attend to themselves and to real tokens before
        them."""
        size = ids_BK.shape[1]
        causal_TK_ = causal_TK(new, size - new, ids_BK.device)
        self_TK = torch.eye(size, dtype=torch.bool, device=ids_BK.device)[size - new :]
        return ((causal_TK_ & (ids_BK != PAD)[:, None, :]) | self_TK)[:, None]

    def project(self, hidden_NH: Tensor) -> Tensor:
        logits_NV: Tensor = self.output(hidden_NH)
        return logits_NV

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        """Read each prompt (which begins with EOS, as the stream does) up to its last id, which is
        fed first."""
        last_B = prompt.ids_BS.gather(1, prompt.length_B[:, None] - 1).squeeze(1)
        read = zip(prompt.ids_BS, (prompt.length_B - 1).tolist(), strict=True)
        kept = [ids[length - self.kv_cache_length(length) : length] for ids, length in read]
        past_BP = nn.utils.rnn.pad_sequence(
            [ids.flip(0) for ids in kept], batch_first=True, padding_value=PAD
        ).flip(1)
        return self.extend(past_BP, self.empty_state(past_BP))[1], last_B

    def kv_cache_length(self, tokens: int) -> int:
        """Number of tokens that the state holds, out of so many."""
        half = self.context // 2
        return tokens if tokens <= self.context else half + 1 + (tokens - self.context - 1) % half

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        hidden_B1H, after = self.extend(last_B[:, None], self.make_room(state))
        return self.project(hidden_B1H.squeeze(1)).float().log_softmax(-1), after

    def reorder(self, state: State, rows_B: Tensor) -> State:
        return tuple(part.index_select(0, rows_B) for part in state)
