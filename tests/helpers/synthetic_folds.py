"""A small project of language models that are cross-validated, as the predict stage leaves it."""

from collections.abc import Mapping
from pathlib import Path

import default_params
import numpy as np
import synthetic_runs

from pipeline.core import tables

FOLDS = 5  # of which a project may have fewer


def project(root: Path, nats: Mapping[str, Mapping[int, list[float]]], seed: int = 0) -> Path:
    """A folder of params.yaml and data; `nats` has the nats a token of each setting's seeds, by
    fold. The run `rnn_2-1` is the setting `rnn` on the corpus `text_2` with seed 1."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    folds = sorted({fold for by_fold in nats.values() for fold in by_fold})
    runs = {
        f"{setting}_{fold}-{number}": (setting, fold, number, value)
        for setting, by_fold in nats.items()
        for fold, values in by_fold.items()
        for number, value in enumerate(values, 1)
    }
    evaluation = {"bootstrap": 50, "confidence": 0.95, "seed": 1, "test": True}
    blocks = {name: _block(*run[:3]) for name, run in runs.items()}
    corpora = {f"text_{fold}": corpus(fold) for fold in folds}
    default_params.write(root, {"evaluation": evaluation, "corpora": corpora, "runs": blocks})

    texts = {}
    for fold in folds:
        counts = (("train", 5), ("valid", 10), ("test", 60))
        texts[fold] = {split: synthetic_runs._sentences(rng, count, 12) for split, count in counts}
        synthetic_runs.counts(root, f"text_{fold}", texts[fold])
        synthetic_runs.stories(root / f"data/tokens/text_{fold}", texts[fold])
        ids = root / f"data/encoded/text_{fold}"
        synthetic_runs.ids(ids, texts[fold], tables.ENCODED_TEXT)
    for name, (_, fold, _, value) in runs.items():
        predictions = root / "data/predictions" / name
        synthetic_runs.likelihoods(predictions, texts[fold], value, rng)
        synthetic_runs.samples(predictions, [("once", None, "once upon a time .")])
        synthetic_runs.model(root / "data/models" / name, value)
    return root


def corpus(fold: int) -> dict[str, object]:
    """The corpus's block of params.yaml."""
    split = {"method": "folds", "folds": FOLDS, "fold": fold}
    vocab = {"corpus": f"text_{fold}", "size": None, "min_count": 1, "share": True}
    return synthetic_runs.corpus() | {"split": split, "vocab": vocab}


def _block(setting: str, fold: int, seed: int) -> dict[str, object]:
    block = synthetic_runs._block("language_model", f"text_{fold}", setting)
    return block | {"seed": seed}
