"""A neural probabilistic language model (Bengio et al. 2003): the next token from the last few.

`seqline add model` writes this template, which works as it is. For another model change `Config`,
`__init__` and `hidden`; and `begin` and `reorder` if the state has other contents. The first
paragraph names the model and its source; the last one has the shapes.

Shapes: B batch, T time, S prompt, W window, E embedding, H hidden, V vocabulary, N positions."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.contracts import PAD, Prompt, Sizes
from pipeline.core.errors import at_least_one, share
from pipeline.nn.dropout import Dropout

# What is carried from token to token. Any tuple of tensors will do: a search only hands it back.
# This model needs the last W - 1 ids; a recurrent network its hidden state, a Transformer the keys
# and values of the tokens so far.
State = tuple[Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run, key by key. There are no defaults: all of it is in params.yaml, so that
    `dvc params diff` shows every change."""

    window: int
    embedding: int
    hidden: int
    dropout: float

    def __post_init__(self) -> None:
        # A user's mistake becomes one line: `settings.NAME.model.hidden: got 0; expected ...`.
        at_least_one(window=self.window, embedding=self.embedding, hidden=self.hidden)
        share(dropout=self.dropout)


class Model(nn.Module):
    """p(next token | the last W tokens)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        """`sizes` has the numbers of ids of input and output, equal in a language model."""
        super().__init__()
        self.window = config.window
        self.embedding = nn.Embedding(sizes.target, config.embedding)
        self.layer = nn.Linear(config.window * config.embedding, config.hidden)
        self.dropout = Dropout(config.dropout)  # torch's is slow on CPUs
        self.output = nn.Linear(config.hidden, sizes.target)

    # --- Training and scoring: all tokens of a window of the stream at once

    def hidden(self, ids_BT: Tensor, state: State | None) -> tuple[Tensor, State]:
        """hidden_BTH after each id, and the state after the last. `state` None is the beginning of
        the stream, else what this method returned for the ids before."""
        before_BP = self.nothing_before(len(ids_BT), ids_BT) if state is None else state[0]
        ids_BK = torch.cat([before_BP, ids_BT], 1)  # K = W - 1 + T

        # hidden[:, t] sees the ids up to t, and none after it: it predicts id t + 1.
        window_BTW = ids_BK.unfold(1, self.window, 1)
        x_BTE = self.embedding(window_BTW).flatten(2)
        hidden_BTH = torch.tanh(self.layer(x_BTE))
        return self.dropout(hidden_BTH), self.state_after(ids_BK)

    def project(self, hidden_NH: Tensor) -> Tensor:
        """logits_NV, without a softmax. It is a method of its own because the tasks apply it to the
        real positions only. The loss overwrites its result, so it must be new memory."""
        logits_NV: Tensor = self.output(hidden_NH)
        return logits_NV

    # --- Decoding: one token of each row at a time

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        """Read each prompt up to its last id; return the state and this last id, which the search
        feeds to the first `step`.

        A prompt is `ids_BS`, with PAD from `length_B` on. It begins with EOS, the end of the row
        before, as each row of the stream does. So it has at least one id."""
        last_B1 = prompt.length_B[:, None] - 1
        last_B = prompt.ids_BS.gather(1, last_B1).squeeze(1)

        # Rows have unlike lengths: the W - 1 ids before the last one end at another place in each.
        place_BP = last_B1 + torch.arange(1 - self.window, 0, device=last_B.device)
        before_BP = prompt.ids_BS.gather(1, place_BP.clamp(min=0))
        return (before_BP.masked_fill(place_BP < 0, PAD),), last_B

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        """log_probs_BV of the next id, in float32, and a new state. The old one stays as it is: a
        beam search goes on from it more than once."""
        hidden_B1H, after = self.hidden(last_B[:, None], state)
        return self.project(hidden_B1H.squeeze(1)).float().log_softmax(-1), after

    def reorder(self, state: State, rows_B: Tensor) -> State:
        """Row i of the new state is row rows_B[i] of the old one. Rows may be repeated or left
        out."""
        return (state[0].index_select(0, rows_B),)

    # --- Helpers, which nothing else calls

    def nothing_before(self, batch: int, like: Tensor) -> Tensor:
        """PAD in the place of the ids before the stream."""
        return like.new_full((batch, self.window - 1), PAD)

    def state_after(self, ids_BK: Tensor) -> State:
        """The last W - 1 ids."""
        return (ids_BK[:, ids_BK.shape[1] - self.window + 1 :],)
