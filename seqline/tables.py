"""Runs of a project, their scores, learning curves and predictions, as pandas DataFrames."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import params, tables
from pipeline.core.errors import refuse
from pipeline.dag.paths import RunPaths, option_path
from pipeline.runs import names
from seqline.arguments import Root, project_root

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_SCORE = "score"  # of an estimate, which may have the bounds `low` and `high` too


def runs(root: Root = None) -> "pd.DataFrame":
    """The runs of params.yaml, a row for each, with the run's name as index.

    Columns: `setting`, `family`, `task`, `corpus`, `seed`; `trained`; the `score` that ranks the
    run, called `metric`, on the `split` test or valid, and whether `higher_is_better`; `parameters`
    of an evaluated run; `champion`: the number of its version that is champion."""
    import pandas as pd

    from pipeline.runs import table

    folder = project_root(root)
    rows = table.rows(folder, table.present_champions(folder))
    frame = pd.DataFrame([dataclasses.asdict(row) for row in rows]).set_index("run")
    counts = {name: (_scores(folder, name) or {}).get("parameters") for name in frame.index}
    frame["parameters"] = pd.Series(counts, dtype="Int64")
    frame["champion"] = frame["champion"].astype("Int64")
    return frame.drop(columns="decimals")


def metrics(root: Root = None) -> "pd.DataFrame":
    """Every score of every evaluated run, a row for each.

    Columns: `run`, `setting`, `family`, `task`, `corpus`, `seed`, `split`, `metric`, whether this
    metric `ranks` the run, `score`, and the bounds `low` and `high` of its interval, if it has one.
    The mean over the seeds: `metrics().groupby(["corpus", "setting", "split",
    "metric"]).score.mean()`."""
    import pandas as pd

    from pipeline.scoring import tasks
    from pipeline.tracking import run_scores

    folder = project_root(root)
    about = ["run", "setting", "family", "task", "corpus", "seed"]
    columns = [*about, "split", "metric", "ranks", _SCORE, "low", "high"]
    rows = []
    for name, run in _runs(folder).items():
        facts = {"run": name} | {key: getattr(run, key) for key in about[1:]}
        scores = _scores(folder, name) or {}
        scoring = tasks.load_scoring(folder / "params.yaml", name, run)
        main = run_scores.main_key(scores, scoring)
        for split, values in scores.items():
            if isinstance(values, Mapping):
                for metric, estimate in _numbers(values):
                    which = {"split": split, "metric": metric, "ranks": metric == main}
                    rows.append(facts | which | estimate)
    return pd.DataFrame(rows, columns=columns)


def history(run: str, root: Root = None) -> "pd.DataFrame":
    """The learning curves of a trained run, by step; a column for each metric, such as
    `train/loss`, and `epoch`."""
    folder = project_root(root)
    name = names.run_of(folder, run, "run")
    path = _folder(folder, "predict", name, "model") / "history.parquet"
    table = tables.read(path, tables.HISTORY).to_pandas()
    curves = table.pivot_table(index="step", columns="name", values="value", aggfunc="last")
    curves.columns.name = None
    curves.insert(0, "epoch", table.groupby("step").epoch.last())
    return curves


def predictions(
    run: str, split: str = "test", root: Root = None, *, n_best: bool = False
) -> "pd.DataFrame":
    """The predictions of a run for the rows of a split, with these rows; their number is the index.

    The columns are those of the split's texts (`source` and `target`; `text` and `label`) as the
    files have them, and of the predictions, in lower case if the corpus is read so. A prediction
    whose name a text has too is called `predicted_text`, `predicted_label`. `nats` is -log P of a
    text's `count` tokens. A classifier has a column `probability_LABEL` for each label. With
    `n_best` a translator has a row for each hypothesis, and `rank` counts from 0.

    Word vectors have no splits: their rows are words, with `count` and `vector`."""
    folder = project_root(root)
    name = names.run_of(folder, run, "run")
    place = _folder(folder, "predict", name, "out")
    if (place / "vectors.parquet").exists():
        words = tables.read(place / "vectors.parquet", tables.VECTORS).to_pandas()
        return words.set_index("token")[["count", "vector"]]

    files = {file: file.stem.partition("_")[2] for file in sorted(place.glob("*_*.parquet"))}
    splits = sorted(set(files.values()))
    if not splits:
        raise refuse(name, f"no {place}", "a run with predictions", "Run `dvc repro`.")
    if split not in splits:
        raise refuse("split", split, "one of " + ", ".join(splits))

    frame = _texts(_folder(folder, "evaluate", name, "tokens") / f"{split}.parquet")
    for file in [file for file in files if files[file] == split]:
        added = _predicted(file, place, n_best)
        added.columns = [f"predicted_{name}" if name in frame else name for name in added]
        frame = frame.join(added, how="inner")
    return frame


def _texts(file: Path) -> "pd.DataFrame":
    """A split's rows without tokens, counts of characters and pictures."""
    table = tables.read(file, tables.schema(file, *tables.TOKENS.values()))
    left_out = ("tokens", "characters", "pixels")
    columns = [name for name in table.column_names if not name.endswith(left_out)]
    return table.select(columns).to_pandas().set_index("row")


def _predicted(file: Path, place: Path, n_best: bool) -> "pd.DataFrame":
    """A table of predictions with the row as index."""
    import numpy as np
    import pyarrow.parquet as pq

    table: pa.Table = pq.read_table(file)
    frame = table.to_pandas().set_index("row")
    if "rank" in frame and not n_best:
        frame = frame[frame["rank"] == 0].drop(columns="rank")
    if "log_probs" in frame:
        labels = json.loads((place / "labels.json").read_text(encoding="utf-8"))
        probability_NC = np.exp(np.stack(list(frame.pop("log_probs"))))
        for name, probability_N in zip(labels, probability_NC.T, strict=True):
            frame[f"probability_{name}"] = probability_N
    return frame


def _runs(root: Path) -> dict[str, params.Run]:
    file = root / "params.yaml"
    return {name: params.run(file, name) for name in names.blocks(root)}


def _folder(root: Path, stage: str, run: str, option: str) -> Path:
    """A folder that the stage's command names for the run."""
    return option_path(root, stage, run, names.blocks(root)[run], option)


def _scores(root: Path, run: str) -> dict[str, Any] | None:
    """`reports/metrics/<run>.json`; None if the run is not evaluated."""
    from pipeline.scoring import metrics_file

    path = RunPaths(root).option("evaluate", run, "metrics")
    return metrics_file.read(path) if path.exists() else None


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each metric with a dotted name, as `_estimate`; without texts."""
    for key, value in values.items():
        if isinstance(value, Mapping) and _SCORE not in value:
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, Mapping):
            yield f"{prefix}{key}", _estimate(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", {_SCORE: value}


def _estimate(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value[key] for key in (_SCORE, "low", "high") if key in value}
