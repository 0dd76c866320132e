"""Weights of recurrent cells that torch has no kernel for, in the form of those that it has.

Shapes: E input, H hidden, G gates of a cell, its candidate included."""

import math

import torch
from torch import nn


class GateWeights(nn.Module):
    """The parameters of `nn.GRU` for another number of `gates`: same names, same order, matrices
    (G H, E) and (G H, H), drawn from U(-1/sqrt(H), 1/sqrt(H)). It computes nothing."""

    def __init__(
        self,
        inputs: int,
        hidden: int,
        layers: int,
        *,
        gates: int,
        dropout: float,
        batch_first: bool,
        bidirectional: bool,
    ) -> None:
        super().__init__()
        assert batch_first
        self.hidden_size = hidden
        self.num_layers = layers
        self.dropout = dropout
        self.bidirectional = bidirectional

        bound = 1 / math.sqrt(hidden)
        directions = ("", "_reverse") if bidirectional else ("",)
        for layer in range(layers):
            width = inputs if layer == 0 else hidden * len(directions)
            for direction in directions:
                shapes = {
                    "weight_ih": (gates * hidden, width),
                    "weight_hh": (gates * hidden, hidden),
                    "bias_ih": (gates * hidden,),
                    "bias_hh": (gates * hidden,),
                }
                for name, shape in shapes.items():
                    weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
                    self.register_parameter(f"{name}_l{layer}{direction}", weight)


Kernel = nn.RNN | nn.GRU | nn.LSTM | GateWeights
