"""The recurrent cells by their equations: what torch's kernels compute, in the form in which it can
be read.

Shapes: B batch, T time, E input, H hidden, L layers times directions. `x` is one step's input BE
and `h` the hidden state BH; `W` and `b` name the gate that they belong to. sigma is the logistic
function, * the elementwise product."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.nn.dropout import dropout

State = tuple[Tensor, ...]
Gates = list[Callable[[Tensor], Tensor]]


def rnn(x: Tensor, state: State, into: Gates, back: Gates) -> State:
    """h' = tanh(W_x x + b_x + W_h h + b_h) (Elman 1990; d2l equation 9.4.5)."""
    (h,) = state
    [W_x], [W_h] = into, back
    return (torch.tanh(W_x(x) + W_h(h)),)


def gru(x: Tensor, state: State, into: Gates, back: Gates) -> State:
    """r = sigma(W_xr x + W_hr h), z = sigma(W_xz x + W_hz h), n = tanh(W_xn x + r * (W_hn h)), h' =
    (1 - z) * n + z * h.

    Cho et al. 2014; d2l equations 10.2.1 to 10.2.3. The book applies r to h before W_hn; torch, and
    so this, after it."""
    (h,) = state
    W_xr, W_xz, W_xn = into
    W_hr, W_hz, W_hn = back
    r = torch.sigmoid(W_xr(x) + W_hr(h))
    z = torch.sigmoid(W_xz(x) + W_hz(h))
    n = torch.tanh(W_xn(x) + r * W_hn(h))
    return ((1 - z) * n + z * h,)


def lstm(x: Tensor, state: State, into: Gates, back: Gates) -> State:
    """Gates i, f, o and candidate g; c' = f * c + i * g, h' = o * tanh(c').

    Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; d2l equations 10.1.1 to
    10.1.4."""
    h, c = state
    W_xi, W_xf, W_xg, W_xo = into
    W_hi, W_hf, W_hg, W_ho = back
    i = torch.sigmoid(W_xi(x) + W_hi(h))
    f = torch.sigmoid(W_xf(x) + W_hf(h))
    g = torch.tanh(W_xg(x) + W_hg(h))
    o = torch.sigmoid(W_xo(x) + W_ho(h))
    c = f * c + i * g
    return o * torch.tanh(c), c


_STEPS = {"rnn": rnn, "gru": gru, "lstm": lstm}


def run_layers(
    cell: str, kernel: nn.RNN | nn.GRU | nn.LSTM, x_BTE: Tensor, length_B: Tensor, state: State
) -> tuple[Tensor, State]:
    """The kernel's layers and directions one after the other: hidden_BTH of the last layer (BT2H if
    bidirectional; zeros beyond a row's length), and the state LBH after each row's last step."""
    ways = 2 if kernel.bidirectional else 1
    after: list[State] = []
    for layer in range(kernel.num_layers):
        if layer and kernel.dropout:
            x_BTE = dropout(x_BTE, kernel.dropout, kernel.training)
        sides = []
        for way in range(ways):
            begin = tuple(part[layer * ways + way] for part in state)
            side_BTH, end = run_direction(
                _STEPS[cell], kernel, f"l{layer}{'_reverse' if way else ''}", x_BTE, length_B, begin
            )
            sides.append(side_BTH)
            after.append(end)
        x_BTE = torch.cat(sides, -1)
    return x_BTE, tuple(torch.stack(parts) for parts in zip(*after, strict=True))


def run_direction(
    step: Callable[[Tensor, State, Gates, Gates], State],
    kernel: nn.RNN | nn.GRU | nn.LSTM,
    name: str,
    x_BTE: Tensor,
    length_B: Tensor,
    state: State,
) -> tuple[Tensor, State]:
    """One layer in one direction; a row stands still where it has ended (or, backwards, not yet
    begun)."""
    into, back = (list(gate_maps(kernel, which, name)) for which in ("ih", "hh"))
    order = range(x_BTE.shape[1])
    hidden: dict[int, Tensor] = {}
    for t in reversed(order) if name.endswith("_reverse") else order:
        real_B1 = (t < length_B)[:, None]
        moved = step(x_BTE[:, t], state, into, back)
        state = tuple(torch.where(real_B1, new, old) for new, old in zip(moved, state, strict=True))
        hidden[t] = torch.where(real_B1, state[0], 0.0)
    return torch.stack([hidden[t] for t in order], 1), state


def gate_maps(
    kernel: nn.RNN | nn.GRU | nn.LSTM, which: str, name: str
) -> Iterator[Callable[[Tensor], Tensor]]:
    """The affine maps of each gate, which torch keeps in one matrix: of the input (`ih`) or the
    hidden state (`hh`)."""
    weight, bias = (
        getattr(kernel, f"weight_{which}_{name}"),
        getattr(kernel, f"bias_{which}_{name}"),
    )
    for W, b in zip(weight.split(kernel.hidden_size), bias.split(kernel.hidden_size), strict=True):
        yield partial(F.linear, weight=W, bias=b)
