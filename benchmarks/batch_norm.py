"""Loss of trained Transformers with batch norm by the batch that a sentence is in.

    seqline use exercises && dvc repro train@layer_norm-1 train@batch_norm-1
    python -m benchmarks.batch_norm layer_norm-1 batch_norm-1 [--rows 300]

Teacher-forced nats per target token of the first sentences of every test split, in batches of 1, 2,
8 and 64. The norms use the running means and variances of training, as predictions do, or those of
the batch, as training does. Batches have sentences of like or of mixed lengths. Padding counts in
the batch's statistics, as in training, or does not, or there are 32 more positions of it.

In parentheses is the distance of a batch's means from the running means, in running standard
deviations: the root mean square over features, norms and batches. A model with layer norm has one
loss in every batch, and no such distance.

With the statistics of a batch a target position is normalised by those after it. These losses are
no likelihoods: they show what the model relies on."""

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
EXTRA_PADDING = 32  # positions


@dataclass(frozen=True)
class Setting:
    """Setting of an evaluation.

    `batch_statistics`: normalise by the batch's own statistics, not by the running ones.
    `mixed_lengths`: batches of mixed lengths, not of like ones. `count_padding`: padding counts in
    the batch's statistics. `extra_padding`: positions of padding beyond the longest sentence."""

    batch_statistics: bool
    mixed_lengths: bool
    count_padding: bool
    extra_padding: int

    @property
    def cells(self) -> tuple[str, str, str]:
        if not self.batch_statistics:
            return "kept", "mixed", "–"
        padding = "counted" if self.count_padding else "left out"
        if self.extra_padding:
            padding = f"counted, {self.extra_padding} positions more"
        return "the batch's own", "mixed" if self.mixed_lengths else "like", padding


SETTINGS = (
    Setting(batch_statistics=False, mixed_lengths=True, count_padding=True, extra_padding=0),
    Setting(batch_statistics=True, mixed_lengths=False, count_padding=True, extra_padding=0),
    Setting(batch_statistics=True, mixed_lengths=True, count_padding=False, extra_padding=0),
    Setting(batch_statistics=True, mixed_lengths=True, count_padding=True, extra_padding=0),
    Setting(
        batch_statistics=True, mixed_lengths=True, count_padding=True, extra_padding=EXTRA_PADDING
    ),
)


@dataclass
class NormMonitor:
    """Input of a model's norms for the present batch, and the distances that they measure."""

    setting: Setting
    # by side: which positions are no padding
    real_BT: dict[str, Tensor] = field(default_factory=dict)
    # mean squared distance of the means, for each norm and batch
    squared_distances: list[float] = field(default_factory=list)

    def normalise(self, norm: BatchNorm, side: str, x_BTH: Tensor) -> Tensor:
        """Return the output of `norm` by the running or the batch's statistics of each feature."""
        kernel = norm.kernel
        assert kernel.running_mean is not None
        assert kernel.running_var is not None
        x_NH = x_BTH.flatten(0, 1) if self.setting.count_padding else x_BTH[self.real_BT[side]]
        mean_H, variance_H = x_NH.mean(0), x_NH.var(0, correction=0)
        self.squared_distances.append(
            float(((mean_H - kernel.running_mean).square() / kernel.running_var).mean())
        )
        if not self.setting.batch_statistics:
            mean_H, variance_H = kernel.running_mean, kernel.running_var
        return (x_BTH - mean_H) / (variance_H + kernel.eps).sqrt() * kernel.weight + kernel.bias


def attach(model: Any, monitor: NormMonitor) -> None:
    """Replace the forward pass of every batch norm of the model by the monitor's."""
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm):
            side = "source" if name.startswith("encoder") else "target"
            module.forward = partial(monitor.normalise, module, side)  # type: ignore[method-assign]


def batches(pairs: translation.Pairs, setting: Setting, size: int) -> Iterator[translation.Batch]:
    """Yield all pairs in batches of `size`; mixed batches are the same for every setting and
    model."""
    by_length = np.lexsort((pairs.target.length, pairs.source.length))
    order = np.random.default_rng(1).permutation(len(pairs)) if setting.mixed_lengths else by_length
    for start in range(0, len(order), size):
        batch = pairs.batch(order[start : start + size])
        prompt = Prompt(pad(batch.prompt.ids_BS, setting.extra_padding), batch.prompt.length_B)
        yield translation.Batch(
            prompt,
            pad(batch.input_BT, setting.extra_padding),
            pad(batch.label_BT, setting.extra_padding),
        )


def pad(ids_BT: Tensor, positions: int) -> Tensor:
    return F.pad(ids_BT, (0, positions), value=PAD)


@torch.inference_mode()
def measure(
    model: Any, pairs: translation.Pairs, setting: Setting, size: int
) -> tuple[float, float | None]:
    """Return nats per target token, and the distance of the batches' means from the running means;
    None without batch norm."""
    monitor = NormMonitor(setting)
    attach(model, monitor)
    nats = 0.0
    tokens = 0
    for batch in batches(pairs, setting, size):
        ids_BS, length_B = batch.prompt.ids_BS, batch.prompt.length_B
        monitor.real_BT = {
            "source": real_BS(length_B, ids_BS.shape[1]),
            "target": batch.label_BT != PAD,
        }
        logits_NV, label_N = translation.real_logits(model, batch)
        nats += float(F.cross_entropy(logits_NV, label_N, reduction="sum"))
        tokens += len(label_N)

    if not monitor.squared_distances:
        return nats / tokens, None
    return nats / tokens, float(np.sqrt(np.mean(monitor.squared_distances)))


def table(model: Any, pairs: translation.Pairs) -> str:
    """The losses as a Markdown table: a line for each setting, a column for each size."""
    head = ("means and variances", "lengths", "padding", *(str(size) for size in SIZES))
    lines = [f"| {' | '.join(head)} |", "|---|---|---|" + "---:|" * len(SIZES)]
    for setting in SETTINGS:
        measurements = [measure(model, pairs, setting, size) for size in SIZES]
        cells = [
            f"{loss:.4f}" + (f" ({distance:.2f})" if distance is not None else "")
            for loss, distance in measurements
        ]
        lines.append(f"| {' | '.join((*setting.cells, *cells))} |")
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
