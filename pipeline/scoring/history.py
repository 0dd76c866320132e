"""Learning curves: the long table of training as rows with one column per name, for plots."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_POINTS = 100


def validations(history: pa.Table) -> list[dict[str, Any]]:
    """Figures on the valid split, a row per validation; perplexity comes last, which is what `dvc
    plots` draws."""
    return _curves(history.filter(pc.starts_with(history["name"], "valid/")))


def training(history: pa.Table) -> list[dict[str, Any]]:
    """The rest (loss, learning rate, ...), the mean of every hundredth part of the training; the
    loss last."""
    return _curves(history.filter(pc.invert(pc.starts_with(history["name"], "valid/"))))


def _curves(history: pa.Table) -> list[dict[str, Any]]:
    """HISTORY rows as at most 100 rows of one column per name; `train/loss` becomes the column
    `train_loss`."""
    if not len(history):
        return []
    every = -(-len(pc.unique(history["step"])) // _POINTS)
    rank = pc.subtract(pc.rank(history["step"], tiebreaker="dense"), 1)
    wide = history.append_column("part", pc.divide(pc.cast(rank, pa.int64()), every))
    ends = (
        wide.group_by("part")
        .aggregate([("step", "max"), ("epoch", "max")])
        .sort_by("part")
        .to_pylist()
    )
    means = wide.group_by(["part", "name"]).aggregate([("value", "mean")]).to_pylist()
    found = {(mean["part"], mean["name"]): mean["value_mean"] for mean in means}
    names = sorted(set(pc.unique(history["name"]).to_pylist()))
    return [
        {"step": end["step_max"], "epoch": end["epoch_max"]}
        | {name.replace("/", "_"): found.get((end["part"], name)) for name in names}
        for end in ends
    ]
