"""A translator's predictions: the teacher-forced likelihood of every pair, and the search's
hypotheses for every source."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.contracts import Prompt
from pipeline.core import tables
from pipeline.decoding import Hypothesis
from pipeline.inference import LARGEST_N_BEST, Session
from pipeline.predictions import (
    PredictionRequest,
    Predictor,
    Row,
    TrainedRun,
    score_split,
    text_row,
    write_samples,
)

_HYPOTHESES = pa.schema(  # as `tables.HYPOTHESES`, with ids in place of text
    {
        "row": pa.int64(),
        "rank": pa.int32(),
        "ids": pa.list_(pa.int32()),
        "score": pa.float64(),
        "log_prob": pa.float64(),
    }
)
_ROWS = 4096  # hypotheses that are decoded to text at a time


def predict(request: PredictionRequest, out: Path) -> None:
    """Write `likelihood_<split>.parquet` and `hypotheses_<split>.parquet` for each split,
    `samples.parquet` and, for an attentive model, `attention.parquet`."""
    session = request.session()
    for split in request.splits():
        table = score_split(request, session, split, out)
        prompts = session.task.prompts(table, session.device)
        results = search_rows(session, prompts, table["row"].to_numpy())
        with tables.writer(out / f"hypotheses_{split}.parquet", tables.HYPOTHESES) as file:
            for batch in hypotheses(session, results):
                file.write_batch(batch)

    write_samples(session, request.samples, out)


def search_rows(
    session: Session, prompts: Iterable[tuple[NDArray[np.int64], Prompt]], row: NDArray[np.int64]
) -> pa.Table:
    """All hypotheses of the search as ids, by row and rank.

    Each prompt comes with the positions of its rows in `row`; batches are by length, not in the
    order of the rows."""
    generator = session.generator()
    batches = [
        _batch(row[positions].tolist(), session.run_search(prompt, generator))
        for positions, prompt in prompts
    ]
    table = pa.Table.from_batches(batches, _HYPOTHESES)
    return table.sort_by([("row", "ascending"), ("rank", "ascending")])


def hypotheses(session: Session, results: pa.Table) -> Iterator[pa.RecordBatch]:
    """Decode the results of `search_rows` to batches of `tables.HYPOTHESES`."""
    for batch in results.to_batches(_ROWS):
        text = pa.array(session.target_codec.decode_batch(batch["ids"].to_pylist()), pa.string())
        columns = [batch["row"], batch["rank"], text, batch["score"], batch["log_prob"]]
        yield pa.record_batch(columns, schema=tables.HYPOTHESES)


def _batch(row: list[int], n_best_lists: list[list[Hypothesis]]) -> pa.RecordBatch:
    records = [
        {
            "row": number,
            "rank": rank,
            "ids": hypothesis.ids,
            "score": hypothesis.score,
            "log_prob": hypothesis.log_prob,
        }
        for number, n_best in zip(row, n_best_lists, strict=True)
        for rank, hypothesis in enumerate(n_best)
    ]
    return pa.RecordBatch.from_pylist(records, _HYPOTHESES)


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `row` (the text's index), `text` and `log_prob`: for each text `n_best` translations,
    best first; for a text without tokens one row with an empty text."""
    session = Session.open(run.model, run.vocab, run.search, run.device)

    def predict(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        # The run's own n_best is that of its evaluation; a request gets 1 by default.
        n_best = settings.get("n_best", 1)
        translations = session.translate(texts, n_best)
        return [
            {"row": row, **text_row(prediction)}
            for row, predictions in enumerate(translations)
            for prediction in predictions[:n_best]
        ]

    return predict


PARAMS: dict[str, tuple[int, int]] = {"n_best": (1, LARGEST_N_BEST)}
