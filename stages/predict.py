"""What a trained run makes of every split but train: likelihoods, n-best answers, and its samples with their attention.

Writes `likelihood_<split>.parquet` for each split, `hypotheses_<split>.parquet` for each but valid (translations only),
`samples.parquet`, and `attention.parquet` if the model can say where it looked.
"""

import argparse
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import config, params, tables
from pipeline.contracts import Attentive, Prompt
from pipeline.decoding import Hypothesis
from pipeline.errors import exit_with, refuse
from pipeline.inference import Session, attention_table
from pipeline.landing import landing
from pipeline.training import devices

_FOUND = pa.schema(
    {"row": pa.int64(), "rank": pa.int32(), "ids": pa.list_(pa.int32()), "score": pa.float64(), "log_prob": pa.float64()}
)
_ROWS = 4096  # answers turned into text at a time


def splits(encoded: Path) -> list[str]:
    """Every split but train; UserError if there is none."""
    found = sorted({file.stem for file in encoded.glob("*.parquet")} - {"train"})
    if not found:
        raise refuse(str(encoded), "no split to predict", "the encode stage's tables", "Run `dvc repro`.")
    return found


def likelihood(session: Session, objective: object, table: pa.Table) -> pa.Table:
    """Every row's -log P and number of tokens."""
    nats, count = session.task.likelihood(session.model, table, objective, session.device)
    return pa.table([table["row"], pa.array(nats), pa.array(count, pa.int32())], schema=tables.LIKELIHOOD)


def found(session: Session, prompts: Iterable[tuple[NDArray[np.int64], Prompt]], row: NDArray[np.int64]) -> pa.Table:
    """Everything the search finds for the prompts, in the order of the table's rows, as ids."""
    generator = session.generator()
    batches = [_batch(row[places].tolist(), session.searched(prompt, generator)) for places, prompt in prompts]
    return pa.Table.from_batches(batches, _FOUND).sort_by([("row", "ascending"), ("rank", "ascending")])


def _batch(row: list[int], answers: list[list[Hypothesis]]) -> pa.RecordBatch:
    flat = [(r, rank, h) for r, best in zip(row, answers, strict=True) for rank, h in enumerate(best)]
    rows, ranks, hypotheses = zip(*flat, strict=True)
    columns = [rows, ranks, *([getattr(h, name) for h in hypotheses] for name in _FOUND.names[2:])]
    return pa.record_batch([pa.array(c, t) for c, t in zip(columns, _FOUND.types, strict=True)], schema=_FOUND)


def hypotheses(session: Session, answers: pa.Table) -> Iterator[pa.RecordBatch]:
    """The answers as text, batch by batch."""
    for batch in answers.to_batches(_ROWS):
        text = pa.array(session.say.decode_batch(batch["ids"].to_pylist()), pa.string())
        columns = [batch["row"], batch["rank"], text, batch["score"], batch["log_prob"]]
        yield pa.record_batch(columns, schema=tables.HYPOTHESES)


def samples(asked: tuple[params.Sample, ...], session: Session, best: list[Hypothesis]) -> pa.Table:
    """What the search made of each sample's prompt, without the prompt."""
    rows = [
        {"row": i, "prompt": s.prompt, "reference": s.reference, "text": a.text, "log_prob": a.log_prob}
        for i, (s, a) in enumerate(zip(asked, session.answers(best), strict=True))
    ]
    return pa.Table.from_pylist(rows, tables.SAMPLES)


def predict_split(session: Session, objective: object, table: pa.Table, split: str, out: Path) -> None:
    """Write what the run makes of one split."""
    tables.write(out / f"likelihood_{split}.parquet", likelihood(session, objective, table))
    prompts = iter(session.task.prompts(table, objective, session.device) if split != "valid" else ())
    for first in itertools.islice(prompts, 1):
        answers = found(session, itertools.chain([first], prompts), table["row"].to_numpy())
        with tables.writer(out / f"hypotheses_{split}.parquet", tables.HYPOTHESES) as file:
            for batch in hypotheses(session, answers):
                file.write_batch(batch)


def predict_samples(session: Session, asked: tuple[params.Sample, ...], out: Path) -> None:
    """Write what the run makes of its corpus's samples, and where it looked if it can say."""
    prompt = session.prompt([sample.prompt for sample in asked]) if asked else None
    best = [answers[0] for answers in session.searched(prompt, session.generator())] if prompt else []
    tables.write(out / "samples.parquet", samples(asked, session, best))
    if prompt and isinstance(session.model, Attentive):
        tables.write(out / "attention.parquet", attention_table(session.looked(prompt, best)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a name under `runs:`")
    for option in ("--params", "--model", "--encoded", "--vocab", "--out"):
        parser.add_argument(option, type=Path, required=True)
    a = parser.parse_args()
    run, where = params.run(a.params, a.run), f"runs.{a.run}"
    device = devices.choose(params.compute(a.params).device, "compute.device")
    session = Session.of(run, where, a.model, a.vocab, device)
    objective = config.load(session.task.Config, run.objective, f"{where}.objective")
    with landing(a.out) as out:
        for split in splits(a.encoded):
            table = tables.read(a.encoded / f"{split}.parquet", session.task.SCHEMA)
            predict_split(session, objective, table, split, out)
        predict_samples(session, params.corpus(a.params, run.corpus).samples, out)


if __name__ == "__main__":
    exit_with(main)
