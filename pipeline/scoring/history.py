"""Learning curves for plots: the long table of training as rows with a column per metric."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_POINTS = 100  # rows at most


def validations(history: pa.Table) -> list[dict[str, Any]]:
    """Metrics on the valid split, a row per validation; perplexity is last, since `dvc plots` draws
    the last column."""
    return _curves(history.filter(pc.starts_with(history["name"], "valid/")))


def training(history: pa.Table) -> list[dict[str, Any]]:
    """Metrics of training (loss, learning rate, ...), averaged over hundredths of the training; the
    loss is last."""
    return _curves(history.filter(pc.invert(pc.starts_with(history["name"], "valid/"))))


def _curves(history: pa.Table) -> list[dict[str, Any]]:
    """HISTORY as at most 100 rows with a column per name; `train/loss` becomes `train_loss`."""
    if not len(history):
        return []

    # Divide the steps, in order, into parts of equal size.
    part_size = -(-len(pc.unique(history["step"])) // _POINTS)
    rank = pc.subtract(pc.rank(history["step"], tiebreaker="dense"), 1)
    with_part = history.append_column("part", pc.divide(pc.cast(rank, pa.int64()), part_size))

    # A row per part: its last step and epoch, and the mean of each metric.
    ends = with_part.group_by("part").aggregate([("step", "max"), ("epoch", "max")])
    means = with_part.group_by(["part", "name"]).aggregate([("value", "mean")])
    mean_of = {(mean["part"], mean["name"]): mean["value_mean"] for mean in means.to_pylist()}
    names = sorted(set(pc.unique(history["name"]).to_pylist()))
    return [
        {"step": end["step_max"], "epoch": end["epoch_max"]}
        | {name.replace("/", "_"): mean_of.get((end["part"], name)) for name in names}
        for end in ends.sort_by("part").to_pylist()
    ]
