"""Predictions of a trained run: one module per task, with the task's name, exports
`predict(request, out)`.

Every task writes a table per split other than train (`likelihood_<split>.parquet`, ...), and
`samples.parquet`. Only `pipeline/scoring/tasks/<task>.py` and the report read what
`pipeline/predictions/<task>.py` writes. This module has the code that several tasks share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.contracts import Attentive
from pipeline.core import config, params, tables
from pipeline.core.errors import refuse
from pipeline.inference import EMPTY, Prediction, Session, attention_table, load_trained_model
from pipeline.text.encode import Codec, check_ids, describe

# A token to fill in. Samples with a blank are for blank fillers and masked language models.
BLANK = "___"
_PLACEHOLDER = "a"


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """A run to predict with: its block (`where` is the block's name in messages), the folders to
    read, and the sample sentences."""

    run: params.Run
    where: str
    model: Path
    encoded: Path
    vocab: Path
    samples: tuple[params.Sample, ...]
    device: torch.device

    def splits(self) -> list[str]:
        """All splits other than train; UserError if there is none."""
        splits = sorted({file.stem for file in self.encoded.glob("*.parquet")} - {"train"})
        if not splits:
            raise refuse(
                str(self.encoded),
                "no split to predict",
                "the encode stage's tables",
                "Run `dvc repro`.",
            )
        return splits

    def table(self, split: str, schema: pa.Schema) -> pa.Table:
        """Read a split's encoded rows; UserError for ids beyond the vocabulary."""
        path = self.encoded / f"{split}.parquet"
        table = tables.read(path, schema)
        check_ids(table, describe(self.vocab).sizes, path)
        return table

    def network(self) -> nn.Module:
        """Load the trained model, for tasks without a search."""
        return load_trained_model(self.run, self.where, self.model, self.vocab, self.device)

    def objective(self, task: ModuleType) -> Any:
        """The run's block `objective` as the task's Config."""
        return config.load(task.Config, self.run.objective, f"{self.where}.objective")

    def session(self) -> Session:
        """Load the trained model with its vocabulary and search."""
        return Session.of(self.run, self.where, self.model, self.vocab, self.device)


def write_likelihood(
    nats: NDArray[np.float64], count: NDArray[np.int32], table: pa.Table, out: Path
) -> None:
    """Write `tables.LIKELIHOOD`: -log P and number of tokens of every row of an encoded table."""
    columns = [table["row"], pa.array(nats), pa.array(count, pa.int32())]
    tables.write(out, pa.table(columns, schema=tables.LIKELIHOOD))


def write_outputs(
    samples: Sequence[params.Sample], predictions: Iterable[Prediction], out: Path
) -> None:
    """Write `samples.parquet`: the samples with their predictions."""
    rows = [
        {
            "row": row,
            "prompt": sample.prompt,
            "reference": sample.reference,
            "text": prediction.text,
            "log_prob": prediction.log_prob,
        }
        for row, (sample, prediction) in enumerate(zip(samples, predictions, strict=True))
    ]
    tables.write(out / "samples.parquet", pa.Table.from_pylist(rows, tables.SAMPLES))


def write_samples(session: Session, samples: Sequence[params.Sample], out: Path) -> None:
    """Write the search's output for each sample, and `attention.parquet` if the model is attentive.

    A translation of a sample without tokens is empty, as in `Session.translate`; a language model
    continues it."""
    texts = [sample.prompt for sample in samples]
    if session.continues_prompt:
        numbers = list(range(len(texts)))
    else:
        numbers = session.positions_with_tokens(texts)
    if not numbers:
        write_outputs(samples, [EMPTY for _ in samples], out)
        return

    # All samples are one batch, whatever their number.
    prompt = session.prompt([texts[number] for number in numbers])
    best = [n_best[0] for n_best in session.run_search(prompt, session.generator())]

    predictions = dict(zip(numbers, session.decode_hypotheses(best), strict=True))
    write_outputs(samples, [predictions.get(row, EMPTY) for row in range(len(texts))], out)
    if isinstance(session.model, Attentive):
        attention = attention_table(session.attention_weights(prompt, best), numbers)
        tables.write(out / "attention.parquet", attention)


def encode_around_blanks(codec: Codec, text: str) -> list[list[int]]:
    """Ids of the parts before, between and after the blanks of a text.

    The ids are those that the parts have in the text with its blanks filled. A part encoded by
    itself would lose the space between it and a blank, which is a character, or, for bpe, belongs
    to the next word. So a part with such a space is encoded next to a placeholder."""
    parts = text.split(BLANK)
    [placeholder] = codec.encode(pa.array([_PLACEHOLDER])).to_pylist()
    before = [number > 0 and part[:1].isspace() for number, part in enumerate(parts)]
    after = [codec.level == "char" and part[-1:].isspace() for part in parts[:-1]] + [False]
    padded = [
        _PLACEHOLDER * first + part + _PLACEHOLDER * last
        for first, part, last in zip(before, parts, after, strict=True)
    ]

    # Remove the placeholders' ids.
    encoded = codec.encode(pa.array(padded)).to_pylist()
    return [
        ids[len(placeholder) * first : len(ids) - last]
        for first, ids, last in zip(before, encoded, after, strict=True)
    ]
