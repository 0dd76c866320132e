"""Recurrent cells by their equations: the computation of torch's kernels in readable form.

Shapes: B batch, T time, E input, H hidden, L layers times directions. `x` is one step's input BE
and `h` the hidden state BH; `W` and `b` carry the name of their gate. sigma is the logistic
function, * the elementwise product."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.nn.dropout import dropout
from pipeline.nn.gate_weights import Kernel

State = tuple[Tensor, ...]
Gates = list[Callable[[Tensor], Tensor]]
"""Affine maps of the gates, in torch's order."""


def rnn(x: Tensor, state: State, input_maps: Gates, hidden_maps: Gates) -> State:
    """h' = tanh(W_x x + b_x + W_h h + b_h) (Elman 1990; d2l equation 9.4.5)."""
    (h,) = state
    [W_x] = input_maps
    [W_h] = hidden_maps

    return (torch.tanh(W_x(x) + W_h(h)),)


def relu_rnn(x: Tensor, state: State, input_maps: Gates, hidden_maps: Gates) -> State:
    """h' = max(0, W_x x + b_x + W_h h + b_h) (Le et al. 2015; d2l section 9.5, exercises)."""
    (h,) = state
    [W_x] = input_maps
    [W_h] = hidden_maps

    return (torch.relu(W_x(x) + W_h(h)),)


def gru(x: Tensor, state: State, input_maps: Gates, hidden_maps: Gates) -> State:
    """Gates r, z and candidate n; h' = (1 - z) * n + z * h.

    Cho et al. 2014; d2l equations 10.2.1 to 10.2.3. The book applies r to h before W_hn. Torch
    applies it after, and so does this function."""
    (h,) = state
    W_xr, W_xz, W_xn = input_maps
    W_hr, W_hz, W_hn = hidden_maps

    # Reset and update gates (d2l equation 10.2.1).
    r = torch.sigmoid(W_xr(x) + W_hr(h))
    z = torch.sigmoid(W_xz(x) + W_hz(h))

    # Candidate hidden state (10.2.2), then the new hidden state (10.2.3).
    n = torch.tanh(W_xn(x) + r * W_hn(h))
    return ((1 - z) * n + z * h,)


def reset_gru(x: Tensor, state: State, input_maps: Gates, hidden_maps: Gates) -> State:
    """A GRU with the reset gate alone, as if z were 0: h' = n (d2l section 10.2, exercises)."""
    (h,) = state
    W_xr, W_xn = input_maps
    W_hr, W_hn = hidden_maps

    r = torch.sigmoid(W_xr(x) + W_hr(h))
    return (torch.tanh(W_xn(x) + r * W_hn(h)),)


def update_gru(x: Tensor, state: State, input_maps: Gates, hidden_maps: Gates) -> State:
    """A GRU with the update gate alone, as if r were 1: h' = (1 - z) * n + z * h (d2l section 10.2,
    exercises)."""
    (h,) = state
    W_xz, W_xn = input_maps
    W_hz, W_hn = hidden_maps

    z = torch.sigmoid(W_xz(x) + W_hz(h))
    n = torch.tanh(W_xn(x) + W_hn(h))
    return ((1 - z) * n + z * h,)


def lstm(x: Tensor, state: State, input_maps: Gates, hidden_maps: Gates) -> State:
    """Gates i, f, o and candidate g; c' = f * c + i * g, h' = o * tanh(c').

    Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; d2l equations 10.1.1 to
    10.1.4."""
    h, c = state
    W_xi, W_xf, W_xg, W_xo = input_maps
    W_hi, W_hf, W_hg, W_ho = hidden_maps

    # Input, forget and output gates (d2l equation 10.1.1), and the candidate (10.1.2).
    i = torch.sigmoid(W_xi(x) + W_hi(h))
    f = torch.sigmoid(W_xf(x) + W_hf(h))
    g = torch.tanh(W_xg(x) + W_hg(h))
    o = torch.sigmoid(W_xo(x) + W_ho(h))

    # Memory cell (10.1.3), then hidden state (10.1.4).
    c = f * c + i * g
    return o * torch.tanh(c), c


_STEPS = {
    "rnn": rnn,
    "relu_rnn": relu_rnn,
    "gru": gru,
    "reset_gru": reset_gru,
    "update_gru": update_gru,
    "lstm": lstm,
}


def run_layers(
    cell: str, kernel: Kernel, x_BTE: Tensor, length_B: Tensor, state: State
) -> tuple[Tensor, State]:
    """Run the kernel's layers and directions one after the other (d2l equations 10.3.1 and 10.4.1).

    Return hidden_BTH of the last layer (BT2H if bidirectional; zeros beyond a row's length), and
    the state LBH after each row's last step."""
    suffixes = ("", "_reverse") if kernel.bidirectional else ("",)
    after: list[State] = []
    for layer in range(kernel.num_layers):
        # Dropout between layers: not on the input, not on the last output.
        if layer and kernel.dropout:
            x_BTE = dropout(x_BTE, kernel.dropout, kernel.training)

        outputs = []
        for suffix in suffixes:
            # State order of torch: layer 0 forward, layer 0 backward, layer 1 forward, ...
            begin = tuple(part[len(after)] for part in state)
            out_BTH, end = run_direction(
                _STEPS[cell], kernel, f"l{layer}{suffix}", x_BTE, length_B, begin
            )
            outputs.append(out_BTH)
            after.append(end)
        x_BTE = torch.cat(outputs, -1)
    return x_BTE, tuple(torch.stack(parts) for parts in zip(*after, strict=True))


def run_direction(
    step: Callable[[Tensor, State, Gates, Gates], State],
    kernel: Kernel,
    name: str,
    x_BTE: Tensor,
    length_B: Tensor,
    state: State,
) -> tuple[Tensor, State]:
    """Run one layer in one direction: hidden_BTH, and the state BH after each row's last step.

    `name` is torch's suffix of the layer's weights: l0, l0_reverse, l1, ..."""
    input_maps = list(gate_maps(kernel, "ih", name))
    hidden_maps = list(gate_maps(kernel, "hh", name))
    times = range(x_BTE.shape[1])

    hidden: dict[int, Tensor] = {}
    for t in reversed(times) if name.endswith("_reverse") else times:
        after = step(x_BTE[:, t], state, input_maps, hidden_maps)
        # Padding leaves a row's state unchanged: after its end, or backwards before it.
        real_B1 = (t < length_B)[:, None]
        state = tuple(torch.where(real_B1, new, old) for new, old in zip(after, state, strict=True))
        hidden[t] = torch.where(real_B1, state[0], 0.0)
    return torch.stack([hidden[t] for t in times], 1), state


def gate_maps(kernel: Kernel, source: str, name: str) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield each gate's affine map of the input (`source` "ih") or the hidden state ("hh").

    Torch keeps the gates' matrices in one, side by side."""
    weights = getattr(kernel, f"weight_{source}_{name}").split(kernel.hidden_size)
    biases = getattr(kernel, f"bias_{source}_{name}").split(kernel.hidden_size)
    for W, b in zip(weights, biases, strict=True):
        yield partial(F.linear, weight=W, bias=b)
