"""`seqline translate`, `seqline generate` and `seqline classify`: a trained run, tried on the user's own text."""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import config, params, tables
from pipeline.cli import dag
from pipeline.errors import refuse
from pipeline.inference import Attention, Session, run_of
from pipeline.landing import landing_file
from pipeline.predictions.classification import Classifier


def together(root: Path, names: list[str]) -> Session:
    """The runs as one ensemble, searched as the first is; UserError if their vocabularies are not the same."""
    [first, *others] = [opened(root, name) for name in names]
    runs = config.section(root / "params.yaml", "runs")
    vocabularies = {name: dag.option(root, "predict", name, runs[name], "vocab") for name in names}
    for name, vocab in vocabularies.items():
        if vocab != vocabularies[names[0]]:
            shared = vocabularies[names[0]].relative_to(root)
            raise refuse(f"--run {name}", f"the vocabulary {vocab.relative_to(root)}", f"{shared}, as run {names[0]} has")
    return first.together(others) if others else first


def opened(root: Path, name: str) -> Session:
    """The trained run called `name` in params.yaml; UserError if it is unknown or not trained yet."""
    model, vocab, search = found(root, name)
    return Session.open(model, vocab, search, params.compute(root / "params.yaml").device)


def found(root: Path, name: str) -> tuple[Path, Path, dict[str, Any] | None]:
    """The folders of the run's model and vocabulary, and its `search:`; errors as `opened`."""
    path = root / "params.yaml"
    runs = config.section(path, "runs")
    if name not in runs:
        raise refuse("--run", name, "one of " + ", ".join(runs))
    model, vocab = (dag.option(root, "predict", name, runs[name], option) for option in ("model", "vocab"))
    if not model.exists():
        raise refuse(f"--run {name}", f"no {model.relative_to(root)}", "a trained run", "Run `dvc repro`, or `dvc pull`.")
    trained, asked = run_of(model, runs[name]["search"]).corpus, runs[name]["corpus"]
    if trained != asked:
        raise refuse(f"--run {name}", f"a model of {trained}", f"one of {asked}, as params.yaml says", "Run `dvc repro`.")
    return model, vocab, runs[name]["search"]


def classify(root: Path, name: str, texts: list[str]) -> None:
    """Print the likeliest label of each text with its probability."""
    model, vocab, _ = found(root, name)
    classifier = Classifier.open(model, vocab, params.compute(root / "params.yaml").device)
    for answer in classifier.classify(texts):
        print(f"{math.exp(answer.log_prob):.4f}  {answer.text}")


def translate(session: Session, texts: list[str], n_best: int | None, prefix: str | None, heatmap: Path | None) -> None:
    """Print the best answer to each text, or the `n_best` with their log-probabilities; draw where the model looked.

    Every answer begins with `prefix`, where there is one.
    """
    prefixes = None if prefix is None else [prefix] * len(texts)
    if heatmap is not None:
        if len(texts) != 1 or n_best is not None:
            raise refuse("--heatmap", "more than one answer", "one text and no --n-best")
        if heatmap.suffix != ".png":
            raise refuse("--heatmap", str(heatmap), "a file that ends in .png")
        [(answer, attention)] = session.attention(texts, prefixes)
        draw(attention, heatmap)
        print(answer.text)
        return
    for answers in session.translate(texts, n_best, prefixes):
        for answer in answers if n_best is not None else answers[:1]:
            print(answer.text if n_best is None else f"{answer.log_prob:9.4f}  {answer.text}")


def draw(attention: Attention, out: Path) -> None:
    """The weights as a PNG at `out`, all of a model's heads in one figure, as the report draws them."""
    from pipeline.report.attention import heatmap

    rows = [
        {"row": 0, "name": name, "columns": attention.columns, "rows": attention.rows, "weights": weights.ravel()}
        for name, weights in attention.weights.items()
    ]
    with landing_file(out) as beside:
        heatmap(pa.Table.from_pylist(rows, tables.ATTENTION), 0, beside)
