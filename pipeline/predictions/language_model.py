"""A language model's predictions: every row's likelihood, and how the model goes on from the samples' beginnings."""

from pathlib import Path

from pipeline import tables
from pipeline.predictions import BLANK, Asked, likelihood, write_samples


def predict(asked: Asked, out: Path) -> None:
    """Write `likelihood_<split>.parquet` for each split, and `samples.parquet`."""
    session = asked.session()
    for split in asked.splits():
        table = asked.table(split, session.task.SCHEMA)
        tables.write(out / f"likelihood_{split}.parquet", likelihood(session, asked, table))
    write_samples(session, tuple(sample for sample in asked.samples if BLANK not in sample.prompt), out)
