"""A language model's predictions: every row's likelihood, and how the model goes on from the
samples' beginnings."""

from pathlib import Path

from pipeline.predictions import BLANK, PredictionRequest, write_likelihood, write_samples


def predict(asked: PredictionRequest, out: Path) -> None:
    """Write `likelihood_<split>.parquet` for each split, and `samples.parquet`."""
    session = asked.session()
    for split in asked.splits():
        table = asked.table(split, session.task.SCHEMA)
        nats, count = session.task.likelihood(
            session.model, table, asked.objective(session.task), asked.device
        )
        write_likelihood(nats, count, table, out / f"likelihood_{split}.parquet")
    write_samples(
        session, tuple(sample for sample in asked.samples if BLANK not in sample.prompt), out
    )
