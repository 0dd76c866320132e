"""A blank filler's predictions: every row's pseudo-likelihood, and the samples' blanks filled in."""

from pathlib import Path
from typing import cast

from pipeline.contracts import BlankFiller
from pipeline.inference import Answer
from pipeline.predictions import BLANK, Asked, around_blanks, write_answers, write_likelihood
from pipeline.tasks import fill_blank
from pipeline.text.encode import Codec


def predict(asked: Asked, out: Path) -> None:
    """Write `likelihood_<split>.parquet` for each split, and `samples.parquet` of the samples that have one blank."""
    model, codec = cast(BlankFiller, asked.network()), Codec.load(asked.vocab, fill_blank.SIDES[0])
    for split in asked.splits():
        table = asked.table(split, fill_blank.SCHEMA)
        nats, count = fill_blank.likelihood(model, table, asked.device)
        write_likelihood(nats, count, table, out / f"likelihood_{split}.parquet")
    fitting = [sample for sample in asked.samples if sample.prompt.count(BLANK) == 1]
    answers = []
    for sample in fitting:
        before, after = around_blanks(codec, sample.prompt)
        word, log_prob = fill_blank.fill(model, before, after, asked.device)
        answers.append(Answer(sample.prompt.replace(BLANK, codec.decode([word]).strip()), log_prob, log_prob))
    write_answers(fitting, answers, out)
