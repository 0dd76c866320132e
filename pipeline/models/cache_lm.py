"""The trained language model of another run, the run's `start`, with a continuous cache (Grave,
Joulin and Usunier 2016). Nothing is trained: theta and the cache's weight are chosen on the
validation text.

Shapes: B batch, T tokens of a stream, H hidden, W entries, V vocabulary, A values of theta."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor, nn

from pipeline.contracts import PAD, Prompt, Sizes
from pipeline.core.errors import at_least_one
from pipeline.nn.mixture import fit_weights, mix
from pipeline.nn.stream_likelihood import stream_log_probs, windows
from pipeline.nn.token_cache import StreamCache, distribution
from pipeline.text.stream import stream

COMPONENTS = ("recurrent_lm", "transformer_lm")

# Factors of theta that are tried: powers of 2, then quarters of them around the best one.
_COARSE = tuple(2.0**power for power in range(-10, 4))
_FINE = tuple(2.0 ** (quarter / 4) for quarter in range(-3, 4))


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `window`: entries of the cache, for the last tokens of the text."""

    window: int

    def __post_init__(self) -> None:
        at_least_one(window=self.window)


class State(NamedTuple):
    """State of a search: the component's, and the entries of each row, padded with PAD on the left.

    `pending_BH`: the hidden vector before the token that is fed next; together they become an
    entry. `has_pending_B`: False for a row of which only the first token was read."""

    component: Any
    key_BWH: Tensor
    token_BW: Tensor
    pending_BH: Tensor
    has_pending_B: Tensor


class Model(nn.Module):
    """p(next token) = (1 - weight) p of the component + weight p of the cache.

    Where the cache is empty, at the beginning of a text, p is the component's."""

    theta: Tensor
    weight: Tensor

    def __init__(self, config: Config, sizes: Sizes, component: nn.Module) -> None:
        super().__init__()
        self.window = config.window
        self.vocabulary = sizes.target
        self.component: Any = component
        self.register_buffer("theta", torch.tensor(1.0))
        self.register_buffer("weight", torch.tensor(0.0))

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Choose theta and the weight on `valid`: theta from a grid, and for each theta the weight
        with the largest likelihood.

        Returns the losses on `valid` in nats per token with and without the cache, theta and the
        weight. The training text and the seed change nothing."""
        device = next(self.component.parameters()).device
        valid_T = torch.from_numpy(stream(valid)).to(device)
        log_prob_T = stream_log_probs(self.component, valid_T)

        least = math.inf
        theta = 1.0
        for grid in (_COARSE, _FINE):
            thetas = [factor * theta for factor in grid]
            for value, cache_T in zip(thetas, self._cache_probs(valid_T, thetas), strict=True):
                weight = _best_weight(log_prob_T, cache_T)
                loss = float(-_mixed(log_prob_T, cache_T, weight).mean())
                if loss < least:
                    least, theta = loss, value
                    self.theta.fill_(value)
                    self.weight.fill_(weight)

        return {
            "loss": least,
            "component_loss": float(-log_prob_T.mean()),
            "cache_theta": float(self.theta),
            "cache_weight": float(self.weight),
        }

    def log_probs(self, ids_T: Tensor) -> Tensor:
        """log P of each token of a stream but the first, given all before it: T - 1, float64."""
        log_prob_T = stream_log_probs(self.component, ids_T)
        [cache_T] = self._cache_probs(ids_T, [float(self.theta)])
        return _mixed(log_prob_T, cache_T, float(self.weight)).to(ids_T.device)

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        """Read each prompt (which begins with EOS, as the stream does) up to its last id, which is
        fed first. All ids read make entries."""
        component, last_B = self.component.begin(prompt)

        keys: list[Tensor] = []
        tokens: list[Tensor] = []
        pending: list[Tensor] = []
        for ids_S, length in zip(prompt.ids_BS, prompt.length_B.tolist(), strict=True):
            # At least one id is read, to know the width of the hidden vectors.
            hidden_1TH, _ = self.component.hidden(ids_S[None, : max(1, length - 1)], None)
            keys.append(hidden_1TH[0, :-1][-self.window :])
            tokens.append(ids_S[1 : max(1, length - 1)][-self.window :])
            pending.append(hidden_1TH[0, -1])

        state = State(
            component,
            _pad_left(keys, 0.0),
            _pad_left(tokens, PAD),
            torch.stack(pending),
            prompt.length_B > 1,
        )
        return state, last_B

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        # The token that is fed completes the pending entry.
        token_B = torch.where(state.has_pending_B, last_B, PAD)
        key_BWH = torch.cat([state.key_BWH, state.pending_BH[:, None]], 1)[:, -self.window :]
        token_BW = torch.cat([state.token_BW, token_B[:, None]], 1)[:, -self.window :]

        hidden_B1H, component = self.component.hidden(last_B[:, None], state.component)
        hidden_BH = hidden_B1H[:, 0]
        log_probs_BV = self.component.project(hidden_BH).float().log_softmax(-1)
        cache_BV = distribution(hidden_BH, key_BWH, token_BW, float(self.theta), self.vocabulary)
        weight = float(self.weight)
        mixed_BV = mix([log_probs_BV, cache_BV.log()], [1 - weight, weight])
        has_entry_B1 = (token_BW != PAD).any(1, keepdim=True)

        after = State(component, key_BWH, token_BW, hidden_BH, torch.ones_like(state.has_pending_B))
        return torch.where(has_entry_B1, mixed_BV, log_probs_BV), after

    def reorder(self, state: State, rows_B: Tensor) -> State:
        component, *tensors = state
        return State(
            self.component.reorder(component, rows_B),
            *(tensor.index_select(0, rows_B) for tensor in tensors),
        )

    @torch.inference_mode()
    def _cache_probs(self, ids_T: Tensor, thetas: Sequence[float]) -> Tensor:
        """p_cache_AT of each token of a stream but the first, for each theta: float64, on the
        CPU."""
        probabilities = [torch.zeros(len(thetas), 0, dtype=torch.float64)]
        cache: StreamCache | None = None
        for hidden_TH, next_T in windows(self.component, ids_T):
            cache = cache or StreamCache(self.window, hidden_TH[0])
            probabilities.append(cache.add(hidden_TH, next_T, thetas).cpu())
        return torch.cat(probabilities, 1)


def _best_weight(log_prob_T: Tensor, cache_T: Tensor) -> float:
    """The weight of the cache with the largest likelihood of a stream."""
    if len(cache_T) < 2:
        return 0.0
    # The cache is empty before the first token.
    log_probs_MT = torch.stack([log_prob_T, cache_T.log()])[:, 1:]
    return float(fit_weights(log_probs_MT.numpy())[1])


def _mixed(log_prob_T: Tensor, cache_T: Tensor, weight: float) -> Tensor:
    """log P of a stream's tokens with the cache; of the first one without."""
    mixed_T = mix([log_prob_T, cache_T.log()], [1 - weight, weight])
    mixed_T[:1] = log_prob_T[:1]
    return mixed_T


def _pad_left(rows: list[Tensor], value: float) -> Tensor:
    """Stack rows of different lengths, padded on the left."""
    flipped = [row.flip(0) for row in rows]
    return nn.utils.rnn.pad_sequence(flipped, batch_first=True, padding_value=value).flip(1)
