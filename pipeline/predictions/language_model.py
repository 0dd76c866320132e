"""A language model's predictions: the likelihood of every row, and continuations of the samples."""

from pathlib import Path

from pipeline.predictions import BLANK, PredictionRequest, write_likelihood, write_samples


def predict(request: PredictionRequest, out: Path) -> None:
    """Write `likelihood_<split>.parquet` for each split, and `samples.parquet`."""
    session = request.session()
    for split in request.splits():
        table = request.table(split, session.task.SCHEMA)
        nats, count = session.task.likelihood(
            session.model, table, request.objective(session.task), request.device
        )
        write_likelihood(nats, count, table, out / f"likelihood_{split}.parquet")

    samples = [sample for sample in request.samples if BLANK not in sample.prompt]
    write_samples(session, samples, out)
