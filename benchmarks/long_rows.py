"""A training step of a recurrent layer over rows of unequal lengths: `pipeline.nn.segments` over
torch's packed kernel.

    python -m benchmarks.long_rows [--cell lstm] [--rows 64] [--width 100] [--lengths
    20,50,100,200,400] [--rounds 3]

Lengths are uniform between half of the longest and the longest. Forward and backward, both
directions, one thread. Rounds alternate between the two. Prints the median of the ratios with the
smallest and the largest."""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.rounds import median_ms, ratio_summary, time_alternating
from pipeline.nn import segments
from pipeline.nn.cells import Recurrent
from pipeline.training import devices


def packed(layer: Recurrent, x_BSE: Tensor, length_B: Tensor) -> Tensor:
    """hidden_BSH of torch's packed kernel."""
    out, _ = layer.kernel(
        pack_padded_sequence(x_BSE, length_B, batch_first=True, enforce_sorted=False)
    )
    return pad_packed_sequence(out, batch_first=True)[0]


def segmented(layer: Recurrent, x_BSE: Tensor, length_B: Tensor) -> Tensor:
    """hidden_BSH of the segments between two ends of rows."""
    return segments.run_layers(layer.kernel, x_BSE, length_B)[0]


def seconds(
    encode: Callable[[Recurrent, Tensor, Tensor], Tensor],
    layer: Recurrent,
    x_BSE: Tensor,
    length_B: Tensor,
) -> float:
    start = time.perf_counter()
    encode(layer, x_BSE, length_B).sum().backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=["rnn", "gru", "lstm"], default="lstm")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--lengths", default="20,50,100,200,400")
    parser.add_argument("--rounds", type=int, default=3)
    a = parser.parse_args()

    devices.prepare(1)
    torch.manual_seed(1)
    layer = Recurrent(a.cell, a.width, a.width, 1, 0.0, "fused", bidirectional=True)
    for longest in map(int, a.lengths.split(",")):
        x_BSE = torch.randn(a.rows, longest, a.width, requires_grad=True)
        length_B = torch.randint(longest // 2, longest + 1, (a.rows,))
        length_B[0] = longest
        functions = {
            encode.__name__: partial(seconds, encode, layer, x_BSE, length_B)
            for encode in (packed, segmented)
        }
        packed_s, segmented_s = time_alternating(functions, a.rounds).values()
        print(
            f"{longest:4} steps: packed {median_ms(packed_s):.0f} ms, in segments "
            f"{ratio_summary(segmented_s, packed_s)} of it"
        )


if __name__ == "__main__":
    main()
