"""Recurrent layers of any cell and depth behind one signature (d2l chapters 9 and 10).

A state is a tuple of tensors LBH: (hidden, memory) for `lstm`, (hidden,) for all other cells.
`implementation: fused` runs torch's kernel, `equations` the same steps with the same weights as
written in `equations.py`. Torch has no kernel of a GRU with a single gate.

Shapes: L layers, B batch, T time, S positions of padded rows, E input, H hidden."""

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.core.errors import refuse
from pipeline.nn import equations, segments
from pipeline.nn.gate_weights import GateWeights, Kernel

Cell = Literal["rnn", "relu_rnn", "gru", "reset_gru", "update_gru", "lstm"]
Implementation = Literal["fused", "equations"]
RecurrentState = tuple[Tensor, ...]

_KERNELS: dict[Cell, Any] = {
    "rnn": nn.RNN,
    "relu_rnn": partial(nn.RNN, nonlinearity="relu"),
    "gru": nn.GRU,
    "reset_gru": partial(GateWeights, gates=2),
    "update_gru": partial(GateWeights, gates=2),
    "lstm": nn.LSTM,
}


def check(cell: Cell, implementation: Implementation) -> None:
    """Raise UserError if torch has no kernel of the cell; call it in a family's
    `Config.__post_init__`."""
    if implementation == "fused" and cell in ("reset_gru", "update_gru"):
        raise refuse(
            "implementation",
            f"fused with cell {cell}",
            "equations: torch has no kernel of this cell",
        )


class Recurrent(nn.Module):
    """`layers` stacked recurrent layers (d2l section 10.3), with dropout between the layers."""

    def __init__(
        self,
        cell: Cell,
        inputs: int,
        hidden: int,
        layers: int,
        dropout: float,
        implementation: Implementation,
        *,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.cell = cell
        self.use_equations = implementation == "equations"
        between = dropout if layers > 1 else 0.0  # torch warns of dropout in a single layer
        self.kernel: Kernel = _KERNELS[cell](
            inputs, hidden, layers, dropout=between, batch_first=True, bidirectional=bidirectional
        )

        # Orthogonal matrices keep the norm of a hidden state over time (Saxe et al. 2014).
        for name, weight in self.kernel.named_parameters():
            if name.startswith("weight_hh"):
                for gate in torch.split(weight.data, hidden):
                    nn.init.orthogonal_(gate)
            elif cell == "lstm" and name.startswith("bias_ih"):
                # Start with an open forget gate (Jozefowicz et al. 2015, section 2.2).
                # Torch's order of gates: input, forget, candidate, output.
                weight.data[hidden : 2 * hidden] = 1.0

    def zero_state(self, batch: int) -> RecurrentState:
        """State before the first step."""
        kernel = self.kernel
        tensors = 2 if isinstance(kernel, nn.LSTM) else 1
        directions = 2 if kernel.bidirectional else 1
        shape = (kernel.num_layers * directions, batch, kernel.hidden_size)
        return tuple(next(kernel.parameters()).new_zeros(shape) for _ in range(tensors))

    def forward(self, x_BTE: Tensor, state: RecurrentState | None) -> tuple[Tensor, RecurrentState]:
        """hidden_BTH of the last layer at each step, and the state after the last step; `state`
        None means zeros."""
        if self.use_equations:
            length_B = torch.full(x_BTE.shape[:1], x_BTE.shape[1], device=x_BTE.device)
            return equations.run_layers(
                self.cell, self.kernel, x_BTE, length_B, state or self.zero_state(len(x_BTE))
            )

        # Torch takes and returns a tuple for LSTM only.
        kernel_state = state[0] if state is not None and len(state) == 1 else state
        out_BTH, after = self.kernel(x_BTE, kernel_state)
        return out_BTH, after if isinstance(after, tuple) else (after,)

    def forward_padded(self, x_BSE: Tensor, length_B: Tensor) -> tuple[Tensor, RecurrentState]:
        """As `forward` from a zero state, over rows of `length_B` positions and padding, which is
        not read.

        Bidirectional: forward and backward outputs are concatenated (BS2H), and so are each layer's
        states (LB2H)."""
        if self.use_equations:
            out_BSH, state = equations.run_layers(
                self.cell, self.kernel, x_BSE, length_B, self.zero_state(len(x_BSE))
            )
        elif x_BSE.device.type == "cpu" and x_BSE.shape[1] >= segments.LONG:
            # The packed kernel takes time quadratic in the length on a CPU.
            assert not isinstance(self.kernel, GateWeights)
            out_BSH, state = segments.run_layers(self.kernel, x_BSE, length_B)
        else:
            packed = pack_padded_sequence(
                x_BSE, length_B.cpu(), batch_first=True, enforce_sorted=False
            )
            out, after = self.kernel(packed)
            out_BSH, _ = pad_packed_sequence(out, batch_first=True, total_length=x_BSE.shape[1])
            state = after if isinstance(after, tuple) else (after,)

        # Even rows of a state are forward, odd ones backward.
        if self.kernel.bidirectional:
            state = tuple(torch.cat([part[0::2], part[1::2]], dim=-1) for part in state)
        return out_BSH, state
