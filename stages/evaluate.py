"""Score one run's predictions: metrics with intervals, every row's share of them, and the data of
its plots. With `evaluation.test: false` valid is the only split."""

import argparse
import csv
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pipeline.core import params, stage_arguments, tables
from pipeline.core.atomic import atomic_dir, atomic_file
from pipeline.core.errors import exit_with, read_json, refuse
from pipeline.scoring import mt_metrics
from pipeline.scoring.d2l_bleu import d2l_bleu
from pipeline.scoring.history import training, validations
from pipeline.scoring.significance import Bootstrap
from pipeline.scoring.tasks import Inputs, bleu_tokenizer, load_scoring, text_config
from pipeline.text.tokens import Text

_UNSCORED = {"train", "rejects"}  # tables of the tokenize stage that are not scored
_TODO = "Run `dvc repro`."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option, help_text in (
        ("--params", None),
        ("--predictions", "likelihoods, answers and samples of the run"),
        ("--model", "config.json and history.parquet of the run"),
        ("--tokens", "the references, one table per split"),
        ("--out", "folder for the rows' scores"),
        ("--metrics", "JSON file for the scores"),
        ("--plots", "folder for history.csv, training.csv and by_length.csv"),
    ):
        parser.add_argument(option, type=Path, required=True, help=help_text)
    parser.add_argument(
        "--encoded", type=Path, help="ids of the references, by which unknown words are counted"
    )
    arguments = stage_arguments.parse(parser, "runs")

    name = arguments.run
    run = params.run(arguments.params, name)
    evaluation = params.evaluation(arguments.params)
    splits = _splits(arguments.tokens, evaluation.test)
    text = text_config(arguments.params, run.corpus)
    tokenizer, warning = bleu_tokenizer(arguments.params, run.corpus, arguments.tokens)
    task = load_scoring(arguments.params, name, run, tokenizer)
    inputs = Inputs(
        predictions=arguments.predictions,
        tokens=arguments.tokens,
        encoded=arguments.encoded,
        text=text,
    )
    model = _model(arguments.model / "config.json")
    limits = _limits(arguments.tokens / "limits.json")

    metrics = {"run": name, "family": run.family, "task": run.task, "corpus": run.corpus}
    metrics |= {key: model[key] for key in ("parameters", "best_step") if key in model}
    # The report counts the models that were scored on a test set by their weights.
    predicted_by = arguments.predictions / "model.json"
    if predicted_by.exists() or (arguments.model / "model.safetensors").exists():
        metrics["weights"] = _weights(predicted_by)
    lengths = []
    notes = [warning]
    with atomic_dir(arguments.out) as scores:
        for split in splits:
            table = task.rows(inputs, split)
            # The references of the first split decide which score ranks the run.
            if split == splits[0]:
                task, reason = task.select_scoring(table)
                notes.append(reason)
                metrics |= {"ranked_by": task.main} if reason else {}
            tables.write(scores / f"{split}.parquet", table)

            bootstrap = Bootstrap.of(evaluation, run.corpus, split)
            metrics[split] = task.summary(table, bootstrap, limits.get(split, {}))
            if split != "valid" or not evaluation.test:
                lengths += [{"split": split, **row} for row in task.by_length(table, bootstrap)]

        if task.d2l_bleu:
            metrics |= _samples(arguments.predictions / "samples.parquet", text)
        history = tables.read(arguments.model / "history.parquet", tables.HISTORY)
    # Print warnings about the scores; the report and the gate read them as a metric.
    notes = [note for note in notes if note]
    for note in notes:
        print(f"seqline: {name}: {note}.", file=sys.stderr)
    metrics |= {"notes": notes} if notes else {}

    with atomic_dir(arguments.plots) as plots:
        _write_csv(plots / "history.csv", ("step", "epoch"), validations(history))
        _write_csv(plots / "training.csv", ("step", "epoch"), training(history))
        _write_csv(plots / "by_length.csv", ("split",), lengths)
    with atomic_file(arguments.metrics) as file:
        content = json.dumps(_round(metrics), indent=2, ensure_ascii=False)
        file.write_text(content + "\n", encoding="utf-8")


def _splits(tokens: Path, test: bool) -> list[str]:
    """Every split to score, test first and valid last; valid alone without `test`."""
    splits = {file.stem for file in tokens.glob("*.parquet")} - _UNSCORED
    required = "test" if test else "valid"
    if required not in splits:
        raise refuse(
            str(tokens),
            f"the splits {', '.join(sorted(splits)) or 'none'}",
            f"a {required} split",
            "Run `dvc repro`.",
        )
    if not test:
        return ["valid"]
    return sorted(splits, key=lambda split: (split == "valid", split != "test", split))


def _samples(path: Path, text: Text | None) -> dict[str, Any]:
    """The book's BLEU (d2l section 10.7.6) of every sample that has a reference, by its number, and
    their mean.

    Sample and reference are tokenized by `text`.
    """
    assert text is not None
    has_reference = pc.field("reference").is_valid()
    samples = tables.read(path, tables.SAMPLES).filter(has_reference).sort_by("row")
    pairs = mt_metrics.normalized_pairs(
        samples["text"].combine_chunks(), samples["reference"].combine_chunks(), text
    )
    scores = {
        str(row + 1): d2l_bleu(*pair)
        for row, pair in zip(samples["row"].to_pylist(), pairs, strict=True)
    }
    if not scores:
        return {}
    return {"d2l_bleu": {"mean": sum(scores.values()) / len(scores), **scores}}


def _model(path: Path) -> dict[str, Any]:
    """Read the train stage's `config.json`; it is empty for predictions made without a model."""
    content = read_json(path, "what the train stage writes", _TODO)
    if content and not isinstance(content.get("digest"), str):
        raise refuse(str(path), "no 'digest'", "what the train stage writes", f"Remove it. {_TODO}")
    return content


def _weights(path: Path) -> str:
    """Read the sha256 of the weights that the predict stage has used."""
    weights = read_json(path, "what the predict stage writes", _TODO).get("weights")
    if not isinstance(weights, str) or not re.fullmatch("[0-9a-f]{64}", weights):
        raise refuse(
            str(path), "no sha256 'weights'", "what the predict stage writes", f"Remove it. {_TODO}"
        )
    return weights


def _limits(path: Path) -> dict[str, dict[str, float]]:
    """Read the best possible scores of each split, which built-in corpora have."""
    limits = read_json(path, "the limits of a built-in corpus", _TODO) if path.exists() else {}
    for split, scores in limits.items():
        if not isinstance(scores, dict) or not all(
            type(score) in (int, float) for score in scores.values()
        ):
            value = f"{split}: {str(scores)[:100]}"
            raise refuse(
                str(path), value, "a number for each score of each split", f"Remove it. {_TODO}"
            )
    return limits


def _write_csv(path: Path, keys: Sequence[str], rows: list[dict[str, Any]]) -> None:
    """Write the rows with a header; that of `keys` alone, their first columns, if there are
    none."""
    with path.open("w", encoding="utf-8", newline="") as file:
        columns = list(rows[0]) if rows else keys
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_round(row) for row in rows)


def _round(value: Any) -> Any:
    """Round floats to six decimals: more depend on the order in which sums were added."""
    if isinstance(value, dict):
        return {key: _round(item) for key, item in value.items()}
    return round(value, 6) if isinstance(value, float) else value


if __name__ == "__main__":
    exit_with(main)
