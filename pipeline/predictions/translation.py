"""A translator's predictions: every pair's teacher-forced likelihood, and what the search answers
to every source."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.contracts import Prompt
from pipeline.core import tables
from pipeline.decoding import Hypothesis
from pipeline.inference import Session
from pipeline.predictions import PredictionRequest, write_likelihood, write_samples

_FOUND = pa.schema(
    {
        "row": pa.int64(),
        "rank": pa.int32(),
        "ids": pa.list_(pa.int32()),
        "score": pa.float64(),
        "log_prob": pa.float64(),
    }
)
_ROWS = 4096  # answers turned into text at a time


def predict(asked: PredictionRequest, out: Path) -> None:
    """Write `likelihood_<split>.parquet` for each split, `hypotheses_<split>.parquet` for each but
    valid, `samples.parquet` and, if the model can say where it looked, `attention.parquet`."""
    session = asked.session()
    for split in asked.splits():
        table = asked.table(split, session.task.SCHEMA)
        nats, count = session.task.likelihood(
            session.model, table, asked.objective(session.task), asked.device
        )
        write_likelihood(nats, count, table, out / f"likelihood_{split}.parquet")
        if split != "valid":
            answers = search_rows(
                session, session.task.prompts(table, session.device), table["row"].to_numpy()
            )
            with tables.writer(out / f"hypotheses_{split}.parquet", tables.HYPOTHESES) as file:
                for batch in hypotheses(session, answers):
                    file.write_batch(batch)
    write_samples(session, asked.samples, out)


def search_rows(
    session: Session, prompts: Iterable[tuple[NDArray[np.int64], Prompt]], row: NDArray[np.int64]
) -> pa.Table:
    """Everything the search finds for the prompts, in the order of the table's rows, as ids."""
    generator = session.generator()
    batches = [
        _batch(row[places].tolist(), session.run_search(prompt, generator))
        for places, prompt in prompts
    ]
    return pa.Table.from_batches(batches, _FOUND).sort_by(
        [("row", "ascending"), ("rank", "ascending")]
    )


def hypotheses(session: Session, answers: pa.Table) -> Iterator[pa.RecordBatch]:
    """The answers as text, batch by batch."""
    for batch in answers.to_batches(_ROWS):
        text = pa.array(session.target_codec.decode_batch(batch["ids"].to_pylist()), pa.string())
        columns = [batch["row"], batch["rank"], text, batch["score"], batch["log_prob"]]
        yield pa.record_batch(columns, schema=tables.HYPOTHESES)


def _batch(row: list[int], answers: list[list[Hypothesis]]) -> pa.RecordBatch:
    flat = [
        (r, rank, h) for r, best in zip(row, answers, strict=True) for rank, h in enumerate(best)
    ]
    rows, ranks, answered = zip(*flat, strict=True)
    columns = [rows, ranks, *([getattr(h, name) for h in answered] for name in _FOUND.names[2:])]
    return pa.record_batch(
        [pa.array(c, t) for c, t in zip(columns, _FOUND.types, strict=True)], schema=_FOUND
    )
