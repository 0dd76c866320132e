"""Recurrent layers over long rows of unequal lengths on a CPU, in time linear in the length.

Torch's CPU kernels take packed rows apart step by step, and the gradient of each step is a tensor
as large as the whole batch. So their time is quadratic in the length: most of the training time for
rows of hundreds of tokens. Here the rows are sorted by length, and time is cut into segments at the
lengths where rows end. Within a segment the kernels run over a plain tensor of the active rows.

Shapes: B batch, S positions, E input, H hidden, L layers times directions, T steps of a segment, A
active rows: those that have not ended before the segment."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.nn.dropout import dropout
from pipeline.nn.equations import State

LONG = 64  # positions from which this is faster than the packed kernel


def run_layers(
    kernel: nn.RNN | nn.GRU | nn.LSTM, x_BSE: Tensor, length_B: Tensor
) -> tuple[Tensor, State]:
    """Run the kernel as over packed rows.

    Return hidden_BSH of the last layer (BS2H if bidirectional; zeros beyond a row's length), and
    the state LBH after each row's last step."""
    sorted_length_B, order_B = length_B.sort(descending=True, stable=True)
    inverse_order_B = order_B.argsort()
    x_BSE = x_BSE.index_select(0, order_B)

    after: list[State] = []
    for layer in range(kernel.num_layers):
        if layer and kernel.dropout:
            x_BSE = dropout(x_BSE, kernel.dropout, kernel.training)

        out_BSH, end = run_direction(kernel, f"l{layer}", x_BSE, sorted_length_B)
        after.append(end)
        if kernel.bidirectional:
            # Backwards: reverse the rows, run forwards, and reverse the outputs.
            reversed_BSE = reverse_rows(x_BSE, sorted_length_B)
            back_BSH, end = run_direction(
                kernel, f"l{layer}_reverse", reversed_BSE, sorted_length_B
            )
            out_BSH = torch.cat([out_BSH, reverse_rows(back_BSH, sorted_length_B)], -1)
            after.append(end)
        x_BSE = out_BSH

    state = tuple(
        torch.stack(parts).index_select(1, inverse_order_B) for parts in zip(*after, strict=True)
    )
    return x_BSE.index_select(0, inverse_order_B), state


def run_direction(
    kernel: nn.RNN | nn.GRU | nn.LSTM, name: str, x_BSE: Tensor, length_B: Tensor
) -> tuple[Tensor, State]:
    """Run one layer forwards over rows sorted by length, the longest first: hidden_BSH, and the
    state BH after each row's last step.

    `name` is torch's suffix of the layer's weights: l0, l0_reverse, l1, ..."""
    # A segment lasts from one distinct length to the next; what is beyond the last is padding.
    lengths, rows_ending = np.unique(length_B.cpu().numpy(), return_counts=True)  # ascending
    segment_sizes = np.diff(lengths, prepend=0).tolist()
    padding = x_BSE.shape[1] - sum(segment_sizes)
    segments = x_BSE.split_with_sizes([*segment_sizes, padding], 1)[:-1]

    active = len(x_BSE)
    state: State = tuple(
        x_BSE.new_zeros(1, active, kernel.hidden_size)
        for _ in range(1 + isinstance(kernel, nn.LSTM))
    )
    hidden = []
    end_states = []
    for segment_BTE, ending in zip(segments, rows_ending.tolist(), strict=True):
        out_ATH, state = _run_kernel(kernel, name, segment_BTE[:active], state)
        hidden.append(F.pad(out_ATH, (0, 0, 0, 0, 0, len(x_BSE) - active)))

        # The shortest active rows end here; they are the last ones.
        active -= ending
        end_states.append(tuple(part[0, active:] for part in state))
        state = tuple(part[:, :active] for part in state)

    # Rows ended last to first: reverse the pieces to put the longest row first again.
    hidden_BSH = F.pad(torch.cat(hidden, 1), (0, 0, 0, padding))
    return hidden_BSH, tuple(torch.cat(parts[::-1]) for parts in zip(*end_states, strict=True))


def reverse_rows(x_BSE: Tensor, length_B: Tensor) -> Tensor:
    """Reverse the first length_B[b] positions of each row; padding keeps its place."""
    position_S = torch.arange(x_BSE.shape[1], device=x_BSE.device)
    source_BS = torch.where(
        position_S < length_B[:, None], length_B[:, None] - 1 - position_S, position_S
    )
    return x_BSE.gather(1, source_BS[:, :, None].expand_as(x_BSE))


def _run_kernel(
    kernel: nn.RNN | nn.GRU | nn.LSTM, name: str, x_ATE: Tensor, state: State
) -> tuple[Tensor, State]:
    """Run torch's function of the kernel's cell with one layer's weights of one direction."""
    weights = [
        getattr(kernel, f"{part}_{name}")
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    # has_biases, num_layers, dropout, train, bidirectional, batch_first
    settings = (True, 1, 0.0, kernel.training, False, True)
    if isinstance(kernel, nn.LSTM):
        out_ATH, *after = torch.lstm(
            x_ATE, [part.contiguous() for part in state], weights, *settings
        )
        return out_ATH, tuple(after)

    cell = torch.gru
    if isinstance(kernel, nn.RNN):
        cell = torch.rnn_relu if kernel.nonlinearity == "relu" else torch.rnn_tanh
    out_ATH, after_1AH = cell(x_ATE, state[0].contiguous(), weights, *settings)
    return out_ATH, (after_1AH,)
