"""Recurrent layers over long rows of unequal lengths on a CPU, in time linear in the length.

For packed rows torch's CPU kernels take out the steps one by one, and each one's gradient is a
tensor as large as the whole batch: time quadratic in the length, most of the training on rows of
hundreds of tokens. Here rows are sorted by length, and between two lengths at which rows end the
kernels run over a plain tensor of the rows that go on.

Shapes: B batch, S positions, E input, H hidden, L layers times directions, T steps of a segment, A
rows that go on."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.nn.dropout import dropout
from pipeline.nn.equations import State

LONG = 64  # positions from which it is faster than the packed kernel


def run_layers(
    kernel: nn.RNN | nn.GRU | nn.LSTM, x_BSE: Tensor, length_B: Tensor
) -> tuple[Tensor, State]:
    """Outputs of the kernel for the packed rows: hidden_BSH of the last layer (BS2H if
    bidirectional; zeros beyond a row's length), and the state LBH after each row's last step."""
    sorted_B, order_B = length_B.sort(descending=True, stable=True)
    back_B = order_B.argsort()
    x_BSE, after = x_BSE.index_select(0, order_B), []
    for layer in range(kernel.num_layers):
        if layer and kernel.dropout:
            x_BSE = dropout(x_BSE, kernel.dropout, kernel.training)
        sides = []
        for suffix in ("", "_reverse") if kernel.bidirectional else ("",):
            name = f"l{layer}{suffix}"
            if suffix:
                side_BSH, end = run_direction(
                    kernel, name, reversed_rows(x_BSE, sorted_B), sorted_B
                )
                side_BSH = reversed_rows(side_BSH, sorted_B)
            else:
                side_BSH, end = run_direction(kernel, name, x_BSE, sorted_B)
            sides.append(side_BSH)
            after.append(end)
        x_BSE = torch.cat(sides, -1)
    state = tuple(torch.stack(parts).index_select(1, back_B) for parts in zip(*after, strict=True))
    return x_BSE.index_select(0, back_B), state


def run_direction(
    kernel: nn.RNN | nn.GRU | nn.LSTM, name: str, x_BSE: Tensor, length_B: Tensor
) -> tuple[Tensor, State]:
    """One layer in one direction, forwards over rows sorted by length, the longest first:
    hidden_BSH, and the states BH."""
    ends, rows = np.unique(length_B.cpu().numpy(), return_counts=True)  # ascending
    sizes = np.diff(ends, prepend=0).tolist()
    beyond = x_BSE.shape[1] - sum(sizes)
    going = len(x_BSE)
    state: State = tuple(
        x_BSE.new_zeros(1, going, kernel.hidden_size)
        for _ in range(1 + isinstance(kernel, nn.LSTM))
    )
    hidden, ended = [], []
    for segment_BTE, ending in zip(
        x_BSE.split_with_sizes([*sizes, beyond], 1), rows.tolist(), strict=False
    ):
        out_ATH, state = _run(kernel, name, segment_BTE[:going], state)
        hidden.append(F.pad(out_ATH, (0, 0, 0, 0, 0, len(x_BSE) - going)))
        going -= ending
        ended.append(tuple(part[0, going:] for part in state))
        state = tuple(part[:, :going] for part in state)
    hidden_BSH = F.pad(torch.cat(hidden, 1), (0, 0, 0, beyond))
    return hidden_BSH, tuple(torch.cat(parts[::-1]) for parts in zip(*ended, strict=True))


def reversed_rows(x_BSE: Tensor, length_B: Tensor) -> Tensor:
    """Each row's own positions in reverse; padding stays where it is."""
    place_S = torch.arange(x_BSE.shape[1], device=x_BSE.device)
    place_BS = torch.where(place_S < length_B[:, None], length_B[:, None] - 1 - place_S, place_S)
    return x_BSE.gather(1, place_BS[:, :, None].expand_as(x_BSE))


def _run(
    kernel: nn.RNN | nn.GRU | nn.LSTM, name: str, x_ATE: Tensor, state: State
) -> tuple[Tensor, State]:
    """Torch's function of the kernel's cell, with one layer's weights of one direction."""
    weights = [
        getattr(kernel, f"{part}_{name}")
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    # biases, layers, dropout, training, bidirectional, batch first
    settings = (True, 1, 0.0, kernel.training, False, True)
    if isinstance(kernel, nn.LSTM):
        out_ATH, *after = torch.lstm(
            x_ATE, [part.contiguous() for part in state], weights, *settings
        )
        return out_ATH, tuple(after)
    cell = torch.gru if isinstance(kernel, nn.GRU) else torch.rnn_tanh
    out_ATH, after_1AH = cell(x_ATE, state[0].contiguous(), weights, *settings)
    return out_ATH, (after_1AH,)
