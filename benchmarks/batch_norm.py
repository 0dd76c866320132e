"""What batch norm makes of text of varying length: the loss of trained Transformers by the batch
that a sentence is read in.

    seqline use exercises && dvc repro train@layer_norm train@batch_norm
    python -m benchmarks.batch_norm layer_norm batch_norm [--rows 300]

Teacher-forced nats per target token of the first sentences of every test split, read in batches of
1, 2, 8 and 64: with the means and variances that training kept, as predictions are made, and with
each batch's own, as training made them. Sentences come in batches of like or of mixed lengths;
positions of padding count among a batch's own, as in training, or do not, or there are 32 more of
them. Beside it, how far a batch's means lie from those kept, in deviations kept: the root mean
square over features, norms and batches. A model with layer norm has one loss, however it is read,
and no such distance.

With a batch's own figures a target position is normalised by those after it, so that what is
printed then is no likelihood: it shows what the model has come to rely on."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import PAD, Prompt
from pipeline.core import params, tables
from pipeline.core.errors import exit_with
from pipeline.nn.masks import real_BS
from pipeline.nn.transformer import BatchNorm
from pipeline.tasks import translation
from pipeline.training import checkpoint, devices

SIZES = (1, 2, 8, 64)  # sentences in a batch
MORE = 32  # positions of padding


@dataclass(frozen=True)
class Setting:
    """How sentences are read: by figures of the batch's `own` or kept ones, in batches of `mixed`
    lengths or of like ones, `padding` counted among the own or not, and how many positions there
    are `more` of it than the longest sentence needs."""

    own: bool
    mixed: bool
    padding: bool
    more: int

    @property
    def cells(self) -> tuple[str, str, str]:
        counted = (
            f"counted, {self.more} positions more"
            if self.more
            else "counted"
            if self.padding
            else "left out"
        )
        return (
            ("the batch's own", "mixed" if self.mixed else "like", counted)
            if self.own
            else ("kept", "mixed", "–")
        )


SETTINGS = (
    Setting(own=False, mixed=True, padding=True, more=0),
    Setting(own=True, mixed=False, padding=True, more=0),
    Setting(own=True, mixed=True, padding=False, more=0),
    Setting(own=True, mixed=True, padding=True, more=0),
    Setting(own=True, mixed=True, padding=True, more=MORE),
)


@dataclass
class NormMonitor:
    """What the norms of a model are told of the batch that it reads, and what they tell of it."""

    way: Setting
    # of each side, BT: which positions are no padding
    real: dict[str, Tensor] = field(default_factory=dict)
    # of the distance of means, one norm on one batch each
    squares: list[float] = field(default_factory=list)

    def normalised(self, norm: BatchNorm, side: str, x_BTH: Tensor) -> Tensor:
        """What `norm` makes of x, by the kept or by the batch's own mean and variance of each
        feature."""
        kernel = norm.kernel
        assert kernel.running_mean is not None
        assert kernel.running_var is not None
        x_NH = x_BTH.flatten(0, 1) if self.way.padding else x_BTH[self.real[side]]
        mean_H, variance_H = x_NH.mean(0), x_NH.var(0, correction=0)
        self.squares.append(
            float(((mean_H - kernel.running_mean).square() / kernel.running_var).mean())
        )
        if not self.way.own:
            mean_H, variance_H = kernel.running_mean, kernel.running_var
        return (x_BTH - mean_H) / (variance_H + kernel.eps).sqrt() * kernel.weight + kernel.bias


def attach(model: Any, reading: NormMonitor) -> None:
    """Have every batch norm of the model do as the reading says."""
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm):
            side = "source" if name.startswith("encoder") else "target"
            module.forward = partial(reading.normalised, module, side)  # type: ignore[method-assign]


def batches(pairs: translation.Pairs, way: Setting, size: int) -> Iterator[translation.Batch]:
    """All pairs in batches of `size`; those of mixed lengths are the same for every way and
    model."""
    like = np.lexsort((pairs.target.length, pairs.source.length))
    order = np.random.default_rng(1).permutation(len(pairs)) if way.mixed else like
    for start in range(0, len(order), size):
        batch = pairs.batch(order[start : start + size])
        prompt = Prompt(pad(batch.prompt.ids_BS, way.more), batch.prompt.length_B)
        yield translation.Batch(
            prompt, pad(batch.input_BT, way.more), pad(batch.label_BT, way.more)
        )


def pad(ids_BT: Tensor, more: int) -> Tensor:
    return F.pad(ids_BT, (0, more), value=PAD)


@torch.inference_mode()
def measure(
    model: Any, pairs: translation.Pairs, way: Setting, size: int
) -> tuple[float, float | None]:
    """Nats per target token, and the distance of the batches' means from those kept, if there are
    any."""
    reading, nats, tokens = NormMonitor(way), 0.0, 0
    attach(model, reading)
    for batch in batches(pairs, way, size):
        ids_BS, length_B = batch.prompt.ids_BS, batch.prompt.length_B
        reading.real = {
            "source": real_BS(length_B, ids_BS.shape[1]),
            "target": batch.label_BT != PAD,
        }
        logits_NV, label_N = translation.real_logits(model, batch)
        nats += float(F.cross_entropy(logits_NV, label_N, reduction="sum"))
        tokens += len(label_N)
    return nats / tokens, float(np.sqrt(np.mean(reading.squares))) if reading.squares else None


def table(model: Any, pairs: translation.Pairs) -> str:
    """As Markdown: a line for each way, a column for each size."""
    head = ("means and variances", "lengths", "padding", *(str(size) for size in SIZES))
    lines = [f"| {' | '.join(head)} |", "|---|---|---|" + "---:|" * len(SIZES)]
    for way in SETTINGS:
        found = [measure(model, pairs, way, size) for size in SIZES]
        cells = [
            f"{loss:.4f}" + (f" ({far:.2f})" if far is not None else "") for loss, far in found
        ]
        lines.append(f"| {' | '.join((*way.cells, *cells))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="a trained run of the family transformer"
    )
    parser.add_argument("--root", type=Path, default=Path("."))
    parser.add_argument("--rows", type=int, default=300, help="sentences of each split")
    a = parser.parse_args()
    devices.prepare(1)
    cpu = torch.device("cpu")
    for name in a.runs:
        corpus = params.run(a.root / "params.yaml", name).corpus
        model = checkpoint.load_model(a.root / "data/models" / name, cpu)
        for file in sorted((a.root / "data/encoded" / corpus).glob("test*.parquet")):
            pairs = translation.Pairs(tables.read(file, translation.SCHEMA).slice(0, a.rows), cpu)
            print(
                f"\n{name}, {file.stem}: nats per target token by sentences in a batch "
                "(distance of its means)\n"
            )
            print(table(model, pairs), flush=True)


if __name__ == "__main__":
    exit_with(main)
