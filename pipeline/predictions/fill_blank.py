"""A blank filler's predictions: every row's pseudo-likelihood, and the samples' blanks filled in."""

from pathlib import Path

import pyarrow as pa

from pipeline import config, tables
from pipeline.inference import check_sizes
from pipeline.predictions import BLANK, Asked
from pipeline.text.encode import Codec
from pipeline.training import checkpoint, devices, loop


def predict(asked: Asked, out: Path) -> None:
    """Write `likelihood_<split>.parquet` for each split, and `samples.parquet` of the samples that have one blank."""
    task = config.named_module("pipeline.tasks", asked.run.task, f"{asked.where}.task")
    devices.prepare(config.load(loop.Config, asked.run.training, f"{asked.where}.training").threads)
    check_sizes(asked.model, asked.vocab, task.SIDES)
    codec = Codec.load(asked.vocab, task.SIDES[0])
    model = checkpoint.load_model(asked.model, asked.device)
    for split in asked.splits():
        table = asked.table(split, task.SCHEMA)
        nats, count = task.likelihood(model, table, asked.device)
        scored = pa.table([table["row"], pa.array(nats), pa.array(count, pa.int32())], schema=tables.LIKELIHOOD)
        tables.write(out / f"likelihood_{split}.parquet", scored)
    rows = []
    for number, sample in enumerate(asked.samples):
        if sample.prompt.count(BLANK) == 1:
            around = codec.encode(pa.array(sample.prompt.split(BLANK), pa.string())).to_pylist()
            word, log_prob = task.fill(model, *around, asked.device)
            text = sample.prompt.replace(BLANK, codec.decode([word]).strip())
            rows.append({"row": number, "prompt": sample.prompt, "reference": sample.reference, "text": text})
            rows[-1]["log_prob"] = log_prob
    tables.write(out / "samples.parquet", pa.Table.from_pylist(rows, tables.SAMPLES))
