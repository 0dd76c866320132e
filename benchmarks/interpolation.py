"""Interpolation of trained language models: their weights and what the mixture gains.

    python -m benchmarks.interpolation RUN RUN [RUN ...] [--split valid]

The runs are of params.yaml, trained, and of the same vocabulary. The mixture's probability of each
token is the weighted mean of theirs. The weights have the largest likelihood on the split `valid`
(EM, Jelinek and Mercer 1980). Prints perplexity and bits per character of the mixture and of each
run, without the letters of unknown words, and each run's weight. For the family that is such a
mixture, with an n-gram model, see `pipeline/models/interpolated_lm.py`."""

import math
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from benchmarks import trained_runs
from pipeline.cli import translate
from pipeline.core import params, tables
from pipeline.core.errors import exit_with, refuse
from pipeline.inference import Session
from pipeline.nn.mixture import fit_weights, mix
from pipeline.nn.stream_likelihood import stream_log_probs
from pipeline.tasks import language_model
from pipeline.text.stream import stream

MIXTURE = "mixture"


def open_models(root: Path, names: list[str]) -> Session:
    """Open the runs; UserError for a run of another task, or for different vocabularies."""
    for name in names:
        run = params.run(root / "params.yaml", name)
        if run.task != "language_model":
            got = f"a run of the task {run.task}"
            raise refuse(name, got, "a language model", "Name another run.")
    return translate.open_ensemble(root, names, "generate")[1]


def log_probs(root: Path, name: str, session: Session, split: str) -> NDArray[np.float64]:
    """log P of each token of a split of the run's corpus by every model: log_probs_MT."""
    table = tables.read(
        trained_runs.folder(root, name, "predict", "encoded") / f"{split}.parquet",
        language_model.SCHEMA,
    )
    ids_T = torch.from_numpy(stream(table)).to(session.device)
    rows: list[NDArray[np.float64]] = [
        stream_log_probs(model, ids_T).numpy() for model in session.model.models
    ]
    return np.stack(rows)


def characters(root: Path, name: str, split: str) -> int:
    """Characters of a split, ends of rows counted."""
    path = trained_runs.folder(root, name, "evaluate", "tokens") / f"{split}.parquet"
    texts = tables.read(path, tables.TOKENS_TEXT)
    return int(pc.sum(texts["characters"]).as_py()) + len(texts)


def main() -> None:
    a = trained_runs.parse(__doc__, split="valid")
    first, *_ = a.runs
    session = open_models(a.root, a.runs)
    weights_M = fit_weights(log_probs(a.root, first, session, "valid"))
    log_probs_MT = log_probs(a.root, first, session, a.split)
    mixed_T = mix(list(torch.from_numpy(log_probs_MT)), weights_M.tolist()).numpy()

    corpus = params.run(a.root / "params.yaml", first).corpus
    count = characters(a.root, first, a.split)
    print(f"{a.split} of {corpus}: {len(mixed_T)} tokens, {count} characters with ends of rows\n")
    print(f"{'':20} {'perplexity':>10} {'bits per character':>18} {'weight':>6}")
    rows = zip([MIXTURE, *a.runs], [mixed_T, *log_probs_MT], [1.0, *weights_M], strict=True)
    for name, log_prob_T, weight in rows:
        perplexity = math.exp(-log_prob_T.mean())
        bits = -log_prob_T.sum() / math.log(2) / count
        print(f"{name:20} {perplexity:10.3f} {bits:18.4f} {weight:6.3f}")


if __name__ == "__main__":
    exit_with(main)
