"""Loss and dropout of a training step on one core: `pipeline.nn` against torch, forward and
backward.

    python -m benchmarks.loss_and_dropout [--rows 2000] [--words 60,4000,10000,33278] [--rounds 9]

Rounds alternate between the two; the first is not counted. Prints the median of the ratios with the
smallest and the largest. The loss has label smoothing 0.1, on logits in float32 or bfloat16.
Dropout is of rows 128 wide."""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.rounds import median_ms, ratio_summary, time_alternating
from pipeline.nn.cross_entropy import summed_cross_entropy
from pipeline.nn.dropout import dropout
from pipeline.training import devices

Operation = Callable[[Tensor], Tensor]  # to a sum whose gradient is taken


def seconds(operation: Operation, leaf: Tensor) -> float:
    """Seconds of the operation and its gradient."""
    # The operation may write in place. The copy is not timed.
    x = leaf.clone()
    start = time.perf_counter()
    torch.autograd.grad(operation(x), x)
    return time.perf_counter() - start


def compare(
    title: str, torch_operation: Operation, operation: Operation, leaf: Tensor, rounds: int
) -> None:
    baseline, values = time_alternating(
        {
            "torch": partial(seconds, torch_operation, leaf),
            "ours": partial(seconds, operation, leaf),
        },
        rounds,
    ).values()
    print(
        f"{title}: torch {median_ms(baseline):.1f} ms, ours {ratio_summary(values, baseline)} of it"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--words", default="60,4000,10000,33278")
    parser.add_argument("--rounds", type=int, default=9)
    a = parser.parse_args()

    devices.prepare(1)
    torch.manual_seed(1)
    for dtype in (torch.float32, torch.bfloat16):
        for words in map(int, a.words.split(",")):
            label_N = torch.randint(words, (a.rows,))

            def by_torch(logits_NV: Tensor, label_N: Tensor = label_N) -> Tensor:
                return F.cross_entropy(
                    logits_NV.float(), label_N, reduction="sum", label_smoothing=0.1
                )

            def by_blocks(logits_NV: Tensor, label_N: Tensor = label_N) -> Tensor:
                return summed_cross_entropy(logits_NV, label_N, 0.1)

            logits_NV = torch.randn(a.rows, words, requires_grad=True).to(dtype)
            compare(f"loss over {words} words, {dtype}", by_torch, by_blocks, logits_NV, a.rounds)

        x_NH = torch.randn(a.rows, 128, requires_grad=True).to(dtype)
        ways = (lambda x: F.dropout(x, 0.3).sum(), lambda x: dropout(x, 0.3, True).sum())
        compare(f"dropout, {dtype}", *ways, x_NH, a.rounds)


if __name__ == "__main__":
    main()
